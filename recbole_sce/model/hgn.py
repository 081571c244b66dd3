"""HGN (Ma et al., 2019) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import HGN
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class HGNSCE(SCEMixin, HGN):  # type: ignore[misc]
    """Gates over features and over items, and a user embedding (Ma et al., 2019)."""

    encoder_inputs = ("ITEM_SEQ", "USER_ID")

    def item_table(self) -> Tensor:
        """Return ``item_embedding_for_prediction``."""
        table: Tensor = self.item_embedding_for_prediction.weight
        return table

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return ``reg_weight`` (two) times the norms of the gates, and of the batch's users and items."""
        users = self.user_embedding(interaction[self.USER_ID])
        targets = self.item_embedding_for_prediction(interaction[self.POS_ITEM_ID])
        loss: Tensor = self.reg_loss(users, targets, self.item_embedding(interaction[self.ITEM_SEQ]))
        return loss
