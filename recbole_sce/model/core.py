"""CORE (Hou et al., 2022) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import CORE
from torch import Tensor
from torch.nn import functional as F

from recbole_sce.model.mixin import SCEMixin


class CORESCE(SCEMixin, CORE):  # type: ignore[misc]
    """Weighted mean of item embeddings, compared by cosine (Hou et al., 2022).

    Normalises the whole table at each step. ``predict``, which ranks sampled candidates, normalises items as
    training does; RecBole's does not.
    """

    ignores_padding = True
    encoder_inputs = ("ITEM_SEQ",)

    def encode(self, interaction: Interaction) -> Tensor:
        """Return hidden states (B, d) of length 1 / temperature: products with the table are scores."""
        hidden: Tensor = super().encode(interaction) / self.temperature
        return hidden

    def item_table(self) -> Tensor:
        """Return ``item_embedding`` with dropout, each row normalised."""
        return F.normalize(self.item_dropout(self.item_embedding.weight), dim=-1)
