"""Peak memory of this process, as the system and torch count it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Optional

import psutil  # type: ignore[import-untyped]
import torch

MIB = 2**20


def peak_resident_mib() -> float:
    """Return the most memory that the process has held so far, in MiB.

    Linux can restart its count (``/proc/self/clear_refs``); this is the peak since then.
    """
    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MIB
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset) / MIB
    # ru_maxrss counts KiB on Unix, bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def peak_device_mib(device: torch.device) -> Optional[float]:
    """Return the most memory that torch has allocated on a GPU so far, in MiB; None for a CPU."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else None
