"""Copies to an accelerator for which the host does not wait."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``; the host does not wait for a copy from the CPU to CUDA.

    Such a copy goes through pinned memory, which PyTorch keeps until the copy is done. A tensor that is on
    ``device`` already is returned as it is.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
