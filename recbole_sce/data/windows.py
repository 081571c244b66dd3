"""Which training rows become windows, so that each target is trained exactly once in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_sce.data.sequences import starts_of_runs


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
    n = len(continues)
    starts = ~continues
    starts[:1] = True
    run_starts = np.flatnonzero(starts)  # (r,)
    sizes = np.diff(run_starts, append=n)  # (r,)
    # A row is the last of its window if a whole number of windows lies between it and the end of its run.
    run_ends = np.repeat(run_starts + sizes, sizes)  # (n,) one past the last row of the run
    to_end = run_ends - np.arange(n) - 1  # (n,)
    last_rows = np.flatnonzero(to_end % max_length == 0)  # (w,)
    before = np.repeat(run_starts, sizes)[last_rows]  # (w,) first row of the run
    return last_rows, np.minimum(last_rows - before + 1, max_length)


def continues_position(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return (n,) whether an ascending position in the log follows right after the one before it.

    A user's first interaction is never a target, so that a run never passes from one user to the next.
    """
    return ~starts_of_runs(positions - np.arange(len(positions)))


def continues_history(
    items: npt.NDArray[Any],
    targets: npt.NDArray[np.integer[Any]],
    lengths: npt.NDArray[np.integer[Any]],
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
