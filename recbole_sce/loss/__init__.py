"""Losses for softmax heads over large catalogues; they need torch alone.

All are called ``loss_fn(hidden (N, d), item_embeddings (C, d), targets (N,) int64, generator=None)`` and
return a scalar, so that they stand in for one another. What else one needs, gives and allows, it says as an
:class:`ItemLoss`.
"""

from recbole_sce.loss.base import ItemLoss, LossStats, call_loss, display_name, stats_of
from recbole_sce.loss.future_targets import LaterTargets, LaterTargetsLoss, check_discount
from recbole_sce.loss.sampled import BCELoss, GBCELoss, SampledCrossEntropyLoss
from recbole_sce.loss.sce.buckets import Buckets, bucket_centers, select_buckets
from recbole_sce.loss.sce.histories import Histories
from recbole_sce.loss.sce.outside import ItemSample, sample_items
from recbole_sce.loss.sce.scalable import ScalableCrossEntropyLoss, scalable_cross_entropy
from recbole_sce.loss.softmax import CrossEntropyLoss

__all__ = [
    "BCELoss",
    "Buckets",
    "CrossEntropyLoss",
    "GBCELoss",
    "Histories",
    "ItemLoss",
    "ItemSample",
    "LaterTargets",
    "LaterTargetsLoss",
    "LossStats",
    "SampledCrossEntropyLoss",
    "ScalableCrossEntropyLoss",
    "bucket_centers",
    "call_loss",
    "check_discount",
    "display_name",
    "sample_items",
    "scalable_cross_entropy",
    "select_buckets",
    "stats_of",
]
