"""Optimisers that update a weight in one pass."""

from __future__ import annotations

from typing import Any

import torch


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return Adam and AdamW in torch's fused form, whose values differ by rounding alone.

    The unfused forms pass over all weights a dozen times a step. Any other optimiser, and parameters on a
    device that torch has no fused form for, stay as they are.

    Args:
        optimizer: one that has taken no step yet.
    """
    kind: Any = type(optimizer)
    if kind not in (torch.optim.Adam, torch.optim.AdamW):
        return optimizer
    groups = [{**group, "fused": True} for group in optimizer.param_groups]
    try:
        quick: torch.optim.Optimizer = kind(groups, fused=True)
    except RuntimeError:
        return optimizer
    return quick
