"""Optimisers that update a weight in one pass."""

from __future__ import annotations

from typing import Any

import torch

#: Where torch, from 2.4 on, has fused forms of Adam and AdamW; it refuses others in the first step.
_DEVICES = ("cpu", "cuda")


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return Adam and AdamW in torch's fused form, whose values differ by rounding alone.

    The unfused forms pass over all weights a dozen times a step. Any other optimiser, and those of parameters
    that torch has no fused form for, stay as they are.

    Args:
        optimizer: one that has taken no step yet.
    """
    kind: Any = type(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    possible = all(each.device.type in _DEVICES and each.is_floating_point() for each in parameters)
    if kind not in (torch.optim.Adam, torch.optim.AdamW) or not possible:
        return optimizer
    quick: torch.optim.Optimizer = kind(
        [{**group, "fused": True} for group in optimizer.param_groups], fused=True
    )
    return quick
