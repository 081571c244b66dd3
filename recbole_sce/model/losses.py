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
from recbole_sce.model.settings import SCESettings

#: ``bucket_size_y`` where nobody sets it: 1,024 items, but the exact softmax in catalogues of at most 12,288.
#: It is streamed, so that memory is as low, and takes on a CPU about as long (docs/loss.md).
_BUCKET_SIZE_Y, _EXACT_UP_TO = 1024, 12288
#: ``n_outside`` where nobody sets it.
_N_OUTSIDE = 2048


def build_loss(settings: SCESettings) -> nn.Module:
    """Return the loss that ``settings.loss_type`` names.

    All of them are called ``loss(hidden (N, d), item_embeddings (C, d), targets (N,))`` and leave out
    row 0 of the item embeddings, RecBole's padding item.
    """
    if settings.loss_type == "SCE":
        chosen = settings.bucket_size_y
        return ScalableCrossEntropyLoss(
            n_buckets=settings.n_buckets,
            bucket_size_x=settings.bucket_size_x,
            bucket_size_y=_BUCKET_SIZE_Y if chosen is None else chosen,
            alpha=settings.bucket_alpha,
            mix_x=settings.mix_x,
            complete_softmax=settings.complete_softmax,
            n_outside=_N_OUTSIDE if settings.n_outside is None else settings.n_outside,
            exact_up_to=_EXACT_UP_TO if chosen is None else 0,
            catalog_chunk=settings.catalog_chunk,
        )
    if settings.loss_type == "CE":
        return CrossEntropyLoss()
    if settings.loss_type == "CE-":
        return SampledCrossEntropyLoss(n_negatives=settings.n_negatives)
    if settings.loss_type == "gBCE":
        return GBCELoss(n_negatives=settings.n_negatives, calibration=settings.gbce_t)
    return BCELoss(n_negatives=settings.n_negatives)
