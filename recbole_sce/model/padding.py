"""Rows with their padding on the other side."""

from __future__ import annotations

import torch
from torch import Tensor


def padding_first(item_seq: Tensor, lengths: Tensor) -> Tensor:
    """Return rows (B, L) whose padding lies behind their items with it before them.

    Args:
        item_seq: (B, L), the items of a row first.
        lengths: (B,) int64, how many items each row has.
    """
    columns = torch.arange(item_seq.size(1), device=item_seq.device)
    source = (columns + lengths.unsqueeze(1)) % item_seq.size(1)
    return item_seq.gather(1, source)
