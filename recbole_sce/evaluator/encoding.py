"""Hidden states of many rows, made a few rows at a time."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_sce.data.transfer import move
from recbole_sce.model.mixin import SCEMixin
from recbole_sce.utils.devices import to_device

#: Positions of sequences that an encoder sees at once: what its activations take stays in the tens of MiB.
_POSITIONS = 2**13
_POSITIONS_ON_DEVICE = 2**18
_LEAST_ROWS = 16


def streams(model: SCEMixin) -> bool:
    """Return whether scores are products of ``encode`` and ``item_table``, which need not all be held."""
    return type(model).full_sort_predict is SCEMixin.full_sort_predict


@torch.no_grad()
def encode_rows(model: SCEMixin, interaction: Interaction, device: torch.device) -> Tensor:
    """Return the hidden states (B, d) of the rows of ``interaction``, on ``device``.

    They are those of ``model.encode(interaction)``, whose activations would grow with B. Where the model
    ignores padding, rows of like length are encoded together, without the columns that none of them fills.

    Args:
        model: in evaluation mode.
        interaction: the rows.
        device: where the model is.
    """
    positions = _POSITIONS if device.type == "cpu" else _POSITIONS_ON_DEVICE
    width = interaction[model.ITEM_SEQ].size(1)
    if not model.ignores_padding or len(interaction) == 0:
        n_blocks = max(1, -(-len(interaction) // max(_LEAST_ROWS, positions // width)))
        step = max(1, -(-len(interaction) // n_blocks))  # blocks of even size
        starts = range(0, max(len(interaction), 1), step)
        return torch.cat([model.encode(move(interaction[start : start + step], device)) for start in starts])
    lengths = interaction[model.ITEM_SEQ_LEN].cpu()  # (B,)
    sorted_lengths, order = lengths.sort(descending=True, stable=True)
    interaction = interaction[order]
    states = []
    start = 0
    while start < len(order):
        width = int(sorted_lengths[start])
        stop = start + max(_LEAST_ROWS, positions // width)
        block = interaction[start:stop]
        for field in (name for name in model.HISTORY_FIELDS if name in block.interaction):
            block.interaction[field] = block[field][:, :width]
        states.append(model.encode(move(block, device)))
        start = stop
    return torch.cat(states)[to_device(order.argsort(), device)]
