"""The processes that train one model together: how they meet, and what they tell each other.

There are two groups of the same processes. Steps of training exchange gradients in torch's default group,
where a process that keeps the others waiting for longer than ``process_timeout`` has failed. What is said
here goes through a second one (gloo, in main memory), in which waiting is normal: for a file that the first
process writes, for a metric that it computes. In both, a process that ends closes its connections, so that
the others fail at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from recbole_sce.errors import RecboleSCEError

_T = TypeVar("_T")

#: How long processes wait for each other where waiting is normal: at the start, and for the first one's work.
PATIENCE = timedelta(minutes=30)
#: How long they wait for a download that another process of their machine makes.
_DOWNLOAD = timedelta(days=1)

_patient: Any = None
_store: Any = None
_times_joined = 0


class LayoutError(RecboleSCEError, ValueError):
    """Processes are asked for that cannot be."""


@dataclass(frozen=True)
class Layout:
    """Which processes there are, under the names that RecBole's ``run`` has for them.

    Args:
        nproc: processes of this machine.
        world_size: processes of all machines.
        group_offset: rank of this machine's first process.
        ip: address of the machine that has rank 0.
        port: a port of it that is free.

    Raises:
        LayoutError: a value is impossible; the message names key, value and what is allowed.
    """

    nproc: int
    world_size: int
    group_offset: int = 0
    ip: str = "localhost"
    port: str = "5678"

    def __post_init__(self) -> None:
        for name, least in (("nproc", 1), ("group_offset", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise LayoutError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not isinstance(self.world_size, int) or self.world_size < self.group_offset + self.nproc:
            raise LayoutError(
                f"world_size must be at least group_offset + nproc = {self.group_offset + self.nproc}, got "
                f"{self.world_size!r}: it is the number of processes of all machines"
            )
        if not (str(self.port).isdigit() and 0 < int(self.port) < 2**16):
            raise LayoutError(f"port must be a number from 1 to 65535, got {self.port!r}")


def join(layout: Layout, local_rank: int, backend: str, timeout: float) -> None:
    """Become one of the processes; returns when all are there.

    Args:
        layout: which there are.
        local_rank: this one's number among those of its machine.
        backend: what exchanges gradients, ``nccl`` or ``gloo``.
        timeout: seconds that a step waits for another process.
    """
    global _patient, _store, _times_joined
    _patient = _store = None  # of a run before
    rank = layout.group_offset + local_rank
    address = f"tcp://{layout.ip}:{layout.port}"
    store, _, _ = _meet(address, rank, layout.world_size)
    # torchrun's store outlives a run, and with it what was said there.
    _times_joined += 1
    _store = PrefixStore(f"recbole_sce {_times_joined}", store)
    dist.init_process_group(
        backend,
        store=PrefixStore("groups", _store),
        rank=rank,
        world_size=layout.world_size,
        timeout=timedelta(seconds=timeout),
    )
    _patient = dist.new_group(backend="gloo", timeout=PATIENCE)


def _meet(address: str, rank: int, world_size: int) -> Any:
    """Return what ``rendezvous`` gives; torch without libuv (Debian's) refuses it unless it is told so."""
    try:
        return next(rendezvous(address, rank, world_size, timeout=PATIENCE))
    except RuntimeError as error:
        if "without libuv" not in str(error):
            raise
        os.environ["USE_LIBUV"] = "0"
        return next(rendezvous(address, rank, world_size, timeout=PATIENCE))


def together() -> bool:
    """Return whether this process has joined others, and not left them since."""
    return _patient is not None and bool(dist.is_initialized())


def rank() -> int:
    """Return this process's number; 0 where there is only one."""
    return int(dist.get_rank()) if together() else 0


def world_size() -> int:
    """Return how many processes there are."""
    return int(dist.get_world_size()) if together() else 1


def wait() -> None:
    """Return when all processes have come here."""
    if together():
        dist.barrier(group=_patient)


def by_first(action: Callable[[], object]) -> None:
    """Let the first process do ``action``, and return when it is done; what it returns is dropped."""
    if rank() == 0:
        action()
    wait()


def from_first(value: _T) -> _T:
    """Return the value that the first process gives; it must be picklable."""
    if not together():
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0, group=_patient)
    received: _T = box[0]
    return received


def made_by_first(make: Callable[[], _T]) -> _T:
    """Return what ``make`` gives in the first process, the only one that calls it; it must be picklable."""
    made: Any = make() if rank() == 0 else None
    received: _T = from_first(made)
    return received


def gather_on_first(value: _T) -> list[_T] | None:
    """Return to the first process what each gives, by rank, and None to the others."""
    if not together():
        return [value]
    gathered: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, gathered, dst=0, group=_patient)
    return gathered


def mean(value: float) -> float:
    """Return the mean of what the processes give."""
    if not together():
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total, group=_patient)
    return float(total) / world_size()


def announce(what: str) -> None:
    """Say that ``what`` is done, to whoever waits for it now or later."""
    _store.set(what, "done")


def await_announcement(what: str) -> None:
    """Return when a process has announced ``what``."""
    _store.wait([what], _DOWNLOAD)
