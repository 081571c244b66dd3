"""Trials by Ray Tune: several at once, on this machine or on a cluster, with or without GPUs.

Ray's workers import this module to find the trial, and with it recbole_sce, which registers its models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

from recbole_sce.experiments.process import execute, failure, import_modules
from recbole_sce.experiments.spec import ExperimentError, RunSpec


def trial(config: Mapping[str, Any], specs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Run the specification with the number ``config["trial"]``; a Ray trainable.

    Ray makes the trial's own folder the current one. What is returned is the trial's last result.
    """
    try:
        spec = RunSpec.from_json(specs[config["trial"]])
        import_modules(spec)
        record, _ = execute(spec)
    except Exception as error:
        record = failure(error)
    return {"record": record}


def run_trials(
    specs: Mapping[int, RunSpec],
    keep: Callable[[int, dict[str, Any]], None],
    *,
    folder: Path,
    address: Optional[str] = None,
    cpus: Optional[int] = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: Optional[float] = None,
) -> None:
    """Run ``specs`` by Ray Tune and hand over each record as its trial ends.

    Args:
        specs: by the trials' numbers.
        keep: called in this process with a trial's number and record.
        folder: for Ray's own files, under ``ray``.
        address: of a cluster (``auto``, ``host:port``, ``ray://host:port``); None: start Ray here.
        cpus: for a Ray started here; None: all there are.
        cpus_per_trial: reserved for a trial, and the number of its threads.
        gpus_per_trial: reserved for a trial; None: one if Ray knows of any, else none.

    Raises:
        ExperimentError: Ray is missing, or does not know what a trial needs.
    """
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise ExperimentError(
            f"Ray Tune needs ray ({error}): pip install 'recbole_sce[ray]', on Python 3.11 or older"
        ) from error
    if not specs:
        return
    ours = not ray.is_initialized()
    if ours:
        here = {} if address else {"num_cpus": cpus, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, **here)
    try:
        known = ray.cluster_resources()
        gpus = float(known.get("GPU", 0) > 0) if gpus_per_trial is None else gpus_per_trial
        for name, wanted in (("CPU", cpus_per_trial), ("GPU", gpus)):
            if wanted > known.get(name, 0):
                raise ExperimentError(
                    f"a trial is to have {wanted:g} {name}, and Ray knows of {known.get(name, 0):g}"
                )

        class Keep(tune.Callback):
            """Hands over what a trial returned, or why it returned nothing."""

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                keep(trial.config["trial"], trial.last_result["record"])

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                said = (trial.get_error() or "the worker ended").splitlines()
                keep(trial.config["trial"], {"status": "failed", "error": str(said[-1])[:2000]})

        tune.run(
            tune.with_parameters(trial, specs={number: spec.to_json() for number, spec in specs.items()}),
            config={"trial": tune.grid_search(list(specs))},
            resources_per_trial={"cpu": cpus_per_trial, "gpu": gpus},
            callbacks=[Keep()],
            storage_path=str((folder / "ray").absolute()),
            raise_on_failed_trial=False,
            verbose=0,
        )
    finally:
        if ours:
            ray.shutdown()
