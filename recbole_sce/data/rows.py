"""Rows over a log: columns that are stored, and padded sequences that are made when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_sce.data.sequences import gather_padded, histories_and_targets
from recbole_sce.errors import RecboleSCEError

#: Private column of rows: position in the log of a row's target.
POSITION = "__position__"

Index = int | slice | range | list[int] | npt.NDArray[Any] | Tensor


class Rows(Interaction):  # type: ignore[misc]
    """The interactions of a sequential data set: a column ``X_list`` of RecBole's is made when it is read.

    ``rows["item_id_list"]`` is (n, L), as in RecBole's ``inter_feat``, and takes that much memory for as long
    as it is held. Iteration and ``columns`` name what is stored.

    Args:
        columns: the stored ones, among them :data:`POSITION` and ``length_field``.
        log: flat columns of all interactions.
        width: L, of all sequences.
        length_field: the column of lengths of histories.
        sources: for each column that can be made, the column of ``log`` that it is made of.
    """

    log: Interaction
    width: int
    length_field: str
    sources: dict[str, str]

    def __init__(
        self,
        columns: dict[str, Tensor],
        log: Interaction,
        width: int,
        length_field: str,
        sources: dict[str, str],
    ) -> None:
        super().__init__(columns)
        self.log, self.width, self.length_field, self.sources = log, width, length_field, sources

    def __getitem__(self, index: str | Index) -> Any:
        if not isinstance(index, str):
            return self.like(select(self, index))
        if index not in self.interaction and index in self.sources:
            return self.sequences(index)
        return self.interaction[index]

    def __contains__(self, item: str) -> bool:
        return item in self.interaction or item in self.sources

    def drop(self, column: str) -> None:
        """Drop a column, stored or not."""
        if column in self.sources and column not in self.interaction:
            self.sources = {name: source for name, source in self.sources.items() if name != column}
        else:
            super().drop(column)

    def like(self, rows: Interaction) -> Rows:
        """Return other rows over the same log."""
        return Rows(rows.interaction, self.log, self.width, self.length_field, self.sources)

    def sequences(self, name: str, width: int | None = None) -> Tensor:
        """Return the histories (n, width, ...) that end right before the rows' targets, 0 behind their end.

        Args:
            name: of the column.
            width: at least the longest history; None is L.
        """
        starts, lengths = self._slices()
        return widen(gather_padded(self.log[self.sources[name]], starts, lengths, width or self.width))

    def sequences_and_targets(self, name: str, n_targets: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return histories as :meth:`sequences` does, and what follows each of their last ``n_targets`` (n,).

        Returns:
            Two tables (n, width) int64, 0 where there is nothing.
        """
        starts, lengths = self._slices()
        tables = histories_and_targets(self.log[self.sources[name]], starts, lengths, n_targets, width)
        return widen(tables[0]), widen(tables[1])

    def _slices(self) -> tuple[Tensor, Tensor]:
        """Return where the histories (n,) begin in the log, and their lengths (n,)."""
        lengths = self.interaction[self.length_field].long()
        return self.interaction[POSITION].long() - lengths, lengths


class MissingFieldError(RecboleSCEError, KeyError):
    """A batch lacks a field; ``field`` is its name."""

    __str__ = RecboleSCEError.__str__  # a KeyError shows its message in quotes

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Batch(Interaction):  # type: ignore[misc]
    """Rows with their sequences as a model takes them; a field that is missing is named with the remedy."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str) and index not in self.interaction:
            raise MissingFieldError(
                f"the batch has no field {index!r}; it has {', '.join(self.interaction)}. The history of a "
                "further column of the interactions is there if the model's class names the column in its "
                "attribute sequence_fields, such as ('timestamp',), and load_col loads it",
                index,
            )
        return super().__getitem__(index)

    def to(self, device: Any, selected_field: Any = None) -> Batch:
        """Return the batch on ``device`` (RecBole: ``Interaction.to``)."""
        return Batch(super().to(device, selected_field).interaction)


def select(interaction: Interaction, index: Index) -> Interaction:
    """Return rows of an ``Interaction`` (which itself would turn an array into a list of numbers)."""
    if isinstance(index, range):
        index = np.arange(index.start, index.stop, index.step)
    if isinstance(index, np.ndarray):
        index = torch.from_numpy(index)
    return Interaction({field: column[index] for field, column in interaction.interaction.items()})


def compact(column: Tensor) -> Tensor:
    """Return whole numbers as int32 where they fit: how columns are kept."""
    if column.dtype is torch.int64 and int(column.max()) < 2**31:
        return column.int()
    return column


def widen(column: Tensor) -> Tensor:
    """Return whole numbers as int64: how RecBole's models get columns."""
    return column.long() if column.dtype is torch.int32 else column
