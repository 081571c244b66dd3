"""Exact softmax cross-entropy over the whole catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_sce.loss.inputs import check_inputs, excluded_rows


class CrossEntropyLoss(nn.Module):
    """Exact cross-entropy of each target against the whole catalogue, averaged over states.

    Args:
        exclude_items: rows of the item embeddings that are no items and stay out of the softmax;
            ``()`` keeps all rows in, as RecBole's built-in cross-entropy does.
    """

    def __init__(self, exclude_items: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.exclude_items = tuple(exclude_items)

    def forward(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
        targets: Tensor,
        generator: Optional[torch.Generator] = None,
    ) -> Tensor:
        """Return the mean over states of log sum_i exp(x . w_i) - x . w_y; ``generator`` is not used."""
        check_inputs(hidden, item_embeddings, targets, self.exclude_items)
        logits = (hidden @ item_embeddings.to(hidden.dtype).T).float()
        logits[:, excluded_rows(self.exclude_items, len(item_embeddings))] = -torch.inf
        return F.cross_entropy(logits, targets, reduction="sum") / max(len(hidden), 1)
