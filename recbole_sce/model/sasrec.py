"""SASRec (Kang and McAuley, 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from recbole.model.sequential_recommender import SASRec

from recbole_sce.model.sce import SCEMixin

if TYPE_CHECKING:
    from recbole.config import Config

    from recbole_sce.data.dataset import IndexedSequenceDataset

#: Interactions of a user, on average, from which on data count as dense. Of the data sets that were searched
#: those with 9 and 10 end higher with the dropout of sparse data, those with 29 and more do not
#: (docs/experiments.md).
DENSE_FROM = 20
DROPOUT_OF_SPARSE_DATA = 0.5
DROPOUT_OF_DENSE_DATA = 0.2
_DROPOUTS = ("hidden_dropout_prob", "attn_dropout_prob")


class SASRecSCE(SCEMixin, SASRec):  # type: ignore[misc]
    """Causal self-attention (Kang and McAuley, 2018).

    Unless set, dropout is 0.5 where a user has fewer than 20 interactions on average, else 0.2
    (docs/experiments.md).
    """

    causal = True

    @classmethod
    def encoder_settings(cls, config: Config, dataset: IndexedSequenceDataset) -> dict[str, Any]:
        """Return what :meth:`SCEMixin.encoder_settings` does, and dropouts in the place of null."""
        settings = super().encoder_settings(config, dataset)
        unset = [key for key in _DROPOUTS if config[key] is None]
        if unset:
            density = dataset.interactions_per_user
            chosen = dict.fromkeys(unset, dropout_for(density))
            logging.getLogger().info(
                f"A user has {density:.1f} interactions on average: "
                + ", ".join(f"{key} = {value}" for key, value in chosen.items())
            )
            settings.update(chosen)
        return settings


def dropout_for(interactions_per_user: float) -> float:
    """Return the dropout for data in which a user has so many interactions on average.

    Sparse data overfit and need RecBole's 0.5; dense data do not, and are learned several times as fast with
    0.2. Kang and McAuley (2018, implementation details) took the same two for MovieLens and sparser data.
    """
    return DROPOUT_OF_DENSE_DATA if interactions_per_user >= DENSE_FROM else DROPOUT_OF_SPARSE_DATA
