"""From settings to a loss: the one place where ``loss_type`` is read."""

from __future__ import annotations

from recbole_sce import loss
from recbole_sce.settings import SCESettings

#: ``loss_type: auto`` is exact CE in catalogues of at most so many items, where a step of it takes no longer
#: than one of SCE (benchmarks/results/loss-small-cpu.csv), and SCE in larger ones.
AUTO_EXACT_UP_TO = 4500


def resolve_loss_type(settings: SCESettings, n_items: int) -> str:
    """Return the loss that ``settings.loss_type`` stands for; of ``auto``, the one that it chooses.

    Args:
        settings: of the model. With ``sparse_item_updates: True`` ``auto`` is SCE, whose gradient may be
            sparse.
        n_items: items of the catalogue, without RecBole's padding item.
    """
    if settings.loss_type != "auto":
        return settings.loss_type
    return "CE" if n_items <= AUTO_EXACT_UP_TO and settings.sparse_item_updates is not True else "SCE"


def build_loss(settings: SCESettings, n_items: int) -> loss.ItemLoss:
    """Return the loss that the settings describe, with its later targets.

    It leaves out row 0 of the item embeddings, RecBole's padding item.

    Args:
        settings: of the model.
        n_items: items of the catalogue, without RecBole's padding item.

    Raises:
        ValueError: there are to be later targets, and the loss allows none.
    """
    loss_fn = _of_next_item(settings, resolve_loss_type(settings, n_items))
    if settings.target_discount:
        return loss.LaterTargetsLoss(loss_fn, settings.target_discount)
    return loss_fn


def _of_next_item(settings: SCESettings, loss_type: str) -> loss.ItemLoss:
    if loss_type == "SCE":
        return loss.ScalableCrossEntropyLoss(
            n_buckets=settings.n_buckets,
            bucket_size_x=settings.bucket_size_x,
            bucket_size_y=settings.bucket_size_y,
            alpha=settings.bucket_alpha,
            mix_x=settings.mix_x,
            complete_softmax=settings.complete_softmax,
            n_outside=settings.n_outside,
            catalog_chunk=settings.catalog_chunk,
        )
    if loss_type == "CE":
        return loss.CrossEntropyLoss()
    if loss_type == "CE-":
        return loss.SampledCrossEntropyLoss(n_negatives=settings.n_negatives)
    if loss_type == "gBCE":
        return loss.GBCELoss(n_negatives=settings.n_negatives, calibration=settings.gbce_t)
    return loss.BCELoss(n_negatives=settings.n_negatives)
