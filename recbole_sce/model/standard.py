"""Models of which nothing has to be said but whether their encoder is causal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.model import sequential_recommender as recbole_models

from recbole_sce.data.knowledge import check_width
from recbole_sce.model.mixin import SCEMixin

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset


class GRU4RecSCE(SCEMixin, recbole_models.GRU4Rec):  # type: ignore[misc]
    """Recurrent network (Tan et al., 2016)."""

    causal = True
    ignores_padding = True


class GRU4RecFSCE(SCEMixin, recbole_models.GRU4RecF):  # type: ignore[misc]
    """Recurrent networks over items and their features (Hidasi et al., 2016).

    Needs item features: ``selected_features``, loaded by ``load_col: {item: [...]}``.
    """

    causal = True
    ignores_padding = True


class GRU4RecKGSCE(SCEMixin, recbole_models.GRU4RecKG):  # type: ignore[misc]
    """Recurrent networks over items and their knowledge-graph embeddings.

    Needs a knowledge graph and ``preload_weight: {ent_id: ...}``, embeddings of its entities.
    """

    causal = True
    ignores_padding = True

    def __init__(self, config: Config, dataset: SequentialDataset) -> None:
        check_width(config, dataset, "embedding_size")
        super().__init__(config, dataset)


class SASRecFSCE(SCEMixin, recbole_models.SASRecF):  # type: ignore[misc]
    """Causal self-attention over items joined with their features.

    Needs item features: ``selected_features``, loaded by ``load_col: {item: [...]}``.
    """

    causal = True
    ignores_padding = True


class FDSASCE(SCEMixin, recbole_models.FDSA):  # type: ignore[misc]
    """Causal self-attention over items, and over their features (Zhang et al., 2019).

    Needs item features: ``selected_features``, loaded by ``load_col: {item: [...]}``.
    """

    causal = True
    ignores_padding = True


class NARMSCE(SCEMixin, recbole_models.NARM):  # type: ignore[misc]
    """Recurrent network with attention from its last state (Li et al., 2017)."""

    ignores_padding = True


class STAMPSCE(SCEMixin, recbole_models.STAMP):  # type: ignore[misc]
    """Attention from the last item and the mean of all (Liu et al., 2018)."""


class SRGNNSCE(SCEMixin, recbole_models.SRGNN):  # type: ignore[misc]
    """Gated graph network over a session's graph (Wu et al., 2019).

    RecBole builds the graphs in Python, a row at a time.
    """

    ignores_padding = True


class LightSANsSCE(SCEMixin, recbole_models.LightSANs):  # type: ignore[misc]
    """Self-attention through a few latent interests of the whole sequence (Fan et al., 2021)."""
