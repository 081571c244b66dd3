"""Which rows go to training, validation and test: RecBole's splits, without a loop over rows or users.

Each function returns row numbers in the order in which RecBole's split puts them: users in the order of
their first row, and a user's rows in the order in which they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_sce.data.sequences import Positions, numbers

Rows = npt.NDArray[np.int64]


class _Groups:
    """Rows grouped by key; per row of ``order``, the place in its group and the size of that group."""

    def __init__(self, keys: npt.NDArray[Any]) -> None:
        codes, uniques = pd.factorize(keys)  # codes in order of first appearance
        self.order: Rows = np.argsort(codes, kind="stable")  # (n,) rows, group by group
        place = numbers(len(keys))
        sizes = np.bincount(codes, minlength=len(uniques)).astype(place.dtype)  # (g,)
        self.size: Positions = np.repeat(sizes, sizes)  # (n,)
        place -= np.repeat(np.cumsum(sizes, dtype=place.dtype) - sizes, sizes)
        self.place: Positions = place  # (n,)


def leave_one_out_rows(keys: npt.NDArray[Any], n_held_out: int) -> list[Rows]:
    """Hold out the last rows of each group, one for each held-out part, and never a group's only row.

    RecBole: ``Dataset._split_index_by_leave_one_out``. Returns ``n_held_out + 1`` arrays; where a group
    is too small, the last parts are served first.
    """
    groups = _Groups(keys)
    from_end = groups.size - 1 - groups.place  # (n,)
    held_out = from_end < np.minimum(n_held_out, groups.size - 1)
    part = np.where(held_out, n_held_out - from_end, 0).astype(np.int8)
    return [groups.order[part == p] for p in range(n_held_out + 1)]


def last_rows(keys: npt.NDArray[Any], n_parts: int) -> list[Rows]:
    """Return the last row of each group as the last part, the one before it as the part before, and so on."""
    groups = _Groups(keys)
    from_end = groups.size - 1 - groups.place  # (n,)
    return [groups.order[from_end == n_parts - 1 - part] for part in range(n_parts)]


def ratio_rows(keys: npt.NDArray[Any], cuts_of: Callable[[int], Sequence[int]]) -> list[Rows]:
    """Cut each group at the places that ``cuts_of(its size)`` names (RecBole: ``split_by_ratio``)."""
    groups = _Groups(keys)
    # Few sizes are shared by many groups: each is asked for once.
    sizes, which = np.unique(groups.size, return_inverse=True)
    cuts = np.array([cuts_of(int(size)) for size in sizes])  # (s, parts - 1)
    part = np.zeros(len(keys), dtype=np.int8)
    for cut in cuts.T:
        part += groups.place >= cut[which]
    return [groups.order[part == p] for p in range(cuts.shape[1] + 1)]


def time_rows(
    keys: npt.NDArray[Any], times: npt.NDArray[Any], ratios: tuple[float, float, float]
) -> list[Rows]:
    """Test what comes after a point in time shared by all; split a group's earlier rows by ratio.

    RecBole: ``Dataset.time_based_split``. ``times`` (n,) ascend; ``ratios`` (train, valid, test) sum to 1.
    """
    boundary = np.percentile(times, 100 * (1 - ratios[-1]))
    groups = _Groups(keys)
    early = (times <= boundary)[groups.order]  # (n,) group by group; in a group all early rows come first
    starts = np.flatnonzero(groups.place == 0)
    n_early = np.repeat(np.add.reduceat(early.astype(np.int64), starts), groups.size[starts])  # (n,)
    n_train = (n_early * (ratios[0] / (1 - ratios[2]))).astype(np.int64)
    part = (groups.place >= n_train).astype(np.int8) + (groups.place >= n_early)
    return [groups.order[part == p] for p in range(3)]
