"""Fossil (He and McAuley, 2016) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import FOSSIL
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class FOSSILSCE(SCEMixin, FOSSIL):  # type: ignore[misc]
    """Item similarity and a personal Markov chain of the last items (He and McAuley, 2016)."""

    encoder_inputs = ("ITEM_SEQ", "ITEM_SEQ_LEN", "USER_ID")

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return ``reg_weight`` times the norms of the batch's users, targets and hidden states."""
        users = self.user_lambda(interaction[self.USER_ID])
        targets = self.item_embedding(interaction[self.POS_ITEM_ID])
        loss: Tensor = self.reg_loss(users, targets, hidden)
        return loss
