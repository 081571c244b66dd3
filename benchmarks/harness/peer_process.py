"""What the processes of :mod:`harness.peers` share: their case, the log, and what they hand back.

Each runs in an environment of its own, with the packages of one peer: this file imports what all have.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

USER, ITEM, TIME = "user_id:token", "item_id:token", "timestamp:float"


@dataclass(frozen=True)
class PeerCase:
    """What a process does.

    Attributes:
        model: of RecBole's registry, or the peer's name.
        loss: loss_type of recbole_sce; nothing for the peers, which take exact cross-entropy.
        recipe: of recbole_sce; nothing for the model's own.
        dataset: name of the log, ``data_path/dataset/dataset.inter``.
        data_path: the folder of logs.
        folder: where the process works, and where it leaves its lists.
        epochs: of training; lists are made after each.
        max_length, width, layers, heads: of the encoder.
        k: length of the lists.
        seed: of training.
    """

    model: str
    loss: str
    recipe: str
    dataset: str
    data_path: str
    folder: str
    epochs: int
    max_length: int
    width: int
    layers: int
    heads: int
    k: int
    seed: int

    @classmethod
    def from_arguments(cls) -> PeerCase:
        """Return the case of this process, which is its only argument, as JSON."""
        case = cls(**json.loads(sys.argv[1]))
        sys.argv = sys.argv[:1]  # RecBole reads settings there
        return case

    def log(self) -> pd.DataFrame:
        """Return the log: users and items as text, and times that order each user's interactions."""
        path = Path(self.data_path) / self.dataset / f"{self.dataset}.inter"
        return pd.read_csv(path, sep="\t", dtype={USER: str, ITEM: str, TIME: np.int64})


class Epochs:
    """Measures the training of epochs: processor time, targets, and the peak of resident memory of the first.

    The first epoch's peak is that of reading the log, making the data and training on them; what comes later
    holds the lists, too, which are no part of the comparison.
    """

    def __init__(self, case: PeerCase, versions: dict[str, str]) -> None:
        self._case, self._versions = case, versions
        self._began = 0.0
        self.seconds = 0.0
        self.targets = 0
        self.peak_mib = 0.0
        self._measured: list[tuple[float, int]] = []

    def begin(self) -> None:
        """Begin an epoch."""
        self.targets, self._began = 0, time.process_time()

    def end(self) -> None:
        """End it."""
        self.seconds += time.process_time() - self._began
        self._measured.append((self.seconds, self.targets))
        if not self.peak_mib:
            self.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def hand_back(self, epoch: int, users: Any, lists: Any) -> None:
        """Write the (n, k) items of n users after ``epoch`` (from 1), and say what training took so far."""
        np.savez(Path(self._case.folder) / f"lists-{epoch}.npz", users=_texts(users), items=_texts(lists))
        seconds, targets = self._measured[epoch - 1]
        record = {"epoch": epoch, "training_cpu_seconds": seconds, "targets": targets}
        print(f"\n{json.dumps({**record, 'peak_mib': self.peak_mib, **self._versions})}", flush=True)


def hand_back_targets(case: PeerCase, users: Any, items: Any) -> None:
    """Write the item that the peer's own split holds out for the test of each user."""
    np.savez(Path(case.folder) / "targets.npz", users=_texts(users), items=_texts(items))


def _texts(values: Any) -> Any:
    return np.asarray(values).astype(np.str_)


def seen_items(users: Any, items: Any, n_users: int) -> Callable[[Any], tuple[Any, Any]]:
    """Return a function from (b,) user numbers to row and item numbers of what they have interacted with."""
    order = np.argsort(users, kind="stable")
    sorted_items = np.asarray(items)[order]
    ends = np.cumsum(np.bincount(users, minlength=n_users))

    def of(batch: Any) -> tuple[Any, Any]:
        starts = np.where(batch > 0, ends[batch - 1], 0)
        lengths = ends[batch] - starts
        rows = np.repeat(np.arange(len(batch)), lengths)
        offsets = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, sorted_items[np.repeat(starts, lengths) + offsets]

    return of
