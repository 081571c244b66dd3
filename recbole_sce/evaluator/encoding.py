"""Hidden states of many rows, made a few rows at a time."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin

#: Positions of sequences that an encoder sees at once: what its activations take stays in the tens of MiB.
_POSITIONS = 2**14
_POSITIONS_ON_DEVICE = 2**18
_LEAST_ROWS = 16


def streams(model: SCEMixin) -> bool:
    """Return whether scores are products of ``encode`` and ``item_table``, which need not all be held."""
    return type(model).full_sort_predict is SCEMixin.full_sort_predict


@torch.no_grad()
def encode_rows(model: SCEMixin, interaction: Interaction, device: torch.device) -> Tensor:
    """Return the hidden states (B, d) of the rows of ``interaction``, on ``device``.

    They are those of ``model.encode(interaction)``, whose activations would grow with B.
    """
    length = interaction[model.ITEM_SEQ].size(1)
    positions = _POSITIONS if device.type == "cpu" else _POSITIONS_ON_DEVICE
    most = max(_LEAST_ROWS, positions // length)
    n_blocks = max(1, -(-len(interaction) // most))
    step = max(1, -(-len(interaction) // n_blocks))  # even blocks
    return torch.cat(
        [
            model.encode(interaction[start : start + step].to(device))
            for start in range(0, max(len(interaction), 1), step)
        ]
    )
