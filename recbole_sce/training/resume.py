"""Going on with a run that was cut off: which one, whether it may, and what is put back."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole.data.interaction import Interaction

from recbole_sce.compat import CheckpointError, safe_load
from recbole_sce.data import ids
from recbole_sce.safe_io.checkpoints import portable
from recbole_sce.settings.recipes import undecided_keys
from recbole_sce.training import random_states
from recbole_sce.training.callbacks import last_state as checkpoints
from recbole_sce.utils import processes
from recbole_sce.utils.files import StrPath

#: Settings that may change between a run and its continuation: they have no part in the result, or, those of
#: the machine, none but other rounding and other random numbers, which is said.
FREE_KEYS = frozenset(
    (
        "recipe",
        "resume",
        "checkpoint_dir",
        "data_path",
        "pre_model_path",
        "show_progress",
        "state",
        "verbose",
        "log_wandb",
        "wandb_project",
        "save_dataset",
        "dataset_save_path",
        "save_dataloaders",
        "dataloaders_save_path",
        "loss_decimal_place",
        "eval_memory_mb",
        "eval_batch_size",
        "gpu_id",
        "use_gpu",
        "device",
        "worker",
        "nproc",
        "ip",
        "port",
        "offset",
        "local_rank",
        "single_spec",
        "process_timeout",
    )
)

#: Where a last state keeps what RecBole's checkpoints do not hold.
_KEY = "training"


@dataclass(frozen=True)
class Found:
    """The last state to go on from, if there is one, and what is to be said of the others."""

    path: Path | None
    notes: list[str] = field(default_factory=list)


def find(config: Any) -> Found:
    """Return what the key ``resume`` of ``config`` means.

    ``auto`` is the newest last state in ``checkpoint_dir`` of the same model, data set and settings; a path
    is that of a run's last state, or of its best model beside it.

    Raises:
        FileNotFoundError: the path does not exist.
        CheckpointError: the path is of no such file, or of a run with other settings.
    """
    setting = config["resume"]
    if setting is None:
        return Found(None)
    if setting != "auto":
        path = _last_state_of(setting)
        stored = _read_settings(path)
        different = differences(stored, config)
        if different:
            raise CheckpointError(
                f"resume: {path} is of a run with other settings: {'; '.join(different)}. Set them as they "
                "were, or resume: null to begin anew"
            )
        _best(path, stored)
        return Found(path, _other_machine(stored, config))
    notes: list[str] = []
    others: list[tuple[Path, list[str]]] = []
    for path in checkpoints.last_states(config["checkpoint_dir"], config["model"]):
        try:
            stored = _read_settings(path)
            _best(path, stored)
        except (CheckpointError, OSError) as error:
            notes.append(f"passed over: {error}")
            continue
        different = differences(stored, config)
        if not different:
            return Found(path, [*notes, *_other_machine(stored, config)])
        others.append((path, different))
    notes.append(f"auto: {config['checkpoint_dir']} has no run of this model, data set and settings")
    if others:
        path, different = min(others, key=lambda other: len(other[1]))
        notes[-1] += f"; the nearest, {path}, differs in {'; '.join(different)}"
    return Found(None, notes)


def find_on_first(config: Any) -> Found:
    """Return what the first process finds: the others need not see its folders."""
    return processes.made_by_first(lambda: find(config))


def check(config: Any) -> None:
    """Check, before any data is read, that what ``resume`` names can be resumed under ``config``.

    Raises:
        FileNotFoundError, CheckpointError: as :func:`find`.
    """
    if config["resume"] != "auto" and processes.rank() == 0:
        find(config)


def differences(stored: Mapping[str, Any], config: Any) -> list[str]:
    """Return the settings that keep a run from going on as it would have, as ``key: stored, now value``.

    Args:
        stored: the last state (its ``config`` and ``epoch`` are read).
        config: RecBole's ``Config`` of now.
    """
    before, now = (_comparable(each) for each in (stored["config"], config))
    chosen_later = undecided_keys(config)
    different = [
        f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted((before.keys() | now.keys()) - chosen_later)
        if before.get(key) != now.get(key)
    ]
    done = stored["epoch"] + 1
    if config["epochs"] < done:
        different.append(f"epochs: {done} are done, {config['epochs']} is less")
    return different


def _comparable(config: Any) -> dict[str, Any]:
    settings: dict[str, Any] = portable(config.final_config_dict)
    compared = {key: value for key, value in settings.items() if key not in FREE_KEYS and key != "epochs"}
    compared["world_size"] = max(1, settings.get("world_size") or 1)
    compared["eval_step"] = min(settings["eval_step"], settings["epochs"])  # as the trainer reads it
    return compared


def _other_machine(stored: dict[str, Any], config: Any) -> list[str]:
    before = {"device": stored[_KEY]["device"], "worker": stored["config"]["worker"]}
    return [
        f"{key}: {value} then, {config[key]} now; the run goes on, but not to the last bit as it would have"
        for key, value in before.items()
        if str(config[key]) != str(value)
    ]


def _last_state_of(given: StrPath) -> Path:
    path = Path(given)
    if path.is_dir():
        raise CheckpointError(
            f"resume must be auto, null or the path of a checkpoint, got {path}, a folder: name a checkpoint "
            "in it, or set it as checkpoint_dir, with resume auto"
        )
    beside = path if checkpoints.is_last(path) else checkpoints.last_path(path)
    if beside.is_file():
        return beside
    if path.is_file():
        raise CheckpointError(
            f"resume: {path} holds a model and not the state of its training, which would be in {beside}, "
            "a file that does not exist"
        )
    raise FileNotFoundError(
        f"resume must be auto, null or the path of a checkpoint, got {path}: there is no such file"
    )


def _read_settings(path: Path) -> dict[str, Any]:
    """Return a last state, of which only the settings are sure to be read."""
    return _checked(safe_load(path, "cpu", mmap=True), path)


def _checked(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    if not isinstance(checkpoint, dict) or _KEY not in checkpoint:
        raise CheckpointError(f"{path} is not the last state of a run of recbole_sce: it has no {_KEY!r}")
    return checkpoint


# What is kept


def last_state(trainer: Any, loaders: Sequence[Any], data: str) -> dict[str, Any]:
    """Return all that training goes on from after the epoch that ``trainer`` has just ended.

    Beyond RecBole's own entries: the scheduler (``trainer.scheduler``), the average of the weights
    (``trainer.average``), the best result, each epoch's loss, the device, ``data`` (:func:`data_digest`), and
    the random states, of each process.
    """
    scheduler, average = trainer.scheduler, trainer.average
    return {
        **checkpoints.model_state(trainer, trainer.epoch),
        "optimizer": trainer.optimizer.state_dict(),
        _KEY: {
            "best_valid_result": plain_result(trainer.best_valid_result),
            "train_loss_dict": dict(trainer.train_loss_dict),
            "scheduler": None if scheduler is None else scheduler.state_dict(),
            "average": None if average is None else average.state_dict(),
            "device": str(trainer.device),
            "data": data,
            "random": processes.gather_on_first(random_states.capture(loaders)),
        },
    }


def data_digest(loader: Any) -> str:
    """Return a digest of the interactions and features that ``loader`` trains on."""
    digest = hashlib.blake2b(digest_size=16)
    dataset = loader._dataset
    for name in ("inter_feat", "log", "user_feat", "item_feat"):
        table = getattr(dataset, name, None)
        if isinstance(table, Interaction):
            for column in sorted(table.columns):
                values = table[column].cpu().contiguous().numpy()
                digest.update(f"{name} {column} {values.dtype} {values.shape}".encode())
                digest.update(values)
    return digest.hexdigest()


def plain_result(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return metrics by name as a checkpoint can hold them."""
    return None if result is None else {name: portable(value) for name, value in result.items()}


# What is put back


@dataclass(frozen=True)
class Continuation:
    """What :func:`load` leaves for the time that the data is there."""

    path: Path
    data: str
    random: dict[str, Any]

    def enter(self, loaders: Sequence[Any], data: str) -> None:
        """Check that ``data`` (:func:`data_digest`) is that of the run, and restore all random states.

        Raises:
            CheckpointError: the data is another.
        """
        if data != self.data:
            raise CheckpointError(
                f"resume: {self.path} is of a run on other training data: the files of the data set have "
                "changed since. Restore them, or set resume: null to begin anew"
            )
        random_states.restore(self.random, loaders)


def load(trainer: Any, resume_file: StrPath) -> Continuation:
    """Put ``trainer`` where the run of ``resume_file`` was after its last epoch.

    Of several processes the first reads, and tells the others.

    Raises:
        FileNotFoundError: the file, or the run's best model beside it, does not exist.
        CheckpointError: it is damaged, or of a model of other sizes, or of other ids.
    """
    path, state, best = processes.made_by_first(lambda: _read_run(resume_file, ids.of_model(trainer.model)))
    kept = state[_KEY]
    if len(kept["random"]) != processes.world_size():
        raise CheckpointError(
            f"resume: {path} is of a run of {len(kept['random'])} processes, and here are "
            f"{processes.world_size()}"
        )
    try:
        trainer.model.load_state_dict(state["state_dict"])
        trainer.model.load_other_parameter(state["other_parameter"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if kept["scheduler"] is not None:
            trainer.scheduler.load_state_dict(kept["scheduler"])
        if kept.get("average") is not None:
            trainer.average.load_state_dict(kept["average"])
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"resume: {path} does not fit the model as it is now: {reason}") from error
    trainer.epoch = state["epoch"]
    trainer.start_epoch = state["epoch"] + 1
    trainer.cur_step = state["cur_step"]
    trainer.train_loss_dict = kept["train_loss_dict"]
    trainer.saved_model_file = os.fspath(checkpoints.best_path(path))
    trainer.best_valid_score = best.score
    trainer.best_valid_result = None if best.result is None else OrderedDict(best.result)
    return Continuation(path, kept["data"], kept["random"][processes.rank()])


@dataclass(frozen=True)
class _Best:
    """The best validation score so far, and all metrics of that validation."""

    score: float
    result: dict[str, Any] | None


def _read_run(resume_file: StrPath, known: ids.TokenIds | None) -> tuple[Path, dict[str, Any], _Best]:
    """Return where the last state of a run is, what it holds, settings aside, and the best score."""
    path = _last_state_of(resume_file)
    ids.check_same(path, known, "resume", "set resume: null to begin anew")
    state = _checked(_read_all(path), path)
    return path, {key: value for key, value in state.items() if key != "config"}, _best(path, state)


def _best(path: Path, state: dict[str, Any]) -> _Best:
    """Return the best score so far, of the last state or of the file of the best model.

    That file may be one epoch ahead of the last state, if the process ended between the two writes. Its score
    then counts: on a CPU the epoch is about to be repeated with the same one, and on a device whose sums
    differ from time to time the score goes with the model that the file holds.
    """
    known = _Best(state["best_valid_score"], state[_KEY]["best_valid_result"])
    file = checkpoints.best_path(path)
    if not file.is_file():
        if known.result is not None:
            raise FileNotFoundError(2, "No such file or directory", os.fspath(file))
        return known  # no validation yet
    best = safe_load(file, "cpu", mmap=True)
    if best["epoch"] > state["epoch"]:
        return _Best(best["best_valid_score"], best.get("best_valid_result"))
    if best["best_valid_score"] != known.score:
        raise CheckpointError(
            f"resume: {file} is not the best model of the run {path}: its validation score is "
            f"{best['best_valid_score']}, and that of the run {known.score}"
        )
    return known


def _read_all(path: Path) -> dict[str, Any]:
    """Read a checkpoint whose every byte is as it was written."""
    checkpoint = safe_load(path, "cpu")
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} is wrong")
    return checkpoint
