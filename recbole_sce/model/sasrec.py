"""SASRec (Kang and McAuley, 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.model.sequential_recommender import SASRec

from recbole_sce.model.mixin import SCEMixin


class SASRecSCE(SCEMixin, SASRec):  # type: ignore[misc]
    """Causal self-attention (Kang and McAuley, 2018).

    Its default recipe is ``auto``: ``sparse`` or ``dense`` by the data (:mod:`recbole_sce.settings.recipes`).
    """

    causal = True
    ignores_padding = True
