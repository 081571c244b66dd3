"""What is measured of a training: seconds and scores of each epoch, values of each test user."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]

from recbole_sce.utils.requirements import installed


class EpochRecorder:
    """Seconds and scores of each epoch of a RecBole trainer.

    ``Trainer.fit`` trains by ``_train_epoch`` and validates by ``_valid_epoch``: both are timed where they
    are called, so that neither counts the other, nor checkpoints.

    Args:
        trainer: a RecBole trainer, before its ``fit``.
        on_epoch: called with each new entry of :attr:`curve`.
    """

    def __init__(self, trainer: Any, on_epoch: Callable[[dict[str, Any]], None] = lambda entry: None) -> None:
        #: One entry a validation: epochs, seconds of training (by the clock, and of processor time of all
        #: threads) and of validation so far, loss, bucket coverage, score, metrics.
        self.curve: list[dict[str, Any]] = []
        self.epochs = 0
        self.training_seconds = 0.0
        self.training_cpu_seconds = 0.0
        self.validation_seconds = 0.0
        self._loss: float | None = None
        self._trainer, self._on_epoch = trainer, on_epoch
        self._train_epoch, self._valid_epoch = trainer._train_epoch, trainer._valid_epoch
        trainer._train_epoch, trainer._valid_epoch = self._timed_train_epoch, self._timed_valid_epoch

    def _timed_train_epoch(self, *args: Any, **kwargs: Any) -> Any:
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = self._train_epoch(*args, **kwargs)
        self.training_seconds += time.perf_counter() - started
        self.training_cpu_seconds += time.process_time() - cpu_started
        self.epochs += 1
        self._loss = float(sum(loss) if isinstance(loss, tuple) else loss)
        return loss

    def _timed_valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        score, result = self._valid_epoch(*args, **kwargs)
        self.validation_seconds += time.perf_counter() - started
        self.curve.append(
            {
                "epoch": self.epochs,
                "training_seconds": self.training_seconds,
                "training_cpu_seconds": self.training_cpu_seconds,
                "validation_seconds": self.validation_seconds,
                "train_loss": self._loss,
                "coverage": getattr(self._trainer, "coverage", None),  # of SCETrainer
                "score": float(score),
                "valid": {name: float(value) for name, value in result.items()},
            }
        )
        self._on_epoch(self.curve[-1])
        return score, result

    def best(self, bigger: bool) -> dict[str, Any] | None:
        """Return the entry whose model RecBole keeps: the best, of equal ones the last; None if none."""
        sign = 1 if bigger else -1
        return max(reversed(self.curve), key=lambda entry: sign * entry["score"], default=None)


@contextmanager
def row_values() -> Iterator[dict[str, npt.NDArray[np.float64]]]:
    """Collect what RecBole's top-k metrics average, by metric: one value a row of the evaluated data."""
    from recbole.evaluator.base_metric import TopkMetric

    values: dict[str, npt.NDArray[np.float64]] = {}
    original = TopkMetric.topk_result

    def topk_result(self: Any, metric: str, value: Any) -> Any:
        for k in self.topk:
            values[f"{metric}@{k}"] = np.asarray(value[:, k - 1], dtype=np.float64)
        return original(self, metric, value)

    TopkMetric.topk_result = topk_result
    try:
        yield values
    finally:
        TopkMetric.topk_result = original


def users_of_rows(eval_data: Any) -> npt.NDArray[np.str_]:
    """Return the user of each row of RecBole's evaluation data, under the user's original id, in order."""
    field, users_of_batches = eval_data.dataset.uid_field, []
    for batch in eval_data:
        users, rows = batch[0][field].numpy(), batch[1]
        if hasattr(rows, "__len__") and not isinstance(rows, tuple):  # sampled candidates: many lines a row
            users = users[np.unique(np.asarray(rows), return_index=True)[1]]
        users_of_batches.append(users)
    return np.asarray(eval_data.dataset.id2token(field, np.concatenate(users_of_batches)), dtype=np.str_)


def mean_by_user(
    users: npt.NDArray[np.str_], values: dict[str, npt.NDArray[np.float64]]
) -> dict[str, npt.NDArray[Any]]:
    """Return one value a user and metric, users in the order of their ids, under the key ``users``.

    A user with several rows (a split by time) counts with the mean of them.
    """
    ids, row_of = np.unique(users, return_inverse=True)
    counts = np.bincount(row_of)
    means = {name: np.bincount(row_of, weights=column) / counts for name, column in values.items()}
    return {"users": ids, **means}


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, memory, device and versions."""
    import torch

    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: installed(name) for name in ("recbole_sce", "recbole", "torch", "numpy", "pandas")},
    }


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
