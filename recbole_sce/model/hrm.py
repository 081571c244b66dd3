"""HRM (Wang et al., 2015) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import HRM
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class HRMSCE(SCEMixin, HRM):  # type: ignore[misc]
    """Pooling of the last items, and of them with the user (Wang et al., 2015).

    RecBole turns sequences around in Python, a row at a time.
    """

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d) after the whole history of each row."""
        lengths = interaction[self.ITEM_SEQ_LEN].clone()  # forward cuts them down in place
        hidden: Tensor = self(interaction[self.ITEM_SEQ], interaction[self.USER_ID], lengths)
        return hidden
