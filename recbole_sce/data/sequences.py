"""Histories as pairs of indices into a flat, sorted log, and the padded sequences made from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Positions = npt.NDArray[np.signedinteger[Any]]


def next_item_rows(users: npt.NDArray[Any], max_length: int) -> tuple[Positions, Positions]:
    """Return the rows that predict each interaction of a user but the first from those before it.

    The same rows, in the same order, as ``SequentialDataset.data_augmentation`` of RecBole makes.

    Args:
        users: (n,) user of each interaction; a user's interactions stand together, oldest first.
        max_length: most interactions in a history; older ones are left out.

    Returns:
        Positions (m,) of the targets in the log, and lengths (m,) of the histories that end right before.
    """
    later = ~starts_of_runs(users)  # (n,) False at a user's first interaction
    positions = numbers(len(users))
    user_start = np.where(later, 0, positions)  # (n,)
    np.maximum.accumulate(user_start, out=user_start)
    history = np.subtract(positions, user_start, out=user_start)  # (n,) interactions of the user before
    return positions[later], np.minimum(history[later], max_length)


def numbers(n: int) -> Positions:
    """Return 0 to ``n - 1``, in 32 bits if that is enough: temporary columns count where logs are large."""
    return np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)


def starts_of_runs(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return (n,) True where a value differs from the one before it (the first one always does)."""
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


def values_of_slices(values: Tensor, starts: Tensor, stops: Tensor) -> tuple[Tensor, Tensor]:
    """Copy slices of a flat column one after the other.

    Args:
        values: (n,) one column of the log.
        starts: (B,) int64 where each slice begins.
        stops: (B,) int64 where it ends.

    Returns:
        The slice (H,) int64 that each value is of, and the values (H,).
    """
    lengths = stops - starts
    of = torch.arange(len(starts)).repeat_interleave(lengths)  # (H,)
    return of, values[torch.arange(len(of)) + (stops - lengths.cumsum(0))[of]]


def gather_padded(values: Tensor, starts: Tensor, lengths: Tensor, width: int) -> Tensor:
    """Copy slices of a flat column into one table, padded with zeros at the end.

    Args:
        values: (n, ...) one column of the log.
        starts: (...batch) int64 where each slice begins.
        lengths: (...batch) int64 how long it is, at most ``width``.
        width: columns of the table.

    Returns:
        (...batch, width, ...) of the dtype of ``values``.
    """
    # In numpy: torch would wake its threads for each of these small steps, which costs more than it saves.
    offsets = np.arange(width)
    padding = offsets >= lengths.numpy()[..., None]  # (...batch, width)
    index = starts.numpy()[..., None] + offsets
    index[padding] = 0
    table = values.numpy().take(index, axis=0)  # (...batch, width, ...)
    table[padding] = 0
    return torch.from_numpy(table)


def histories_and_targets(
    values: Tensor, starts: Tensor, lengths: Tensor, n_targets: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Copy histories, and the value that follows each of their last values, into two tables.

    Args:
        values: (n,) one column of the log.
        starts: (B,) int64 where each history begins.
        lengths: (B,) int64 how long it is, from 1 to ``width``; one more value must follow it.
        n_targets: (B,) int64 how many of its last values have a target.
        width: columns of the tables.

    Returns:
        Two tables (B, width) of the dtype of ``values``: histories, 0 behind their end, and targets, 0 where
        there is none.
    """
    joined = gather_padded(values, starts, lengths + 1, width + 1).numpy()  # (B, width + 1)
    columns, sizes = np.arange(width), lengths.numpy()[:, None]
    histories = np.where(columns < sizes, joined[:, :-1], 0)
    targets = np.where(columns >= sizes - n_targets.numpy()[:, None], joined[:, 1:], 0)
    return torch.from_numpy(histories), torch.from_numpy(targets)
