"""``recbole.quick_start.run`` over several processes: of a script, an interactive session, or torchrun."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, NamedTuple

from recbole_sce.errors import exit_code
from recbole_sce.utils.patching import patch, wrap_everywhere
from recbole_sce.utils.processes import Layout, LayoutError

#: What torch says in a process that has lost another one, or has waited for it in vain.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")


class RemoteTraceback(Exception):
    """Where an error came from in another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Success(NamedTuple):
    result: Any
    checkpoint: str | None


class _Failure(NamedTuple):
    error: Exception
    is_of_others: bool  # another process failed, and this one noticed
    text: str


@dataclass(frozen=True)
class _Run:
    """What ``run_recbole`` is called with."""

    model: Any
    dataset: Any
    config_file_list: Any
    config_dict: dict[str, Any] | None
    saved: bool

    def here(self, layout: Layout, local_rank: int) -> Any:
        """Train and test as process ``local_rank`` of this machine."""
        from recbole.quick_start import quick_start

        place = {
            "nproc": layout.nproc,
            "world_size": layout.world_size,
            "offset": layout.group_offset,
            "ip": layout.ip,
            "port": layout.port,
            "local_rank": local_rank,
        }
        return quick_start.run_recbole(
            self.model,
            self.dataset,
            self.config_file_list,
            {**(self.config_dict or {}), **place},
            saved=self.saved,
        )


_last_checkpoint: str | None = None


def last_checkpoint() -> str | None:
    """Return the file of the best model that the last ``run`` of this process has left on this machine."""
    return _last_checkpoint


@contextmanager
def _noting_checkpoint() -> Iterator[None]:
    """Note what the trainers that ``run_recbole`` makes name their checkpoint: only they know."""
    from recbole.quick_start import quick_start

    global _last_checkpoint
    made: list[Any] = []
    original = quick_start.get_trainer

    def get_trainer(*args: Any) -> Any:
        def make(*settings: Any) -> Any:
            made.append(original(*args)(*settings))
            return made[-1]

        return make

    quick_start.get_trainer = get_trainer
    try:
        yield
    finally:
        quick_start.get_trainer = original
        _last_checkpoint = getattr(made[-1], "saved_model_file", None) if made else None


@patch(
    symptom=(
        "spawned processes do not know the plugin's models; saved: False is ignored; a port in use fails"
    ),
    cause="the workers run a function of RecBole, which imports no plugin",
    where="quick_start/quick_start.py: run",
)
def run_of_several_processes() -> bool:
    """Let the processes that ``run(nproc=...)`` starts know the plugin, and end all if one fails.

    The workers' function is this module's, so that they import the plugin. Errors come out as they were
    raised, and torchrun's processes are taken as they are. One process is left to RecBole.
    """
    from recbole.quick_start import quick_start

    # By this name and module workers of a caller's own ``spawn`` find it, and import the plugin on the way.
    recboles = quick_start.run_recboles
    recboles.__module__ = __name__
    globals()["run_recboles"] = recboles

    @wrap_everywhere(quick_start, "run")
    def run(
        original: Callable[..., Any],
        model: Any,
        dataset: Any,
        config_file_list: Any = None,
        config_dict: Any = None,
        saved: bool = True,
        nproc: int = 1,
        world_size: int = -1,
        ip: str = "localhost",
        port: Any = "5678",
        group_offset: int = 0,
    ) -> Any:
        asked = _Run(model, dataset, config_file_list, config_dict, saved)
        layout = layout_of(nproc, world_size, ip, port, group_offset)
        if layout is None:
            with _noting_checkpoint():
                return original(model, dataset, config_file_list, config_dict, saved)
        if not _under_torchrun():
            return _launch(asked, layout)
        local_rank = int(os.environ["LOCAL_RANK"])
        with _noting_checkpoint():
            result = asked.here(layout, local_rank)
        return result if local_rank == 0 else None

    return True


def layout_of(nproc: int, world_size: int, ip: str, port: Any, group_offset: int) -> Layout | None:
    """Return which processes ``run`` trains in if it gets these arguments; None if in this one alone.

    Raises:
        LayoutError: they cannot be.
    """
    if not _under_torchrun():
        if nproc == 1 and world_size <= 0:
            return None
        return Layout(nproc, nproc if world_size == -1 else world_size, group_offset, ip, str(port))
    if nproc != 1 or world_size > 0:
        raise LayoutError(
            "nproc and world_size must be left out under torchrun, which has started the processes already, "
            f"got {nproc!r} and {world_size!r}"
        )
    return Layout(
        nproc=int(os.environ["LOCAL_WORLD_SIZE"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        group_offset=int(os.environ["RANK"]) - int(os.environ["LOCAL_RANK"]),
        ip=os.environ["MASTER_ADDR"],
        port=os.environ["MASTER_PORT"],
    )


def _under_torchrun() -> bool:
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def _launch(asked: _Run, layout: Layout) -> Any:
    """Start the processes of this machine and return what its first one returns.

    Raises:
        Exception: what the first process to fail raised, with its traceback as the cause.
        RuntimeError: a process was killed.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

    if layout.nproc == layout.world_size:  # no other machine needs to know the port, so no two runs share one
        layout = replace(layout, port=_free_port())
    queue: Any = get_context("spawn").SimpleQueue()
    messages: list[Any] = []
    processes: Any = spawn(  # type: ignore[no-untyped-call]
        _work, (asked, layout, queue), nprocs=layout.nproc, join=False
    )
    try:
        # A process whose message fills the pipe ends only when it is read.
        while not processes.join(timeout=0.5):
            messages += _drained(queue)
    except (ProcessExitedException, ProcessRaisedException) as error:
        for number, process in enumerate(processes.processes):
            # join has ended the others by SIGTERM
            ended_by_us = process.exitcode == -signal.SIGTERM and number != error.error_index
            if process.exitcode < 0 and not ended_by_us:
                raise RuntimeError(
                    f"process {layout.group_offset + number} of {layout.world_size} was killed by "
                    f"{signal.Signals(-process.exitcode).name}, and the others were ended. If you did not "
                    "kill it, the system may have: it does so when memory runs out"
                ) from None
        failures = [message for message in messages + _drained(queue) if isinstance(message, _Failure)]
        if not failures:
            raise
        failure = min(failures, key=lambda failure: failure.is_of_others)  # of equals, the first
        raise failure.error from RemoteTraceback(failure.text)
    finally:
        for process in processes.processes:  # alive only if waiting for them was interrupted
            process.terminate()
    global _last_checkpoint
    success = next(message for message in messages + _drained(queue) if isinstance(message, _Success))
    _last_checkpoint = success.checkpoint
    return success.result


def _work(local_rank: int, asked: _Run, layout: Layout, queue: Any) -> None:
    """Be one of the processes that :func:`_launch` starts."""
    try:
        with _noting_checkpoint():
            result = asked.here(layout, local_rank)
    except Exception as error:
        queue.put(_failure(error, layout, local_rank))
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # at once: threads that wait for other processes may keep this one alive
    if local_rank == 0:
        queue.put(_Success(result, _last_checkpoint if layout.group_offset == 0 else None))


def _failure(error: Exception, layout: Layout, local_rank: int) -> _Failure:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    code = exit_code(error)
    is_of_others = any(sign in str(error) for sign in _LOST)
    if is_of_others:
        error = RuntimeError(
            f"process {layout.group_offset + local_rank} of {layout.world_size} has lost another one, which "
            f"failed, was killed, or kept it waiting for longer than process_timeout ({error})"
        )
    try:
        error = pickle.loads(pickle.dumps(error.with_traceback(None)))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
        error.exit_code = code  # type: ignore[attr-defined]
    return _Failure(error, is_of_others, text)


def _drained(queue: Any) -> list[Any]:
    messages = []
    while not queue.empty():
        messages.append(queue.get())
    return messages


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return str(probe.getsockname()[1])
