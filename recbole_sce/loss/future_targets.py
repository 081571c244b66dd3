"""Later items of a sequence as further targets of the softmax.

A user's next item is one draw from what the user is about to want, and the items after it are more. Caser
predicts the next few items (Tang and Wang, WSDM 2018), PinnerFormer any later one (Pancha et al., KDD 2022,
dense all-action loss). What it gives here: docs/experiments.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_sce.loss.inputs import check_inputs, check_one_a_state
from recbole_sce.loss.ops.logits import compute_dtype


class LaterTargets(nn.Module):
    """The term that turns cross-entropy against each state's next item into one against later items, too.

    A state's targets are its own and those of the states that come after it in its sequence, the k-th of them
    with weight ``discount`` ** k. With the weights q_j, scaled to sum to one, cross-entropy against the
    targets y_j is log( sum_i exp(x . w_i) ) - sum_j q_j x . w_{y_j}. It differs from that against the own
    target y alone by::

        mean over states of  x . ( w_y - sum_j q_j w_{y_j} )

    This is to be added to a loss whose sum over items i holds all later targets, as ``holds_histories`` of a
    loss says: to another one it would have no lower bound.

    Args:
        discount: above 0 and below 1.
    """

    def __init__(self, discount: float) -> None:
        super().__init__()
        if not 0 < discount < 1:
            raise ValueError(f"discount: {discount!r} is not allowed; a number above 0 and below 1 is")
        self.discount = discount
        self.sparse_grad = False

    def forward(self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor, owner: Tensor) -> Tensor:
        """Return the term.

        Args:
            hidden: (N, d) floating point, sequence by sequence, each in its order.
            item_embeddings: (C, d) floating point.
            targets: (N,) int64, rows of ``item_embeddings``.
            owner: (N,) int64, ascending: which sequence a state is of.

        Returns:
            A scalar in float32 (float64 for float64 states); zero for no states.

        Raises:
            ValueError: a tensor has the wrong shape, dtype or device.
        """
        check_inputs(hidden, item_embeddings, targets)
        check_one_a_state("owner", owner, hidden, "the sequence of each hidden state")
        dtype = compute_dtype(hidden)
        _, sequence, sizes = torch.unique_consecutive(owner, return_inverse=True, return_counts=True)
        starts = sizes.cumsum(0) - sizes  # of the sequences
        place = torch.arange(len(owner), device=owner.device) - starts[sequence]  # (N,)
        longest = int(sizes.max()) if len(sizes) else 0
        own = nn.functional.embedding(targets, item_embeddings, sparse=self.sparse_grad).to(dtype)  # (N, d)
        with torch.autocast(hidden.device.type, enabled=False):
            padded = own.new_zeros(len(sizes), longest, own.size(1)).index_put((sequence, place), own)
            present = own.new_zeros(len(sizes), longest, 1)
            present[sequence, place] = 1
            weights = _weights(longest, self.discount).to(padded)  # (longest, longest)
            # The own target weighs 1, so that the sum is at least 1 wherever there is a state.
            mixed = (weights @ padded) / (weights @ present).clamp(min=1)  # (sequences, longest, d)
            products = torch.linalg.vecdot(hidden.to(dtype), own - mixed[sequence, place])  # (N,)
        term: Tensor = products.sum() / max(len(hidden), 1)
        return term

    def extra_repr(self) -> str:
        """Show the discount when the module is printed."""
        return f"discount={self.discount}"


def _weights(length: int, discount: float) -> Tensor:
    """Return (length, length): what a target (second) weighs for a state (first), by their places."""
    places = torch.arange(length, dtype=torch.float64)
    distance = places - places.unsqueeze(1)
    return torch.where(distance >= 0, discount ** distance.clamp(min=0), 0)
