"""Generated interaction logs: power-law items and users, and an order of items that a model can learn."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

#: How often each of an item's successors follows it, where one of them does.
SUCCESSOR_SHARES = (0.55, 0.25, 0.15, 0.05)


@dataclass(frozen=True)
class LogSpec:
    """What a generated log looks like.

    Attributes:
        n_interactions: rows of the log.
        n_items: items to draw from; rare ones may not occur in a short log.
        mean_length: about how many interactions a user has; lengths are log-normal, from ``min_length`` on.
        min_length: fewest interactions of a user (the last user of the log may have fewer).
        max_length: most interactions of a user.
        structure: share of interactions that follow from the one before; the others go by popularity.
        popularity_exponent: item of rank r is drawn in proportion to r to the minus this, from 0 up to
            less than 1.
        seed: same seed, same log.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    n_interactions: int
    n_items: int
    mean_length: float = 40.0
    min_length: int = 5
    max_length: int = 1000
    structure: float = 0.6
    popularity_exponent: float = 0.75
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_interactions", "n_items", "min_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.min_length < self.mean_length <= self.max_length:
            raise ValueError(
                f"mean_length must be more than min_length ({self.min_length}) and at most max_length "
                f"({self.max_length}), got {self.mean_length}"
            )
        if not 0 <= self.structure <= 1:
            raise ValueError(f"structure must be a share from 0 to 1, got {self.structure}")
        if not 0 <= self.popularity_exponent < 1:
            raise ValueError(
                f"popularity_exponent must be from 0 to less than 1, got {self.popularity_exponent}"
            )


class Log(NamedTuple):
    """Users, items (both from 1) and seconds since 1970 of interactions, oldest first; each (n,) int64."""

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64]


def generate_log(spec: LogSpec) -> Log:
    """Draw a log.

    Each item has a few successors, drawn once by popularity. A user's next item is one of the successors of
    the last item with probability ``spec.structure``, else any item by popularity, so that a model of the
    order ranks better than popularity does, and the number of interactions of an item follows a power law.
    """
    rng = np.random.default_rng(spec.seed)

    def popular(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        # Inverse of the distribution of a real number from 1 to n_items + 1; its whole part is the rank.
        power = 1 - spec.popularity_exponent
        ranks = (1 + rng.random(shape) * ((spec.n_items + 1) ** power - 1)) ** (1 / power)
        from_one: npt.NDArray[np.int64] = np.minimum(ranks.astype(np.int64), spec.n_items)
        return from_one - 1

    lengths = _user_lengths(spec, rng)  # (u,) longest first
    successors = popular((spec.n_items, len(SUCCESSOR_SHARES)))  # (c, s)
    shares = np.cumsum(SUCCESSOR_SHARES)[:-1]
    starts = np.cumsum(lengths) - lengths  # (u,) where each user's interactions begin
    items = np.empty(spec.n_interactions, dtype=np.int64)
    current = popular((len(lengths),))
    for step in range(int(lengths[0])):
        active = int(np.searchsorted(-lengths, -step))  # users with more than `step` interactions
        current = current[:active]
        if step > 0:
            choice = np.searchsorted(shares, rng.random(active), side="right")
            follow = rng.random(active) < spec.structure
            current = np.where(follow, successors[current, choice], popular((active,)))
        items[starts[:active] + step] = current

    users = np.repeat(rng.permutation(len(lengths)), lengths)
    gaps = rng.exponential(scale=6 * 3600, size=spec.n_interactions).astype(np.int64) + 1
    elapsed = np.cumsum(gaps)
    first = 1_500_000_000 + rng.integers(0, 365 * 86400, size=len(lengths))  # (u,)
    timestamps = np.repeat(first - elapsed[starts], lengths) + elapsed
    order = np.argsort(timestamps, kind="stable")
    names = rng.permutation(spec.n_items)  # an item's number says nothing about its popularity
    return Log(users[order] + 1, names[items[order]] + 1, timestamps[order])


def write_inter(log: Log, data_path: str | os.PathLike[str], name: str) -> Path:
    """Write ``data_path/name/name.inter``, an atomic file of RecBole, and return its path."""
    path = Path(data_path) / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        {"user_id:token": log.users, "item_id:token": log.items, "timestamp:float": log.timestamps}
    ).to_csv(path, sep="\t", index=False)
    return path


def _user_lengths(spec: LogSpec, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return interactions per user (u,), longest first, ``spec.n_interactions`` in all."""
    sigma = 1.0
    mu = np.log(spec.mean_length - spec.min_length) - sigma**2 / 2
    # Every user has at least min_length, so that this many are enough.
    n_users = -(-spec.n_interactions // spec.min_length)
    extra = rng.lognormal(mu, sigma, n_users).astype(np.int64)
    lengths = np.minimum(spec.min_length + extra, spec.max_length)
    total = np.cumsum(lengths)
    n_needed = int(np.searchsorted(total, spec.n_interactions)) + 1
    lengths = lengths[:n_needed]
    lengths[-1] -= total[n_needed - 1] - spec.n_interactions
    return np.sort(lengths)[::-1]
