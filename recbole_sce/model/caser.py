"""Caser (Tang and Wang, 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import Caser
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class CaserSCE(SCEMixin, Caser):  # type: ignore[misc]
    """Convolutions over the sequence as an image, and a user embedding (Tang and Wang, 2018).

    One convolution for each length: RecBole advises a small ``MAX_ITEM_LIST_LENGTH``, such as 10.
    """

    encoder_inputs = ("USER_ID", "ITEM_SEQ")

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return ``reg_weight`` times the norms of both whole embeddings, convolutions and linear layers."""
        layers = (self.user_embedding, self.item_embedding, self.conv_v, self.fc1, self.fc2)
        norms = self.reg_loss([layer.weight for layer in layers])
        loss: Tensor = self.reg_weight * norms + self.reg_loss_conv_h()
        return loss
