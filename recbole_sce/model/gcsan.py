"""GC-SAN (Xu et al., 2019) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import GCSAN
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class GCSANSCE(SCEMixin, GCSAN):  # type: ignore[misc]
    """Gated graph network over a session's graph, then self-attention (Xu et al., 2019).

    RecBole builds the graphs in Python, a row at a time.
    """

    ignores_padding = True

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return ``reg_weight`` times the norm of the whole ``item_embedding``, divided by its rows."""
        loss: Tensor = self.reg_weight * self.reg_loss(self.item_embedding.weight)  # (1,)
        return loss.squeeze()
