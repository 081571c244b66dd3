"""What the training steps of an epoch cover and cost, for the log and for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from recbole_sce.loss import stats_of
from recbole_sce.training.callbacks.base import CalculateLoss, Callback
from recbole_sce.utils import processes
from recbole_sce.utils.memory import peak_device_mib, peak_resident_mib

#: The share of states that fell into at least one bucket, on average over the steps (of all processes).
COVERAGE = "Coverage/Train"
#: Wall time of a step, with the making of its batch, on average over the steps.
SECONDS = "Step/seconds"
#: Peaks of the process up to the end of the epoch.
RESIDENT, DEVICE = "Step/peak_resident_MiB", "Step/peak_device_MiB"


class EpochSteps(Callback):
    """Watches the steps of each epoch.

    Args:
        model: has ``loss_fct``, whose ``last_stats`` tell the coverage where the loss has buckets.
        device: that the model is on.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._done = 0
        self._coverages: list[float] = []
        #: What is known of the last epoch, by TensorBoard tag.
        self.scalars: dict[str, float] = {}

    @contextmanager
    def epoch(self, epoch: int, n_steps: int) -> Iterator[None]:
        """Begin anew, and set :attr:`scalars` at the end."""
        started = time.perf_counter()
        self._done, self._coverages = 0, []
        yield
        self.scalars = self._scalars(time.perf_counter() - started)

    def watched(self, calculate_loss: CalculateLoss) -> CalculateLoss:
        """Return ``calculate_loss`` with every call noted."""

        def watch(interaction: Any) -> Any:
            losses = calculate_loss(interaction)
            self._done += 1
            coverage = stats_of(self._model.loss_fct, 0).bucket_coverage
            if coverage is not None:
                self._coverages.append(coverage)
            return losses

        return watch

    def _scalars(self, seconds: float) -> dict[str, float]:
        scalars = {RESIDENT: peak_resident_mib()}
        if self._done:
            scalars[SECONDS] = seconds / self._done
        if self._coverages:
            scalars[COVERAGE] = processes.mean(sum(self._coverages) / len(self._coverages))
        on_device = peak_device_mib(self._device)
        if on_device is not None:
            scalars[DEVICE] = on_device
        return scalars
