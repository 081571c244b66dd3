"""The data set of plugin models whose base reads a knowledge graph."""

from __future__ import annotations

from recbole.data.dataset import KGSeqDataset

from recbole_sce.data.dataset import IndexedSequenceDataset


class IndexedKGSeqDataset(IndexedSequenceDataset, KGSeqDataset):  # type: ignore[misc]
    """Sequences as indices, items linked to the entities of a knowledge graph (RecBole: ``KGSeqDataset``)."""
