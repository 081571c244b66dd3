"""How much memory a piece of work needs at its peak, seen by the kernel or by the GPU's allocator."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch

_MIB = 2**20


def can_measure(device: torch.device) -> bool:
    """Return whether :class:`PeakMemory` works for ``device`` on this system (CPU: Linux only)."""
    return device.type == "cuda" or sys.platform.startswith("linux")


class PeakMemory:
    """Peak of resident memory since :meth:`start`, and what is held now, both in MiB above the start.

    On the CPU it is the process's resident set: the kernel's high-water mark (``VmHWM`` in
    ``/proc/self/status``), set back by writing 5 to ``/proc/self/clear_refs``. Free memory that the C
    library still holds is given back first, so that what the work reuses is counted as well.
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
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = self._now()

    def peak(self) -> float:
        """Return the peak since the start."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device) / _MIB - self._before
        return _status("VmHWM") - self._before

    def peak_resident(self) -> float:
        """Return the peak since the start with all that was there before."""
        return self.peak() + self._before

    def held(self) -> float:
        """Return what is held now."""
        self._settle()
        return self._now() - self._before

    def _now(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device) / _MIB
        return _status("VmRSS")

    def _settle(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)


def _status(key: str) -> float:
    """Return an entry of ``/proc/self/status`` in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {key}")
