"""The two checkpoints of a run: where they are, what they hold, and that no other process writes them.

``<Model>-<time>-<random>.pth``       the model as it was when validation was best, as RecBole writes it
                                      but without its optimiser: what is evaluated, loaded and shared;
``<Model>-<time>-<random>-last.pth``  the whole state of training after the last epoch: what a run is
                                      resumed from.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from recbole.utils import get_local_time

from recbole_sce.compat import CheckpointError, CheckpointWriteError, save_checkpoint
from recbole_sce.data import ids
from recbole_sce.utils.files import StrPath, unfinished, whole_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_LAST = "-last.pth"


def new_best_path(folder: StrPath, model: str) -> str:
    """Return where a run that begins now keeps its best model: a name that no other run has.

    RecBole's ``Trainer`` names it by model and second, so that runs of one second overwrite each other's.
    """
    # Not from a source that training draws from.
    return os.path.join(folder, f"{model}-{get_local_time()}-{secrets.token_hex(4)}.pth")


def last_path(best: StrPath) -> Path:
    """Return where the run whose best model is at ``best`` keeps its last state."""
    best = Path(best)
    return best.with_name(best.stem + _LAST)


def best_path(last: StrPath) -> Path:
    """Return where the run whose last state is at ``last`` keeps its best model."""
    last = Path(last)
    return last.with_name(last.name[: -len(_LAST)] + ".pth")


def is_last(path: StrPath) -> bool:
    """Say whether ``path`` is named as the last state of a run."""
    return Path(path).name.endswith(_LAST)


def last_states(folder: StrPath, model: str) -> list[Path]:
    """Return the last states of the runs of ``model`` in ``folder``, the newest first."""
    written = {}
    for path in Path(folder).glob(f"{model}-*{_LAST}"):
        with suppress(FileNotFoundError):  # another process has deleted it meanwhile
            if path.is_file():
                written[path] = path.stat().st_mtime_ns
    return sorted(written, key=lambda path: (written[path], path.name), reverse=True)


def check_writable(folder: StrPath) -> None:
    """Write a file into ``folder`` and remove it.

    Raises:
        CheckpointWriteError: that does not work.
    """
    probe = Path(folder) / f"{secrets.token_hex(8)}.probe"
    try:
        with whole_file(probe):
            pass
        os.unlink(probe)
    except OSError as error:
        raise CheckpointWriteError(
            f"checkpoint_dir: {os.fspath(folder)} cannot be written: {error.strerror}. It must be a folder "
            "that can, for the checkpoints of this run"
        ) from error


def model_state(trainer: Any, epoch: int) -> dict[str, Any]:
    """Return what a checkpoint of RecBole holds (``Trainer._save_checkpoint``), optimiser aside, and ids."""
    known = ids.of_model(trainer.model)
    return {
        ids.KEY: None if known is None else known.packed,
        "config": trainer.config,
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": trainer.best_valid_score,
        "state_dict": trainer.model.state_dict(),
        "other_parameter": trainer.model.other_parameter(),
    }


class LastState:
    """The file of a run's last state, held by the process that trains.

    Another process that would continue the same run is refused while this one lives (POSIX record locks,
    which end with the process however it ends; not on Windows).
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Hold the file, and remove what a process that was killed while writing has left beside it.

        Raises:
            CheckpointError: another process holds it.
            CheckpointWriteError: it cannot be opened for writing.
        """
        self.release()
        if fcntl is not None:
            self._descriptor = _locked(self.path)
        for path in (self.path, best_path(self.path)):
            for left in unfinished(path):
                with suppress(OSError):
                    os.unlink(left)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file's content, and hold the new file.

        Raises:
            CheckpointWriteError: it cannot be written; the old content is still there.
        """
        save_checkpoint(state, self.path)
        self.hold()

    def release(self) -> None:
        """Let other processes continue the run."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _locked(path: Path) -> int:
    """Return a descriptor of the file whose lock this process has."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError as error:
        raise CheckpointWriteError(f"{path} cannot be written: {error.strerror}") from error
    held = False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held = error.errno in (errno.EACCES, errno.EAGAIN)  # else nothing can be locked there
    # Whoever holds the file may replace it between our opening and locking it.
    if held or not os.path.samestat(os.fstat(descriptor), os.stat(path)):
        os.close(descriptor)
        raise CheckpointError(
            f"{path} belongs to a run that another process is training at present: wait for its end, or set "
            "resume: null to begin a run of its own"
        )
    return descriptor
