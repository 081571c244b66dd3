"""NPE (Nguyen and Takasu, 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.model.sequential_recommender import NPE
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin


class NPESCE(SCEMixin, NPE):  # type: ignore[misc]
    """Sum of the items, and a user embedding (Nguyen and Takasu, 2018).

    The order of items plays no part.
    """

    encoder_inputs = ("ITEM_SEQ", "USER_ID")

    def item_table(self) -> Tensor:
        """Return ``relu(item_embedding)``."""
        table: Tensor = self.relu(self.item_embedding.weight)
        return table
