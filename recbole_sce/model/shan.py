"""SHAN (Ying et al., 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SHAN
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin
from recbole_sce.model.padding import padding_first


class SHANSCE(SCEMixin, SHAN):  # type: ignore[misc]
    """Attention over long-term items, then over the last ones, for a user (Ying et al., 2018).

    Ranks by the sequence with its padding in front, as it trains; RecBole's own ``full_sort_predict`` has
    the padding behind, where SHAN looks for the last items. Needs no ``transform``.
    """

    ignores_padding = True

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d) after the whole history of each row."""
        item_seq = padding_first(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])  # (B, L)
        hidden: Tensor = self(item_seq, interaction[self.USER_ID])
        return hidden

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return ``reg_weight`` (two) times the norms of two layers, and of the batch's users and targets."""
        loss: Tensor = self.reg_loss(
            self.user_embedding(interaction[self.USER_ID]), self.item_embedding(interaction[self.POS_ITEM_ID])
        )
        return loss
