"""Which training rows become windows, so that each target is trained exactly once in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_sce.data.sequences import Positions, numbers, starts_of_runs


def cut_windows(
    continues: npt.NDArray[np.bool_], max_length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut runs of rows, each of which adds one target to the row before it, into windows.

    A window stands for its last row and trains the targets of the rows before it too. Windows are cut
    from the end of a run, so that the newest window is full and every row is in exactly one window.

    Args:
        continues: (n,) whether the history of a row is that of the row before it plus that row's target.
        max_length: most targets in a window.

    Returns:
        The last row (w,) of each window, ascending, and its number of targets (w,) from 1 to ``max_length``.
    """
    starts = ~continues
    starts[:1] = True
    first_rows = np.flatnonzero(starts)  # (r,) of each run
    sizes = np.diff(first_rows, append=len(continues))  # (r,)
    n_windows = -(-sizes // max_length)  # (r,)
    run = np.repeat(np.arange(len(sizes)), n_windows)  # (w,) of each window
    newer = np.cumsum(n_windows)[run] - np.arange(len(run)) - 1  # (w,) windows of the run that come after
    last_rows = first_rows[run] + sizes[run] - 1 - newer * max_length
    return last_rows, np.minimum(last_rows - first_rows[run] + 1, max_length)


def continues_position(positions: Positions) -> npt.NDArray[np.bool_]:
    """Return (n,) whether an ascending position in the log follows right after the one before it.

    A user's first interaction is never a target, so that a run never passes from one user to the next.
    """
    return ~starts_of_runs(positions - numbers(len(positions)))


def continues_history(
    items: npt.NDArray[Any],
    targets: Positions,
    lengths: Positions,
    users: npt.NDArray[Any],
) -> npt.NDArray[np.bool_]:
    """Return (n,) whether a row's history is that of the row before it plus that row's target.

    Args:
        items: (m,) histories, each with its target behind it.
        targets: (n,) where in ``items`` the target of each row is.
        lengths: (n,) of the histories, at least 1. At the greatest length the oldest item is left out.
        users: (n,).
    """
    previous = np.roll(targets, 1)
    fits: npt.NDArray[np.bool_] = (
        lengths == np.minimum(np.roll(lengths, 1) + 1, lengths.max(initial=0))
    ) & ~starts_of_runs(users)
    rows = np.flatnonzero(fits)  # (r,)
    if len(rows) == 0:
        return fits
    # Compare the histories (k items in all) with what is as far from the end of the row before.
    sizes = lengths[rows].astype(np.int64)  # (r,)
    starts = np.cumsum(sizes) - sizes
    from_end = np.arange(sizes.sum()) - np.repeat(starts, sizes)  # (k,)
    same = (
        items[np.repeat(targets[rows] - 1, sizes) - from_end]
        == items[np.repeat(previous[rows], sizes) - from_end]
    )
    fits[rows] = np.logical_and.reduceat(same, starts)
    return fits
