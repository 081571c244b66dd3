"""HRM (Wang et al., 2015) trained by Scalable Cross-Entropy."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import HRM
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin
from recbole_sce.model.padding import padding_first


class HRMSCE(SCEMixin, HRM):  # type: ignore[misc]
    """Pooling of the last items, and of them with the user (Wang et al., 2015)."""

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d) after the whole history of each row.

        RecBole: ``HRM.forward``, which turns sequences around and, for an average, cuts their lengths down in
        Python, a row at a time.
        """
        lengths = interaction[self.ITEM_SEQ_LEN]
        items = self.item_embedding(padding_first(interaction[self.ITEM_SEQ], lengths))  # (B, L, d)
        if self.pooling_type_layer_1 == "max":
            recent = items[:, -self.high_order :].max(1).values  # (B, d)
        else:
            recent = items.sum(1) / lengths.clamp(max=self.high_order).unsqueeze(1).float()
        user = self.dropout(self.user_embedding(interaction[self.USER_ID]))
        both = self.dropout(torch.stack((user, recent), 1))  # (B, 2, d)
        hidden: Tensor = both.max(1).values if self.pooling_type_layer_2 == "max" else both.mean(1)
        return hidden
