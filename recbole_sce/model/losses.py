"""From settings to a loss: the one place where ``loss_type`` is read."""

from __future__ import annotations

from torch import nn

from recbole_sce.loss import (
    BCELoss,
    CrossEntropyLoss,
    GBCELoss,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
)
from recbole_sce.settings import SCESettings


def build_loss(settings: SCESettings) -> nn.Module:
    """Return the loss that ``settings.loss_type`` names.

    All of them are called ``loss(hidden (N, d), item_embeddings (C, d), targets (N,))``, those that say
    ``uses_histories`` with the ``histories`` of the states too, and leave out row 0 of the item embeddings,
    RecBole's padding item. To those that say ``holds_histories`` later targets can be added.
    """
    if settings.loss_type == "SCE":
        return ScalableCrossEntropyLoss(
            n_buckets=settings.n_buckets,
            bucket_size_x=settings.bucket_size_x,
            bucket_size_y=settings.bucket_size_y,
            alpha=settings.bucket_alpha,
            mix_x=settings.mix_x,
            complete_softmax=settings.complete_softmax,
            n_outside=settings.n_outside,
            catalog_chunk=settings.catalog_chunk,
        )
    if settings.loss_type == "CE":
        return CrossEntropyLoss()
    if settings.loss_type == "CE-":
        return SampledCrossEntropyLoss(n_negatives=settings.n_negatives)
    if settings.loss_type == "gBCE":
        return GBCELoss(n_negatives=settings.n_negatives, calibration=settings.gbce_t)
    return BCELoss(n_negatives=settings.n_negatives)
