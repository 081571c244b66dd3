from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from recbole_sce.utils.memory import WorkMemory, can_measure, peak_resident_mib, resident_mib, restart_peak

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux restarts its count of peak memory")
def test_the_peak_is_counted_anew() -> None:
    block = np.ones(400 * 2**20 // 8)
    del block
    high = peak_resident_mib()
    restart_peak()
    assert peak_resident_mib() < high - 200
    assert 0 < resident_mib() <= peak_resident_mib() + 50


@pytest.mark.skipif(not can_measure(CPU), reason="peak memory of a CPU process is read from Linux's /proc")
def test_work_memory_sees_what_is_freed_again() -> None:
    memory = WorkMemory(CPU)
    memory.start()
    # above 32 MiB the C library always asks the system
    kept = torch.ones(16 * 2**20)  # 64 MiB
    passing = torch.ones(40 * 2**20)  # 160 MiB
    del passing
    assert memory.peak() == pytest.approx(224, abs=16)
    assert memory.held() == pytest.approx(64, abs=16)
    memory.start()
    assert memory.peak() == pytest.approx(0, abs=16)
    assert kept.sum() == kept.numel()
