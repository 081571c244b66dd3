"""SASRec (Kang and McAuley, 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from recbole.model.sequential_recommender import SASRec

from recbole_sce.model.sce import SCEMixin


class SASRecSCE(SCEMixin, SASRec):  # type: ignore[misc]
    """Causal self-attention (Kang and McAuley, 2018).

    Dropout is 0.2 unless set, RecBole's SASRec has 0.5 (docs/experiments.md).
    """

    causal = True
