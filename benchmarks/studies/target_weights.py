"""A study: which targets a state learns from, and which states count for more, in exact cross-entropy.

``ahead``: weights of the items that follow a position, from the next one on, as many as are said; they are
scaled to sum to one over those that are left in the row. ``[1]`` is the next item alone.
``smoothing``: share of a target's weight that goes to all items alike (label smoothing).
``half_life``: states count half as much every so many positions before the last one of their row, but never
less than a fifth; 0: all alike.
``row_power``: states of a row of n targets count n to the power of minus this; 0: all alike.

All have to be said. Dense logits: for quality, not for speed. ``run.py`` trains it.
"""

from typing import Any

import torch
from completed_softmax import NextItemSASRec
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_sce import register_model

_FLOOR = 0.2


def mean_over_targets(of_items: Tensor, targets: Tensor, ahead: list[float]) -> Tensor:
    """Return the mean (N,), weighted by ``ahead``, over its targets of each state's values for items (N, C).

    ``targets`` (B, L) int64 are the states' next items, row by row, 0 where there is no state.
    """
    total = of_items.new_zeros(len(of_items))
    weights = torch.zeros_like(total)
    for k, weight in enumerate(ahead[: targets.size(1)]):
        later = torch.zeros_like(targets)  # (B, L)
        later[:, : targets.size(1) - k] = targets[:, k:]
        of_states = later[targets != 0]  # (N,)
        present = weight * (of_states != 0)
        total = total + present * of_items.gather(1, of_states.unsqueeze(1)).squeeze(1).nan_to_num(neginf=0)
        weights = weights + present
    return total / weights


def state_weights(targets: Tensor, half_life: float, row_power: float) -> Tensor:
    """Return how much each state counts (N,), of ``targets`` (B, L) int64, 0 where there is none."""
    present = targets != 0
    from_last = present.flip(1).cumsum(1).flip(1) - 1  # (B, L) targets of the row that follow
    weights = present.sum(1, keepdim=True).double().clamp(min=1) ** -row_power  # (B, 1)
    by_age = 0.5 ** (from_last / half_life) if half_life else torch.ones_like(from_last, dtype=torch.float64)
    return (weights * by_age.clamp(min=_FLOOR))[present].float()


def weighted_loss(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    ahead: list[float],
    smoothing: float,
    half_life: float,
    row_power: float,
) -> Tensor:
    """Return the loss of states (N, d), items (C, d) with padding in row 0, and ``targets`` (B, L)."""
    logits = hidden @ table.T
    logits[:, 0] = -torch.inf
    shares = logits.log_softmax(1)  # (N, C)
    losses = -mean_over_targets(shares, targets, ahead)
    losses = (1 - smoothing) * losses - smoothing * shares[:, 1:].mean(1)
    weights = state_weights(targets, half_life, row_power)
    return (weights * losses).sum() / weights.sum()


@register_model
class SASRecTargetWeightsSCE(NextItemSASRec):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.ahead = [float(weight) for weight in config["ahead"]]
        self.numbers = [float(config[key]) for key in ("smoothing", "half_life", "row_power")]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        hidden, _, _ = self.training_states(interaction)
        return weighted_loss(
            hidden, self.item_table(), interaction[self.TARGET_SEQ], self.ahead, *self.numbers
        )
