"""SASRec (Kang and McAuley, 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from recbole.model.sequential_recommender import SASRec

from recbole_sce.model.mixin import SCEMixin
from recbole_sce.settings import conflicts_of_later_targets

if TYPE_CHECKING:
    from recbole.config import Config

    from recbole_sce.data.dataset import IndexedSequenceDataset

#: Interactions of a user, on average, from which on data count as dense. On validation, as far as was
#: trained, the data sets with 9 and 10 are better off with the dropout of sparse data, those with 31 and 165
#: are not; ml-100k, with 106, but of 943 users, is (docs/experiments.md). From 10 to 31 nothing was measured.
DENSE_FROM = 20
#: Sparse data overfit and need RecBole's dropout of 0.5, and decay (of AdamW: a step leaves 1 - learning_rate
#: * weight_decay of the weights); ml-1m, dense, is learned several times as fast with 0.2, and better without
#: decay. Kang and McAuley (2018, implementation details) took the same two dropouts for MovieLens and sparser
#: data. A state of sparse data has few next items to learn from, and learns from later ones, too.
OF_SPARSE_DATA = {"hidden_dropout_prob": 0.5, "weight_decay": 0.1, "target_discount": 0.4}
OF_DENSE_DATA = {"hidden_dropout_prob": 0.2, "weight_decay": 0.0, "target_discount": 0.0}


class SASRecSCE(SCEMixin, SASRec):  # type: ignore[misc]
    """Causal self-attention (Kang and McAuley, 2018).

    Unless set, dropout is 0.5, AdamW's weight decay 0.1 and the discount of later targets 0.4 where a user
    has fewer than 20 interactions on average, else 0.2, 0 and 0 (docs/experiments.md).
    """

    causal = True
    chosen_by_data = ("hidden_dropout_prob", "attn_dropout_prob", "weight_decay", "target_discount")

    def __init__(self, config: Config, dataset: IndexedSequenceDataset) -> None:
        choose_by_data(config, dataset, self.causal)
        super().__init__(config, dataset)


def choose_by_data(config: Config, dataset: IndexedSequenceDataset, causal: bool) -> None:
    """Put numbers into ``config`` in the place of null, for the encoder and all who read it afterwards.

    Null for ``attn_dropout_prob`` means the same as ``hidden_dropout_prob``. Null for ``weight_decay`` is 0
    with learners other than AdamW, to most of which RecBole gives it as a part of the gradient, where a tenth
    is far too much; and with ``sparse_item_updates``, where rows that a step does not touch cannot decay.
    Null for ``target_discount`` is 0 with losses and positions that can have no later targets.
    """
    decays = str(config["learner"]).lower() == "adamw" and not config["sparse_item_updates"]
    if config["weight_decay"] is None and not decays:
        config["weight_decay"] = 0.0
    if config["target_discount"] is None and conflicts_of_later_targets(config, causal):
        config["target_discount"] = 0.0
    wanted = [key for key in OF_SPARSE_DATA if config[key] is None]
    if wanted:
        average = dataset.interactions_per_user
        suited = OF_DENSE_DATA if average >= DENSE_FROM else OF_SPARSE_DATA
        for key in wanted:
            config[key] = suited[key]
        logging.getLogger().info(
            f"A user has {average:.2f} interactions on average, {DENSE_FROM} and more are dense data: "
            + ", ".join(f"{key} = {suited[key]}" for key in wanted)
        )
    if config["attn_dropout_prob"] is None:
        config["attn_dropout_prob"] = config["hidden_dropout_prob"]
