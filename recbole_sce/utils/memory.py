"""Memory of this process and of its GPU in MiB: what is held now, and the peak."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

MIB = 2**20
#: Writing 5 to this file restarts the count of peak memory (Linux).
_COUNT = Path("/proc/self/clear_refs")


def resident_mib() -> float:
    """Return the memory that the process holds now, in MiB."""
    return float(psutil.Process().memory_info().rss) / MIB


def peak_resident_mib() -> float:
    """Return the most memory that the process held since it started or :func:`restart_peak`, in MiB."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MIB
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset) / MIB
    return _largest_mib(resource.RUSAGE_SELF)


def peak_children_mib() -> float:
    """Return the peak of the largest child process that has ended, in MiB; 0 without any or on Windows."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return _largest_mib(resource.RUSAGE_CHILDREN)


def restart_peak() -> None:
    """Restart the count of :func:`peak_resident_mib` where the system can (Linux); elsewhere do nothing."""
    with suppress(OSError):
        _COUNT.write_text("5", encoding="ascii")


def peak_device_mib(device: torch.device) -> float | None:
    """Return the most memory that torch has allocated on a GPU so far, in MiB; None for a CPU."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else None


def can_measure(device: torch.device) -> bool:
    """Return whether :class:`WorkMemory` works for ``device`` on this system (CPU: Linux only)."""
    return device.type == "cuda" or sys.platform.startswith("linux")


class WorkMemory:
    """Memory of one piece of work in MiB above what was held at its :meth:`start`.

    On a GPU it is what torch has allocated, on the CPU the resident set of the process. The C library first
    gives back free memory that it still holds, so that memory which the work reuses counts as well.

    Args:
        device: where the work is done; :func:`can_measure` says whether it can be measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0.0

    def start(self) -> None:
        """Take the present state as the start."""
        self._settle()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            restart_peak()
        self._before = self._now()

    def peak(self) -> float:
        """Return the peak since the start."""
        return self.peak_in_all() - self._before

    def peak_in_all(self) -> float:
        """Return the peak since the start, with what was held before."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device) / MIB
        return peak_resident_mib()

    def held(self) -> float:
        """Return what is held now."""
        self._settle()
        return self._now() - self._before

    def _now(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device) / MIB
        return resident_mib()

    def _settle(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)


def _largest_mib(who: int) -> float:
    import resource

    # ru_maxrss counts KiB on Unix, bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / MIB
