"""Losses for softmax heads over large catalogues; they need torch alone.

All are called ``loss_fn(hidden (N, d), item_embeddings (C, d), targets (N,) int64, generator=None)`` and
return a scalar, so that they stand in for one another. Scalable Cross-Entropy also takes the
states' ``histories``.
"""

from recbole_sce.loss.future_targets import LaterTargets
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
    "ItemSample",
    "LaterTargets",
    "SampledCrossEntropyLoss",
    "ScalableCrossEntropyLoss",
    "bucket_centers",
    "sample_items",
    "scalable_cross_entropy",
    "select_buckets",
]
