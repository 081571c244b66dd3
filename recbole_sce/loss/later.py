"""Later items of a sequence as further targets of the softmax.

A user's next item is one draw from what the user is about to want; the items after it are more draws, and
where data are sparse they teach a state more than its next item alone does. Caser predicts the next few items
(Tang and Wang, WSDM 2018), PinnerFormer any later one (Pancha et al., KDD 2022, dense all-action loss).
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_sce.loss.logits import compute_dtype


def later_weights(targets: Tensor, discount: float) -> Tensor:
    """Return how much a state of a sequence is to learn from each of its targets, its own and later ones.

    A target k places later weighs ``discount`` ** k times as much as the state's own; a state's weights sum
    to one.

    Args:
        targets: (B, L) int64, 0 where a place has no target.
        discount: at least 0, where a state has its own target alone, and below 1.

    Returns:
        (B, L, L) float64: of the state at a place (second dimension) for the target at a place (third); zeros
        for a place without a target.
    """
    places = torch.arange(targets.size(1), device=targets.device, dtype=torch.float64)
    distance = places - places.unsqueeze(1)  # (L, L)
    by_distance = torch.where(distance >= 0, discount ** distance.clamp(min=0), 0)
    present = (targets != 0).double()  # (B, L)
    weights = by_distance * present.unsqueeze(1) * present.unsqueeze(2)  # (B, L, L)
    return weights / weights.sum(2, keepdim=True).clamp(min=1)


def later_targets_term(
    hidden: Tensor, item_embeddings: Tensor, targets: Tensor, discount: float, sparse_grad: bool = False
) -> Tensor:
    """Return what makes softmax cross-entropy against each state's next item one against all later items.

    With q the weights of :func:`later_weights` over the targets y_j from a state's own on, cross-entropy
    against them is log( sum_i exp(x . w_i) ) - sum_j q_j x . w_{y_j}. It differs from that against the own
    target y alone by::

        mean over states of  x . ( w_y - sum_j q_j w_{y_j} )

    The sum over items has to hold the later targets, or the term has no lower bound: that of exact
    cross-entropy does, and that of the completed softmax where they are in the states' histories.

    Args:
        hidden: (N, d) floating point, the states at the places of ``targets`` that have one, row by row.
        item_embeddings: (C, d) floating point.
        targets: (B, L) int64 rows of ``item_embeddings``, in the order of a sequence, 0 for none; N of them
            are not 0.
        discount: from 0 to below 1, see :func:`later_weights`.
        sparse_grad: whether the gradient of ``item_embeddings`` is to be sparse.

    Returns:
        A scalar in float32 (float64 for float64 states); zero for no states.
    """
    dtype = compute_dtype(hidden)
    following = torch.nn.functional.embedding(
        targets, item_embeddings, padding_idx=0, sparse=sparse_grad
    )  # (B, L, d)
    with torch.autocast(hidden.device.type, enabled=False):
        following = following.to(dtype)
        mixed = later_weights(targets, discount).to(dtype) @ following  # (B, L, d)
        change = (following - mixed)[targets != 0]  # (N, d)
        term: Tensor = torch.linalg.vecdot(hidden.to(dtype), change).sum() / max(len(hidden), 1)
        return term
