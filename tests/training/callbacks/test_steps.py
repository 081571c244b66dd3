"""What TensorBoard and the log are told of the steps of an epoch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recbole.quick_start import run_recbole

from recbole_sce.loss import ItemLoss, LossStats
from recbole_sce.training.callbacks import steps
from recbole_sce.utils.memory import peak_device_mib, peak_resident_mib, resident_mib


def test_means_are_over_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0])
    monkeypatch.setattr(steps.time, "perf_counter", lambda: next(clock))

    class Loss(ItemLoss):
        last_stats = LossStats()

    loss_fct = Loss()
    watching = steps.EpochSteps(SimpleNamespace(loss_fct=loss_fct), torch.device("cpu"))

    def calculate_loss(coverage: float) -> float:
        Loss.last_stats = LossStats(bucket_coverage=coverage)
        return 10 * coverage

    watched = watching.watched(calculate_loss)
    with watching.epoch(0, 2):
        assert [watched(coverage) for coverage in (0.5, 1.0)] == [5.0, 10.0]
    scalars = watching.scalars
    assert scalars[steps.COVERAGE] == 0.75
    assert scalars[steps.SECONDS] == 1.5
    assert steps.DEVICE not in scalars


def test_a_gpu_has_a_peak_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {device: 3 * 2**20}.__getitem__)
    watching = steps.EpochSteps(SimpleNamespace(loss_fct=None), device)
    with watching.epoch(0, 0):
        pass
    assert watching.scalars[steps.DEVICE] == 3
    assert peak_device_mib(torch.device("cpu")) is None


def test_a_peak_stays_when_memory_is_given_back() -> None:
    block = torch.ones(128 * 2**20, dtype=torch.uint8)
    held = resident_mib()
    del block
    assert resident_mib() < held - 100
    assert peak_resident_mib() > held - 16  # the kernel's counts may lag behind by some pages


@pytest.mark.slow
def test_tensorboard_has_them_beside_recboles(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run_recbole("SASRecSCE", "tiny", config_dict={**tiny_dataset, "epochs": 2})
    (folder,) = (tmp_path / "log_tensorboard").iterdir()
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    scalars = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert {"Loss/Train", "Vaild_score"} <= set(scalars)
    assert {steps.COVERAGE, steps.SECONDS, steps.RESIDENT} <= set(scalars)
    for tag in ("Loss/Train", steps.COVERAGE, steps.SECONDS, steps.RESIDENT):
        assert len(scalars[tag]) == 2, tag
        assert min(scalars[tag]) > 0, tag
