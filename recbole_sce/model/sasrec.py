"""SASRec (Kang and McAuley, 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from recbole.model.sequential_recommender import SASRec

from recbole_sce.model.sce import SCEMixin

if TYPE_CHECKING:
    from recbole.config import Config

    from recbole_sce.data.dataset import IndexedSequenceDataset

#: Interactions of a user, on average, from which on data count as dense. On validation, as far as was
#: trained, the data sets with 9 and 10 are better off with the dropout of sparse data, those with 31 and 165
#: are not; ml-100k, with 106, but of 943 users, is (docs/experiments.md). From 10 to 31 nothing was measured.
DENSE_FROM = 20
DROPOUT_OF_SPARSE_DATA = 0.5
DROPOUT_OF_DENSE_DATA = 0.2
#: A step of AdamW makes weights smaller by learning_rate times this (docs/experiments.md).
WEIGHT_DECAY = 0.1


class SASRecSCE(SCEMixin, SASRec):  # type: ignore[misc]
    """Causal self-attention (Kang and McAuley, 2018).

    Unless set, dropout is 0.5 where a user has fewer than 20 interactions on average, else 0.2, and weight
    decay is 0.1 with AdamW, else 0 (docs/experiments.md).
    """

    causal = True
    chosen_by_model = ("hidden_dropout_prob", "attn_dropout_prob", "weight_decay")

    def __init__(self, config: Config, dataset: IndexedSequenceDataset) -> None:
        choose_dropout(config, dataset)
        choose_weight_decay(config)
        super().__init__(config, dataset)


def choose_dropout(config: Config, dataset: IndexedSequenceDataset) -> None:
    """Put numbers into ``config`` in the place of null, for the encoder and all who read it afterwards.

    Null for ``attn_dropout_prob`` means the same as ``hidden_dropout_prob``.
    """
    if config["hidden_dropout_prob"] is None:
        config["hidden_dropout_prob"] = dropout_for(dataset.interactions_per_user)
        logging.getLogger().info(
            f"A user has {dataset.interactions_per_user:.2f} interactions on average, {DENSE_FROM} and more "
            f"are dense data: hidden_dropout_prob = {config['hidden_dropout_prob']}"
        )
    if config["attn_dropout_prob"] is None:
        config["attn_dropout_prob"] = config["hidden_dropout_prob"]


def dropout_for(interactions_per_user: float) -> float:
    """Return the dropout for data in which a user has so many interactions on average.

    Sparse data overfit and need RecBole's 0.5; dense data do not, and are learned several times as fast with
    0.2. Kang and McAuley (2018, implementation details) took the same two for MovieLens and sparser data.
    """
    return DROPOUT_OF_DENSE_DATA if interactions_per_user >= DENSE_FROM else DROPOUT_OF_SPARSE_DATA


def choose_weight_decay(config: Config) -> None:
    """Put a number into ``config`` in the place of null, for the trainer.

    RecBole gives the key to every learner. To most it is a part of the gradient, for which a tenth is far
    too much; to AdamW (Loshchilov and Hutter, 2019) it is apart from it.
    """
    if config["weight_decay"] is None:
        config["weight_decay"] = WEIGHT_DECAY if str(config["learner"]).lower() == "adamw" else 0.0
