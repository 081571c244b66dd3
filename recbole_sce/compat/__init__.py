"""Patches of RecBole 1.2.1 on current numpy, pandas, scipy, torch, setuptools, hyperopt and ray.

Each is a record (:class:`recbole_sce.utils.patching.Patch`) of symptom, cause, place and need.
``python -m recbole_sce.compat`` prints them as the list of docs/reference/patches.md.
What RecBole evaluates or unpickles is read as data (SECURITY.md).
"""

from __future__ import annotations

from recbole_sce.compat import (
    config,
    datasets,
    distributed,
    ids,
    launch,
    metrics,
    saved_data,
    stack,
    tuning,
)
from recbole_sce.safe_io import checkpoints, settings
from recbole_sce.safe_io.checkpoints import (
    CheckpointError,
    CheckpointWriteError,
    allow_model_class,
    safe_load,
    save_checkpoint,
)
from recbole_sce.safe_io.saved_data import SavedDataError
from recbole_sce.utils import patching
from recbole_sce.utils.patching import active, wrap, wrap_everywhere

__all__ = [
    "BEFORE_RECBOLE",
    "PATCHES",
    "CheckpointError",
    "CheckpointWriteError",
    "SavedDataError",
    "active",
    "allow_model_class",
    "apply",
    "apply_before_recbole",
    "safe_load",
    "save_checkpoint",
    "wrap",
    "wrap_everywhere",
]


#: What makes RecBole importable.
BEFORE_RECBOLE = (stack.numpy_aliases, stack.no_ray)
#: All others, in the order in which they are applied.
PATCHES = (
    stack.anomaly_detection,
    stack.new_ray,
    stack.numpy_names,
    stack.dok_matrix_update,
    config.callers_settings,
    config.use_gpu_false,
    config.unknown_model,
    config.own_log_file,
    settings.settings_are_data,
    settings.yaml_is_data,
    settings.search_spaces_are_data,
    settings.named_files_are_data,
    datasets.missing_values,
    datasets.lengths_of_sequences,
    datasets.exact_time_order,
    datasets.exact_time_split,
    datasets.first_download,
    metrics.metrics_on_counts,
    metrics.plain_results,
    checkpoints.safe_checkpoints,
    saved_data.saved_data_sets,
    saved_data.saved_loaders,
    tuning.hyperopt_import,
    tuning.objective_of_ray_workers,
    tuning.exhaustive_search,
    tuning.zero_score,
    distributed.several_processes,
    distributed.folders_at_once,
    distributed.data_of_several_processes,
    distributed.model_of_several_processes,
    distributed.one_checkpoint,
    distributed.exact_metrics,
    ids.ids_in_checkpoints,
    launch.run_of_several_processes,
)


def apply_before_recbole() -> None:
    """Make RecBole importable; harmless if it has been imported already. Idempotent."""
    patching.run(BEFORE_RECBOLE)


def apply() -> None:
    """Apply all other patches that this stack needs, to RecBole as imported. Idempotent."""
    apply_before_recbole()
    patching.run(PATCHES)
