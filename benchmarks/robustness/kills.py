"""Kill training processes at random moments, resume them, and compare the end with a run left in peace.

Each process is killed by SIGKILL: half of them by the clock, half while they write a checkpoint, at a random
one of the system calls that this takes, or amid the bytes of a write.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

_SAMPLED = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "uni20"}
#: What is trained in turn: each draws its random numbers elsewhere, or keeps other state.
SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"model": "SASRecSCE"},
    {"model": "SASRecSCE", "loss_type": "CE-", "sparse_item_updates": True, "stopping_step": 1},
    {"model": "GRU4RecSCE", "eval_args": _SAMPLED, "ema_decay": 0.9},
    {"model": "BERT4RecSCE", "eval_step": 2, "learner": "adamw", "weight_decay": 0.01},
)

_SMALL: Mapping[str, Any] = {
    "epochs": 8,
    "train_batch_size": 16,
    "learning_rate": 0.01,
    "MAX_ITEM_LIST_LENGTH": 10,
    "hidden_size": 16,
    "embedding_size": 16,
    "inner_size": 16,
    "n_layers": 1,
    "n_heads": 1,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "use_gpu": False,
    "state": "WARNING",
    "show_progress": False,
    "checkpoint_dir": "saved",
    "metric_decimal_place": 8,
    "bucket_size_y": 5,
    "n_outside": 5,  # with more, SCE would compute the exact softmax of so few items
}
#: Epochs that a process may live for, at most, before it is killed.
_EPOCHS_TO_LIVE = 3
_PATIENCE = 300  # seconds after which a process that is neither killed nor at its end has failed


@dataclass(frozen=True)
class KillReport:
    """What a campaign has shown.

    Attributes:
        kills: processes killed.
        kills_in_write: those of them that were writing a checkpoint.
        resumed: processes that went on from a checkpoint of a killed one.
        runs: runs that were brought to their end, each compared with one that was not killed.
        faults: what went wrong, one line each: a lost or unreadable checkpoint, a process that failed, a
            difference at the end.
        seconds: duration of the campaign.
    """

    kills: int = 0
    kills_in_write: int = 0
    resumed: int = 0
    runs: int = 0
    faults: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class _Reference:
    """A run left in peace: where it is, at which second training began and all ended, what it wrote."""

    folder: Path
    start: float
    end: float
    disk_events: int


def run_campaign(
    kills: int,
    seed: int = 0,
    settings: Sequence[Mapping[str, Any]] = SETTINGS,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> KillReport:
    """Kill ``kills`` processes and bring the run of each to its end.

    Args:
        kills: how many.
        seed: of the moments, and of the generated data set.
        settings: RecBole's keys of the runs, used in turn; ``model`` is one of them.
        folder: where to work, empty or absent; None: a temporary one.
        progress: called with a line for each run.

    Returns:
        The report; ``faults`` is empty if all is well.
    """
    with contextlib.ExitStack() as stack:
        root = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return _campaign(kills, seed, settings, root.absolute(), progress)


def _campaign(
    kills: int,
    seed: int,
    settings: Sequence[Mapping[str, Any]],
    root: Path,
    progress: Callable[[str], None],
) -> KillReport:
    from recbole_sce.data.synthetic import LogSpec, generate_log, write_inter

    rng = np.random.default_rng(seed)
    started = time.monotonic()
    write_inter(
        generate_log(LogSpec(n_interactions=1200, n_items=60, mean_length=12.0, min_length=5, seed=seed)),
        root / "data",
        "killed",
    )
    references: dict[int, _Reference] = {}
    report = KillReport()
    number = 0
    while report.kills < kills:
        which = number % len(settings)
        config = {**_SMALL, "data_path": str(root / "data"), **settings[which]}
        if which not in references:
            references[which] = _undisturbed(root / f"reference-{which}", config)
        before = report
        report = _one_run(report, kills, rng, config, references[which], root / f"run-{number}")
        number += 1
        progress(
            f"run {number} ({config['model']}): {report.kills - before.kills} kills, "
            f"{report.resumed - before.resumed} resumptions, "
            f"{len(report.faults) - len(before.faults)} faults"
        )
    return replace(report, seconds=time.monotonic() - started)


def _undisturbed(folder: Path, config: Mapping[str, Any]) -> _Reference:
    ended = _start(folder, config)
    ended.join(_PATIENCE)
    if ended.exitcode != 0:
        raise RuntimeError(f"the run that is to be compared with failed: {_last_line(folder)}")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return _Reference(folder, result["start"], result["end"], result["disk_events"])


def _one_run(
    report: KillReport,
    kills: int,
    rng: np.random.Generator,
    config: Mapping[str, Any],
    reference: _Reference,
    folder: Path,
) -> KillReport:
    """Start and kill until the run ends by itself, or there have been ``kills``; compare the end."""
    share = _EPOCHS_TO_LIVE / config["epochs"]
    seen: dict[Path, int] = {}
    faults: list[str] = []
    unfinished: set[Path] = set()
    while True:
        last_words: int | None = None
        alive_for = float(_PATIENCE)
        if report.kills < kills:
            if rng.random() < 0.5:
                last_words = int(rng.integers(1, max(2, int(share * reference.disk_events))))
            else:
                training = reference.end - reference.start
                alive_for = float(rng.uniform(0, reference.start + share * training))
        process = _start(folder, config, last_words)
        process.join(alive_for)
        if process.exitcode is None:
            process.kill()
            process.join()
        unfinished, before = set((folder / "saved").glob(".*.tmp")), unfinished
        report = replace(report, resumed=report.resumed + ("Resuming from" in _output(folder)))
        faults += _lost(folder, seen)
        if process.exitcode == 0:
            break
        if process.exitcode != -signal.SIGKILL or report.kills >= kills:
            faults.append(f"a process ended with {process.exitcode}: {_last_line(folder)}")
            break
        report = replace(
            report,
            kills=report.kills + 1,
            kills_in_write=report.kills_in_write + bool(last_words is not None or unfinished - before),
        )
    if not faults:
        faults += differences(reference.folder, folder)
    named = tuple(f"{folder.name} ({config['model']}): {fault}" for fault in faults)
    return replace(report, runs=report.runs + 1, faults=report.faults + named)


def _start(folder: Path, config: Mapping[str, Any], die_at: int | None = None) -> Any:
    """Start training in ``folder``, in a process that has all libraries loaded already."""
    import multiprocessing

    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recbole_sce", "recbole.quick_start", __name__])
    process = context.Process(target=_train, args=(str(folder), dict(config), die_at))
    process.start()
    return process


def _train(folder: str, config: dict[str, Any], die_at: int | None) -> None:
    """Train and test with ``resume: auto``; write what came of it into ``folder/result.json``."""
    started = time.monotonic()
    os.chdir(folder)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = sys.argv[:1]

    import torch
    from recbole.quick_start import run_recbole

    import recbole_sce  # noqa: F401  (registers)
    from recbole_sce.training.resumable import ResumableTrainer
    from recbole_sce.utils.files import write_json

    torch.set_num_threads(1)
    start: list[float] = []
    fit = ResumableTrainer.fit

    def timed_fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        start.append(time.monotonic() - started)
        return fit(self, *args, **kwargs)

    ResumableTrainer.fit = timed_fit  # type: ignore[method-assign]
    with _deadly_disk(die_at) as events:
        result = run_recbole(
            config["model"], "killed", config_dict={**config, "resume": "auto", "state": "INFO"}
        )
        write_json(
            Path("result.json"),
            {
                "start": start[0],
                "end": time.monotonic() - started,
                "disk_events": events[0],
                "best_valid_score": float(result["best_valid_score"]),
                "best_valid_result": {k: float(v) for k, v in result["best_valid_result"].items()},
                "test_result": {k: float(v) for k, v in result["test_result"].items()},
            },
        )


@contextlib.contextmanager
def _deadly_disk(die_at: int | None) -> Iterator[list[int]]:
    """Count the events of writing checkpoints, and end the process at the one of number ``die_at``.

    Events are the opening of a file, each write, which is then cut in half, each flush to the disk, and what
    comes before and after the renaming.
    """
    from recbole_sce.utils import files
    from recbole_sce.utils.patching import seen

    count = [0]

    def event() -> bool:
        count[0] += 1
        return count[0] == die_at

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    class Disk(io.FileIO):
        def write(self, data: Any) -> int:
            if event():
                super().write(memoryview(data)[: len(data) // 2])
                die()
            return super().write(data)

    def fdopen(descriptor: int, mode: str) -> io.BufferedRandom:
        if event():
            die()
        return io.BufferedRandom(Disk(descriptor, "r+b"), buffer_size=512)

    def fsync(descriptor: int) -> None:
        if event():
            die()
        os.fsync(descriptor)

    def rename(source: Any, target: Any) -> None:
        if event():
            die()
        os.replace(source, target)
        if event():
            die()

    vars(files)["os"] = seen(os, fdopen=fdopen, fsync=fsync, replace=rename)
    try:
        yield count
    finally:
        vars(files)["os"] = os


def _lost(folder: Path, seen: dict[Path, int]) -> list[str]:
    """Check that all checkpoints seen before are there, whole, and no older; note those of now."""
    from recbole_sce.compat import CheckpointError, safe_load

    faults = []
    for path in {*seen, *(folder / "saved").glob("*.pth")}:
        try:
            epoch = safe_load(path)["epoch"]
        except (OSError, CheckpointError) as error:
            faults.append(f"a checkpoint is lost: {error}")
            continue
        if epoch < seen.get(path, -1):
            faults.append(f"{path.name} fell back from epoch {seen[path]} to {epoch}")
        seen[path] = epoch
    return faults


def differences(reference: Path, folder: Path) -> list[str]:
    """Return where the end of the run in ``folder`` differs from that in ``reference``: exactly, everywhere.

    Compared are metrics, the weights of the best and of the last model, the optimiser, early stopping, each
    epoch's loss, and the random states.
    """
    deviations = []
    ours, theirs = (
        json.loads((each / "result.json").read_text(encoding="utf-8")) for each in (reference, folder)
    )
    for key in ("best_valid_score", "best_valid_result", "test_result"):
        deviations += unequal(ours[key], theirs[key], key)
    for expected, got in zip(_checkpoints(reference), _checkpoints(folder)):
        deviations += unequal(expected, got, "checkpoint")
    left = [path.name for path in (folder / "saved").glob(".*") if _belongs(path, folder)]
    return deviations + [f"{name} is left over" for name in left]


def _checkpoints(folder: Path) -> list[dict[str, Any]]:
    """Return the content of the last state and of the best model of the newest run, settings aside."""
    from recbole_sce.compat import safe_load
    from recbole_sce.training.callbacks.last_state import best_path

    loaded = [safe_load(path) for path in (_last(folder), best_path(_last(folder)))]
    return [{key: value for key, value in each.items() if key != "config"} for each in loaded]


def _last(folder: Path) -> Path:
    return max((folder / "saved").glob("*-last.pth"), key=lambda path: path.stat().st_mtime_ns)


def _belongs(path: Path, folder: Path) -> bool:
    """Say whether ``path`` is of the run that has ended, and not of one that died in its first epoch."""
    return path.name.startswith("." + _last(folder).name[: -len("-last.pth")])


def unequal(expected: Any, got: Any, where: str) -> list[str]:
    """Return where two nested values, of tensors too, are not exactly equal; ``where`` is what they are."""
    import torch

    if isinstance(expected, torch.Tensor) and isinstance(got, torch.Tensor):
        same = expected.dtype == got.dtype and torch.equal(expected, got)
        return [] if same else [f"{where} differs"]
    if isinstance(expected, Mapping) and isinstance(got, Mapping) and expected.keys() == got.keys():
        return [fault for key in expected for fault in unequal(expected[key], got[key], f"{where}.{key}")]
    if isinstance(expected, (list, tuple)) and isinstance(got, (list, tuple)) and len(expected) == len(got):
        return [
            fault
            for place, pair in enumerate(zip(expected, got))
            for fault in unequal(*pair, f"{where}[{place}]")
        ]
    same = bool(expected == got)
    return [] if same else [f"{where}: {expected!r} expected, {got!r} found"]


def _output(folder: Path) -> str:
    path = folder / "output.txt"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _last_line(folder: Path) -> str:
    lines = [line.strip() for line in _output(folder).splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
