"""``exclude_seen`` for RecBole's own sequential models, which else rank what a user has had."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_sce.data.sequences import numbers, starts_of_runs, values_of_slices
from recbole_sce.utils.patching import wrap

if TYPE_CHECKING:
    from recbole.config import Config

#: Columns of a row: where its user's history begins and ends in the log.
_START, _STOP = "__seen_from__", "__seen_to__"


def serve_exclude_seen() -> None:
    """Let RecBole's data sets note histories, and its loaders name them, if ``exclude_seen`` asks."""

    def asked(config: Config) -> bool:
        is_variant = hasattr(config.model_class, "check_config")  # which leaves them out itself
        return bool(config["exclude_seen"]) and not is_variant

    @wrap(SequentialDataset, "data_augmentation")
    def data_augmentation(original: Callable[..., Any], self: Any) -> None:
        original(self)
        if asked(self.config):
            note_histories(self)

    @wrap(FullSortEvalDataLoader, "collate_fn")
    def collate_fn(original: Callable[..., Any], self: Any, index: Any) -> Any:
        rows, history, users, items = original(self, index)
        if self.is_sequential and asked(self.config):
            history = seen_items(self._dataset, rows)
        return rows, history, users, items


def note_histories(dataset: Any) -> None:
    """Note the whole history of each row, which RecBole cuts to ``MAX_ITEM_LIST_LENGTH``.

    Args:
        dataset: RecBole's ``SequentialDataset``, right after ``data_augmentation``: a row for each item of a
            user but the first, oldest first.
    """
    rows = dataset.inter_feat
    items = rows[dataset.iid_field].numpy()
    is_first = starts_of_runs(rows[dataset.uid_field].numpy())  # (n,)
    histories = rows[getattr(dataset, f"{dataset.iid_field}_list_field")]
    firsts = histories[torch.from_numpy(is_first), 0].numpy()  # a user's first item
    stops = numbers(len(items)) + np.cumsum(is_first)  # (n,) where the row's target is in the log
    starts = np.maximum.accumulate(np.where(is_first, stops - 1, 0))
    # (n,) all items of a user after one another, oldest first
    dataset.seen_log = torch.from_numpy(np.insert(items, np.flatnonzero(is_first), firsts))
    rows.update(Interaction({_START: torch.from_numpy(starts), _STOP: torch.from_numpy(stops)}))


def seen_items(dataset: Any, rows: Interaction) -> tuple[Tensor, Tensor]:
    """Return what the users of rows have had before, without the rows' own targets.

    Args:
        dataset: the data set of the rows. Where histories come from files (``benchmark_filename``), no whole
            one was noted, and what the files hold counts.
        rows: (B,) rows of its ``inter_feat``.

    Returns:
        For each of H interactions, the place (H,) int64 in ``rows`` and the item (H,) int64.
    """
    if _STOP in rows:
        places, items = values_of_slices(dataset.seen_log, rows[_START], rows[_STOP])
    else:
        table = rows[getattr(dataset, f"{dataset.iid_field}_list_field")]
        held = torch.arange(table.shape[1]) < rows[dataset.item_list_length_field][:, None]
        places, items = held.nonzero()[:, 0], table[held]
    kept = items != rows[dataset.iid_field][places]
    return places[kept], items[kept]
