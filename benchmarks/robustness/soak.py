"""Train with random settings on generated data for a while, kill some of it, and check what must always hold.

Of every trial: losses and weights are finite; metrics are shares; evaluation in chunks gives RecBole's dense
results; the same seed gives the same metrics and weights again; the best checkpoint is worth what validation
said. Of every few: a training process that is killed and resumed ends as one that was left in peace.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_sce.data.synthetic import LogSpec, generate_log, write_inter
from recbole_sce.settings import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

#: Models that need nothing but interactions.
MODELS = (
    "SASRecSCE",
    "GRU4RecSCE",
    "BERT4RecSCE",
    "NARMSCE",
    "STAMPSCE",
    "LightSANsSCE",
    "CORESCE",
    "SINESCE",
    "CaserSCE",
    "NextItNetSCE",
    "NPESCE",
    "HGNSCE",
    "SHANSCE",
    "HRMSCE",
    "FOSSILSCE",
    "GCSANSCE",
    "SRGNNSCE",
)
#: A trial of this many is followed by kills.
KILL_EVERY = 8
#: Share of trials whose settings may exclude each other.
_IMPOSSIBLE = 0.1
#: Metrics that are no shares.
_UNBOUNDED = ("averagepopularity", "shannonentropy")
#: How a refusal begins or what it has in it, where random settings or data are impossible indeed.
_REFUSALS = ("must be", "no interaction is left", "more than one interaction")

Settings = Mapping[str, Any]


@dataclass
class SoakReport:
    """What a soak has shown: counts, and each fault with what it takes to see it again."""

    trials: int = 0
    refused: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Trial:
    """A generated log and the settings of a run on it."""

    log: LogSpec
    settings: Settings

    def __str__(self) -> str:
        return f"{self.log}, {json.dumps(self.settings)}"


def soak(
    minutes: float,
    seed: int = 0,
    most_trials: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> SoakReport:
    """Run trials until the time is up; always one at least.

    Args:
        minutes: how long; the last trial may take longer.
        seed: of all that is random; trial k of a seed is always the same.
        most_trials: how many at most; None: as many as fit.
        progress: called with a line for each trial.

    Returns:
        The report; ``faults`` is empty if all is well.
    """
    report, started = SoakReport(), time.monotonic()
    while True:
        rng = np.random.default_rng([seed, report.trials])
        trial = draw_trial(rng)
        name = f"seed {seed}, trial {report.trials}"
        with in_temporary_folder() as folder:
            faults, refused = check(trial, folder)
            if (report.trials + 1) % KILL_EVERY == 0:
                faults += kill_and_resume(trial, rng, folder / "kills")
                report.kills += 1
        report.trials += 1
        report.refused += refused
        report.faults += [f"{name}: {fault}; {trial}" for fault in faults]
        report.seconds = time.monotonic() - started
        progress(f"{name} ({trial.settings['model']}): {'refused' if refused else f'{len(faults)} faults'}")
        if report.seconds >= 60 * minutes or report.trials == most_trials:
            return report


def draw_trial(rng: np.random.Generator) -> Trial:
    """Draw a log and settings, impossible combinations among them."""

    def one_of(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    def size(most: int) -> int:
        return int(np.exp(rng.uniform(0, np.log(most))))

    min_length = int(rng.integers(1, 8))
    log = LogSpec(
        n_interactions=int(rng.integers(100, 1500)),
        n_items=int(rng.integers(12, 300)),
        mean_length=float(min_length + rng.uniform(0.5, 20)),
        min_length=min_length,
        max_length=int(rng.integers(30, 200)),
        structure=float(rng.uniform(0, 1)),
        seed=int(rng.integers(2**31)),
    )
    split = one_of({"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}, {"TS": [0.7, 0.15, 0.15]})
    mode = one_of("full", "full", "full", "uni20", "pop20")
    model = one_of(*MODELS)
    heads = one_of(1, 2)
    width = 8 * heads
    settings = {
        "model": model,
        "loss_type": one_of("SCE", "SCE", "CE", "CE-", "gBCE", "BCE"),
        "train_positions": one_of("auto", "auto", "last", "all"),
        "n_buckets": one_of(None, None, size(100)),
        "bucket_size_x": one_of(None, None, size(300)),
        "bucket_size_y": size(1000),
        "n_outside": size(1000),
        "bucket_alpha": float(rng.uniform(0.1, 4)),
        "mix_x": one_of(True, False),
        "complete_softmax": one_of(True, False),
        "catalog_chunk": one_of(None, size(400)),
        "n_negatives": size(500),
        "gbce_t": float(rng.uniform(0, 1)),
        "exclude_seen": one_of(False, False, True),
        "eval_memory_mb": one_of(None, 1),
        "sparse_item_updates": one_of(False, False, True),
        "ema_decay": one_of(None, 0.9, 0.999),
        "target_discount": one_of(0.0, 0.0, 0.5),
        "train_batch_size": size(200),
        "eval_batch_size": size(5000),
        "MAX_ITEM_LIST_LENGTH": int(rng.integers(2, 30)),
        "learning_rate": float(10 ** rng.uniform(-4, -1)),
        "learner": one_of("adam", "adam", "adamw", "sgd", "rmsprop"),
        "clip_grad_norm": one_of(None, None, {"max_norm": 1}),
        "enable_amp": one_of(False, False, False, True),
        "epochs": one_of(1, 2, 3),
        "eval_step": one_of(1, 1, 2, 0),
        "eval_args": {"split": split, "mode": mode, "order": "TO", "group_by": "user"},
        "n_layers": one_of(1, 2),
        "n_heads": heads,
        "hidden_size": width,
        "embedding_size": width,
        "inner_size": width,
        "seed": int(rng.integers(2**31)),
    }
    return Trial(log, settings if rng.random() < _IMPOSSIBLE else _possible(settings))


def _possible(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with those changed that exclude each other."""
    import recbole_sce
    from recbole_sce.settings.checks import conflicts_of_later_targets

    changed = dict(settings)
    if settings["train_positions"] == "all":
        changed["train_positions"] = "auto"
    if settings["eval_args"]["mode"] != "full":
        changed["exclude_seen"] = False
    if settings["sparse_item_updates"]:
        loss_type = settings["loss_type"]
        changed.update(
            learner="adam", clip_grad_norm=None, loss_type="CE-" if loss_type == "CE" else loss_type
        )
    if conflicts_of_later_targets(changed, getattr(recbole_sce, settings["model"]).causal):
        changed["target_discount"] = 0.0
    return changed


def check(trial: Trial, folder: Path) -> tuple[list[str], bool]:
    """Run a trial in ``folder``; return what is wrong with it, and whether it was refused in clear words."""
    write_inter(generate_log(trial.log), folder / "data", "soak")
    try:
        return _faults_of(trial.settings, folder), False
    except SettingsError:
        return [], True
    except ValueError as error:
        if any(words in str(error) for words in _REFUSALS):
            return [], True
        return [_last_call(error)], False
    except Exception as error:
        return [_last_call(error)], False


def kill_and_resume(trial: Trial, rng: np.random.Generator, folder: Path) -> list[str]:
    """Kill and resume training with a trial's settings, on data of the campaign's own; return the faults."""
    from robustness.kills import run_campaign

    of_loss, of_steps = ("model", "loss_type", "mix_x"), ("learner", "clip_grad_norm", "ema_decay")
    kept = (*of_loss, *of_steps, "eval_step", "enable_amp")
    settings = {key: trial.settings[key] for key in kept if trial.settings[key] is not None}
    if settings["eval_step"] == 0:
        settings["eval_step"] = 1
    return list(run_campaign(2, int(rng.integers(2**31)), [settings], folder).faults)


@contextlib.contextmanager
def in_temporary_folder() -> Iterator[Path]:
    """Work in a folder that is gone afterwards: RecBole writes into the working directory."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def _faults_of(settings: Settings, folder: Path) -> list[str]:
    from recbole.trainer import Trainer

    import recbole_sce  # noqa: F401  (registers)
    from recbole_sce.training.callbacks.finite import all_finite

    first, again = (_train(settings, folder) for _ in range(2))
    faults = []
    losses = first["trainer"].train_loss_dict
    if not all(np.isfinite(np.asarray(loss)).all() for loss in losses.values()):
        faults.append(f"a loss is not finite: {losses}")
    if not all_finite(first["trainer"].model):
        faults.append("a weight is not finite")
    for name, value in first["metrics"].items():
        if not (np.isfinite(value) and value >= 0 and (value <= 1 or name.startswith(_UNBOUNDED))):
            faults.append(f"{name} is {value}")
    if first["metrics"] != again["metrics"] or losses != again["trainer"].train_loss_dict:
        faults.append(f"the same seed gave {first['metrics']}, then {again['metrics']}")
    faults += _different(first["weights"], again["weights"], "the same seed gave other weights")
    if first["best"] and settings["eval_args"]["mode"] == "full":
        valid = _evaluate(first["trainer"], first, "valid")
        if valid != first["best"]:
            faults.append(f"validated as {first['best']}, and from the checkpoint as {valid}")
    if not settings["exclude_seen"]:
        dense = _evaluate(Trainer(first["config"], first["trainer"].model), first, "test")
        off = {
            name: (value, dense[name])
            for name, value in first["metrics"].items()
            if abs(value - dense[name]) > 1e-5
        }
        if off:
            faults.append(f"in chunks and dense: {off}")
    return faults


def _train(settings: Settings, folder: Path) -> dict[str, Any]:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    from recbole_sce.compat import safe_load

    config = Config(
        settings["model"],
        "soak",
        config_dict={
            "data_path": str(folder / "data"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "metrics": [
                "Recall",
                "MRR",
                "NDCG",
                "MAP",
                "GAUC",
                "ItemCoverage",
                "GiniIndex",
                "AveragePopularity",
            ],
            "topk": [1, 10],
            "metric_decimal_place": 7,
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            **settings,
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    _, best = trainer.fit(train, valid, verbose=False)
    weights = safe_load(trainer.saved_model_file)["state_dict"]
    trainer.model.load_state_dict(weights)
    made = {"config": config, "trainer": trainer, "train": train, "valid": valid, "test": test, "best": best}
    return {**made, "weights": weights, "metrics": _evaluate(trainer, made, "test")}


def _evaluate(trainer: Any, made: Mapping[str, Any], part: str) -> dict[str, float]:
    from recbole.utils import init_seed

    trainer.eval_collector.data_collect(made["train"])
    init_seed(made["config"]["seed"], True)  # candidates may be sampled
    return {k: float(v) for k, v in trainer.evaluate(made[part], load_best_model=False).items()}


def _different(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], what: str) -> list[str]:
    import torch

    off = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    return [f"{what}: {', '.join(off)}"] if off else []


def _last_call(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}: {error}"
