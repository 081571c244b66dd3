"""NextItNet (Yuan et al., 2019) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import NextItNet
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class NextItNetSCE(SCEMixin, NextItNet):  # type: ignore[misc]
    """Causal convolutions with holes (Yuan et al., 2019).

    RecBole reads the state of the last column, which for a short history is padding: ``train_positions:
    last`` does so too. With ``all`` the state at the last item is read, in training and in evaluation.
    """

    causal = True
    encoder_inputs = ("ITEM_SEQ",)

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d) after the whole history of each row."""
        if self.settings.train_positions == "last":
            return super().encode(interaction)
        return self.gather_indexes(self.encode_positions(interaction), interaction[self.ITEM_SEQ_LEN] - 1)

    def encode_positions(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, L, d) after each item of each row's history."""
        embedded = self.item_embedding(interaction[self.ITEM_SEQ])  # (B, L, d)
        hidden: Tensor = self.final_layer(self.residual_blocks(embedded))
        return hidden

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return ``reg_weight`` times the norms of the whole ``item_embedding`` and of all layers."""
        norms = self.reg_loss([self.item_embedding.weight, self.final_layer.weight])
        loss: Tensor = self.reg_weight * norms + self.reg_loss_rb()
        return loss
