"""The loader of training batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from torch.utils.data.distributed import DistributedSampler

from recbole_sce.data.batches import BatchBound, Shard, make_batches, n_batches
from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.data.transfer import HostBatch

#: Transforms of RecBole that read a row up to its length and leave its padding behind it.
_TRANSFORMS_BEFORE_PADDING = (None, "mask_itemseq", "crop_itemseq", "reorder_itemseq")


class SequenceDataLoader(TrainDataLoader):  # type: ignore[misc]
    """RecBole's training loader, of a data set's windows, where it has any, else of its rows.

    A model that declares ``ignores_padding`` gets rows of like length together, cut to the longest of them
    (:mod:`recbole_sce.data.batches`). Any other gets RecBole's batches, ``MAX_ITEM_LIST_LENGTH`` wide. With
    ``train_batch_positions`` a batch has about that many targets instead of ``train_batch_size`` rows.
    """

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        if isinstance(self._dataset, IndexedSequenceDataset):
            self.sample_size = len(self._dataset.training_rows)

    @property
    def cuts_padding(self) -> bool:
        """Whether batches are as wide as their longest row."""
        ignores = getattr(self.config.model_class, "ignores_padding", False)
        return bool(ignores) and self.config["transform"] in _TRANSFORMS_BEFORE_PADDING

    @property
    def _index_sampler(self) -> Any:
        if not isinstance(self._dataset, IndexedSequenceDataset):
            return super()._index_sampler
        # torch: the indices of one batch after the other, read once an epoch. RecBole's own sampler stays: it
        # holds the generator, or the epoch and the rank, by which rows are drawn.
        return _Batches(self)

    def collate_fn(self, index: list[int]) -> Interaction:
        """Return the batch of training rows ``index`` (RecBole's contract)."""
        if isinstance(self._dataset, IndexedSequenceDataset):
            batch = self._dataset.training_batch(np.array(index), cut=self.cuts_padding)
            batch = self._neg_sampling(self.transform(self._dataset, batch))
        else:
            batch = super().collate_fn(index)
        return HostBatch(batch.interaction)


class _Batches:
    """The batches of an epoch of a loader, as lists of row numbers."""

    def __init__(self, loader: SequenceDataLoader) -> None:
        self._loader = loader
        sampler = loader.sampler
        self._shard = Shard()
        if isinstance(sampler, DistributedSampler):
            self._shard = Shard(sampler.rank, sampler.num_replicas)
        config = loader.config
        self._bound = BatchBound(config["train_batch_size"], config["train_batch_positions"])
        self._lengths, self._n_targets = loader._dataset.training_sizes()

    def __len__(self) -> int:
        total = int(self._n_targets.sum(dtype=np.int64))
        return n_batches(len(self._lengths), total, self._bound, self._shard.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = make_batches(
            self._lengths,
            self._n_targets,
            self._bound,
            self._loader.shuffle,
            self._loader.cuts_padding,
            _generator(self._loader.sampler),
            self._shard,
        )
        return (rows.tolist() for rows in batches)


def _generator(sampler: Any) -> torch.Generator:
    """Return what a sampler of torch draws its order from, in the state in which it would draw."""
    generator: torch.Generator | None = getattr(sampler, "generator", None)
    if generator is None:
        generator = torch.Generator()
        if isinstance(sampler, DistributedSampler):
            generator.manual_seed(sampler.seed + sampler.epoch)
        else:
            generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
    return generator
