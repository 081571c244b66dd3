"""Histories as pairs of indices into a flat, sorted log, and the padded sequences made from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def next_item_rows(
    users: npt.NDArray[Any], max_length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows that predict each interaction of a user but the first from those before it.

    The same rows, in the same order, as ``SequentialDataset.data_augmentation`` of RecBole makes.

    Args:
        users: (n,) user of each interaction; a user's interactions stand together, oldest first.
        max_length: most interactions in a history; older ones are left out.

    Returns:
        Positions (m,) of the targets in the log, and lengths (m,) of the histories that end right before.
    """
    first = starts_of_runs(users)  # (n,) True at a user's first interaction
    positions = np.arange(len(users))
    user_start = np.maximum.accumulate(np.where(first, positions, 0))  # (n,)
    targets = positions[~first]  # (m,)
    return targets, np.minimum(targets - user_start[targets], max_length)


def starts_of_runs(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return (n,) True where a value differs from the one before it (the first one always does)."""
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


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
    offsets = torch.arange(width)
    padding = offsets >= lengths.unsqueeze(-1)  # (...batch, width)
    index = (starts.unsqueeze(-1) + offsets).masked_fill_(padding, 0)
    table = values[index]  # (...batch, width, ...)
    return table.masked_fill_(padding.view(padding.shape + (1,) * (table.dim() - padding.dim())), 0)
