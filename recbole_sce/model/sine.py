"""SINE (Tan et al., 2021) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SINE
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class SINESCE(SCEMixin, SINE):  # type: ignore[misc]
    """A few interests out of many prototypes (Tan et al., 2021).

    Padding takes part in its attention. RecBole adds the prototypes' term with ``loss_type: NLL`` only, not
    with its default CE: here ``reg_loss_ratio`` is 0 unless set.
    """

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return ``reg_loss_ratio`` times the correlation of the prototypes."""
        loss: Tensor = self.reg_loss_ratio * self.calculate_reg_loss()
        return loss
