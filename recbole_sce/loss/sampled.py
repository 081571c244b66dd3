"""Losses over a few uniformly drawn negatives: the paper's other baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_sce.loss.inputs import check_count, check_inputs, excluded_rows


def uniform_negatives(
    targets: Tensor,
    n_items: int,
    n_negatives: int,
    exclude_items: Sequence[int] = (0,),
    generator: Optional[torch.Generator] = None,
) -> Tensor:
    """Draw items uniformly, with replacement, from all that are neither excluded nor the state's target.

    Args:
        targets: (N,) int64, rows of the catalogue that are not excluded.
        n_items: number of rows of the catalogue, C.
        n_negatives: K, negatives a state.
        exclude_items: rows that are never negatives.
        generator: source of randomness, on the device of ``targets``; None is torch's global one.

    Returns:
        (N, K) int64; (N, 0) where there is no item beside the target.
    """
    excluded = excluded_rows(exclude_items, n_items)
    n_candidates = n_items - len(excluded) - 1
    shape = (len(targets), n_negatives if n_candidates > 0 else 0)
    drawn = torch.randint(max(n_candidates, 1), shape, generator=generator, device=targets.device)
    barred = torch.tensor(excluded, dtype=torch.int64, device=targets.device)
    # From the rank among allowed rows to the row: first over the target's rank, then over excluded rows.
    drawn += drawn >= (targets - torch.searchsorted(barred, targets)).unsqueeze(-1)
    return drawn + torch.searchsorted(
        barred - torch.arange(len(barred), device=barred.device), drawn, right=True
    )


class _SampledLoss(nn.Module):
    """Common part of the losses over sampled negatives.

    Args:
        n_negatives: K, negatives a state, drawn uniformly with replacement.
        exclude_items: rows of the item embeddings that are never negatives. RecBole's row 0 is padding.

    Raises:
        ValueError: ``n_negatives`` is not a whole number of at least 1.
    """

    def __init__(self, n_negatives: int = 256, exclude_items: Sequence[int] = (0,)) -> None:
        super().__init__()
        check_count("n_negatives", n_negatives)
        self.n_negatives = n_negatives
        self.exclude_items = tuple(exclude_items)

    def forward(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
        targets: Tensor,
        generator: Optional[torch.Generator] = None,
    ) -> Tensor:
        """Draw negatives and return the mean loss of the states, a scalar."""
        check_inputs(hidden, item_embeddings, targets, self.exclude_items)
        n_items = len(item_embeddings)
        negatives = uniform_negatives(targets, n_items, self.n_negatives, self.exclude_items, generator)
        items = torch.cat([targets.unsqueeze(1), negatives], 1)  # (N, 1 + K)
        logits = (item_embeddings[items].float() @ hidden.float().unsqueeze(-1)).squeeze(-1)  # (N, 1 + K)
        return self.state_losses(logits, n_items).sum() / max(len(hidden), 1)

    def state_losses(self, logits: Tensor, n_items: int) -> Tensor:
        """Return the loss of each state (N,) from logits (N, 1 + K), the target's first."""
        raise NotImplementedError


class SampledCrossEntropyLoss(_SampledLoss):
    """CE-: cross-entropy over the target and K uniform negatives."""

    def state_losses(self, logits: Tensor, n_items: int) -> Tensor:
        """Return log(exp(s_y) + sum_k exp(s_k)) - s_y of each state."""
        return logits.logsumexp(-1) - logits[:, 0]


class GBCELoss(_SampledLoss):
    """gBCE: binary cross-entropy whose positive probability is raised to the power beta.

    Args:
        n_negatives: K.
        calibration: t.
        exclude_items: rows that are never negatives.
    """

    def __init__(
        self, n_negatives: int = 256, calibration: float = 0.75, exclude_items: Sequence[int] = (0,)
    ) -> None:
        super().__init__(n_negatives, exclude_items)
        if not 0 <= calibration <= 1:
            raise ValueError(f"calibration: {calibration!r} is not allowed; a number from 0 to 1 is")
        self.calibration = calibration

    def state_losses(self, logits: Tensor, n_items: int) -> Tensor:
        """Return -(beta log sigma(s_y) + sum_k log(1 - sigma(s_k))) / (K + 1) of each state."""
        n_negatives = logits.size(1) - 1
        n_candidates = n_items - len(excluded_rows(self.exclude_items, n_items))
        rate = min(1.0, n_negatives / max(n_candidates - 1, 1))
        beta = 1.0 - self.calibration * (1.0 - rate) if n_negatives else 1.0
        positive = beta * F.softplus(-logits[:, 0])
        return (positive + F.softplus(logits[:, 1:]).sum(1)) / (n_negatives + 1)


class BCELoss(GBCELoss):
    """Binary cross-entropy of the target against K uniform negatives: gBCE with t = 0."""

    def __init__(self, n_negatives: int = 256, exclude_items: Sequence[int] = (0,)) -> None:
        super().__init__(n_negatives, 0.0, exclude_items)
