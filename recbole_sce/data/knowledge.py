"""The data set of plugin models whose base reads a knowledge graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.data.dataset import KGSeqDataset

from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.settings import SettingsError
from recbole_sce.settings.schema import sentence

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset


class IndexedKGSeqDataset(IndexedSequenceDataset, KGSeqDataset):  # type: ignore[misc]
    """Sequences as indices, items linked to the entities of a knowledge graph (RecBole: ``KGSeqDataset``)."""


def check_width(config: Config, dataset: SequentialDataset, key: str) -> None:
    """Check that ``key`` is the width of the vectors of entities (``preload_weight: {ent_id: ...}``).

    Raises:
        SettingsError: it is not.
    """
    width = dataset.get_preload_weight("ent_id").shape[1]
    if config[key] != width:
        remedy = "the entities' vectors are that wide"
        raise SettingsError(sentence(key, f"{width} with this preload_weight", config[key], remedy))
