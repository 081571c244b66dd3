"""The learning rate over the steps of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from factory import SMALL, prepare_trainer
from torch import nn

from recbole_sce.training.callbacks.schedule import LinearSchedule, linear


def rates(epochs: int, n_steps: int, first: int = 0) -> list[float]:
    """The rates of all steps from epoch ``first`` on, with a full rate of 2."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    schedule, seen = LinearSchedule(optimizer, epochs), []
    parameter.grad = torch.ones(1)
    for epoch in range(first, epochs):
        with schedule.epoch(epoch, n_steps):
            for _ in range(n_steps):
                optimizer.step()
                seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_rises_in_a_twentieth_and_falls_to_nothing() -> None:
    assert [linear(progress) for progress in (0, 0.025, 0.05, 0.525, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_each_step_has_its_own_rate_and_none_is_without() -> None:
    seen = rates(epochs=4, n_steps=10)
    assert seen == pytest.approx([2 * linear((step + 0.5) / 40) for step in range(40)])
    assert min(seen) > 0


def test_follows_from_the_epoch_alone() -> None:
    assert rates(epochs=4, n_steps=10, first=2) == rates(epochs=4, n_steps=10)[20:]


def test_steps_beyond_the_last_epoch_do_nothing() -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    parameter.grad = torch.ones(1)
    with LinearSchedule(optimizer, 1).epoch(3, 1):
        optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0


def test_a_run_trains_by_it(tiny_dataset: dict[str, Any]) -> None:
    settings = {**tiny_dataset, **SMALL, "epochs": 2, "learning_rate_schedule": "linear"}
    made = prepare_trainer("SASRecSCE", "tiny", settings)
    made.trainer.fit(made.train, saved=False, verbose=False)
    n_steps = 2 * len(made.train)
    last = made.trainer.learning_rate * linear((n_steps - 0.5) / n_steps)
    assert made.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(last)
