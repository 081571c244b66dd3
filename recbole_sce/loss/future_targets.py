"""Later items of a sequence as further targets of the softmax.

A user's next item is one draw from what the user is about to want, and the items after it are more. Caser
predicts the next few items (Tang and Wang, WSDM 2018), PinnerFormer any later one (Pancha et al., KDD 2022,
dense all-action loss). What it gives here: docs/notes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_sce.loss.base import ItemLoss, LossStats
from recbole_sce.loss.inputs import check_inputs, check_one_a_state
from recbole_sce.loss.ops.logits import compute_dtype
from recbole_sce.loss.sce.histories import Histories
from recbole_sce.utils.devices import to_device


class LaterTargets(nn.Module):
    """The term that turns cross-entropy against each state's next item into one against later items, too.

    A state's targets are its own and those of the states that come after it in its sequence, the k-th of them
    with weight ``discount`` ** k. With the weights q_j, scaled to sum to one, cross-entropy against the
    targets y_j is log( sum_i exp(x . w_i) ) - sum_j q_j x . w_{y_j}. It differs from that against the own
    target y alone by::

        mean over states of  x . ( w_y - sum_j q_j w_{y_j} )

    This is to be added to a loss whose sum over items i holds all later targets, as ``allows_later_targets``
    of a loss says: to another one it would have no lower bound. :class:`LaterTargetsLoss` adds it.

    Args:
        discount: above 0 and below 1.
    """

    def __init__(self, discount: float) -> None:
        super().__init__()
        if not 0 < discount < 1:
            raise ValueError(f"discount must be a number above 0 and below 1, got {discount!r}")
        self.discount = discount
        self.sparse_grad = False

    def forward(self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor, owner: Tensor) -> Tensor:
        """Return the term.

        Args:
            hidden: (N, d) floating point, sequence by sequence, each in its order.
            item_embeddings: (C, d) floating point.
            targets: (N,) int64, rows of ``item_embeddings``.
            owner: (N,) int64, ascending: which sequence a state is of. On the CPU nothing has to be read
                back from an accelerator.

        Returns:
            A scalar in float32 (float64 for float64 states); zero for no states.

        Raises:
            ValueError: a tensor has the wrong shape, dtype or device.
        """
        check_inputs(hidden, item_embeddings, targets)
        check_one_a_state("owner", owner, hidden, "the sequence of each hidden state")
        dtype = compute_dtype(hidden)
        _, sequence, sizes = torch.unique_consecutive(owner.cpu(), return_inverse=True, return_counts=True)
        starts = sizes.cumsum(0) - sizes  # of the sequences
        place = torch.arange(len(owner)) - starts[sequence]  # (N,)
        longest = int(sizes.max()) if len(sizes) else 0
        sequence, place = to_device(sequence, hidden.device), to_device(place, hidden.device)
        own = nn.functional.embedding(targets, item_embeddings, sparse=self.sparse_grad).to(dtype)  # (N, d)
        with torch.autocast(hidden.device.type, enabled=False):
            padded = own.new_zeros(len(sizes), longest, own.size(1)).index_put((sequence, place), own)
            present = own.new_zeros(len(sizes), longest, 1)
            present[sequence, place] = 1
            weights = to_device(_weights(longest, self.discount).to(dtype), hidden.device)
            # The own target weighs 1, so that the sum is at least 1 wherever there is a state.
            mixed = (weights @ padded) / (weights @ present).clamp(min=1)  # (sequences, longest, d)
            products = torch.linalg.vecdot(hidden.to(dtype), own - mixed[sequence, place])  # (N,)
        term: Tensor = products.sum() / max(len(hidden), 1)
        return term

    def extra_repr(self) -> str:
        """Show the discount when the module is printed."""
        return f"discount={self.discount}"


class LaterTargetsLoss(ItemLoss):
    """A loss against each state's next item and, with less weight, against those that follow later.

    Args:
        loss_fn: the loss against the next item, one that allows later targets.
        discount: what an item weighs less for each place later; above 0 and below 1.

    Raises:
        ValueError: ``loss_fn`` allows no later targets, or ``discount`` is impossible.
    """

    needs_owner = True

    def __init__(self, loss_fn: nn.Module, discount: float) -> None:
        super().__init__()
        if not (isinstance(loss_fn, ItemLoss) and loss_fn.allows_later_targets):
            raise ValueError(
                f"target_discount must be 0 with {type(loss_fn).__name__}, got {discount!r}: its sum over "
                "items need not hold those of each state's row (allows_later_targets of ItemLoss says so)"
            )
        self.loss_fn = loss_fn
        self.later_targets = LaterTargets(discount)
        self.name, self.target_discount = loss_fn.name, discount
        self.needs_histories, self.allows_sparse_grad = loss_fn.needs_histories, loss_fn.allows_sparse_grad

    @property
    def sparse_grad(self) -> bool:
        """Whether the gradient of the item embeddings is a sparse (COO) tensor of the rows touched."""
        return self.later_targets.sparse_grad

    @sparse_grad.setter
    def sparse_grad(self, value: bool) -> None:
        self.loss_fn.sparse_grad = value
        self.later_targets.sparse_grad = value

    def forward(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
        targets: Tensor,
        generator: torch.Generator | None = None,
        *,
        owner: Tensor,
        histories: Histories | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            hidden: (N, d) floating point, sequence by sequence, each in its order.
            item_embeddings: (C, d) floating point.
            targets: (N,) int64, rows of ``item_embeddings``.
            generator: of the loss against the next item.
            owner: (N,) int64, ascending: which sequence a state is of.
            histories: of a loss that needs them.

        Returns:
            A scalar in float32 (float64 for float64 states); zero for no states.

        Raises:
            ValueError: a tensor has the wrong shape, dtype or device.
        """
        more: dict[str, torch.Generator | Histories | None] = {}
        if generator is not None:  # which a loss of three tensors does not take
            more["generator"] = generator
        if self.needs_histories:
            more["histories"] = histories
        loss: Tensor = self.loss_fn(hidden, item_embeddings, targets, **more)
        later: Tensor = self.later_targets(hidden, item_embeddings, targets, owner)
        return loss + later

    @property
    def last_stats(self) -> LossStats:
        """Those of the loss against the next item."""
        return self.loss_fn.last_stats


def check_discount(loss_fn: nn.Module, discount: float | None) -> None:
    """Check that a loss holds later targets of this discount, or none where it is 0.

    Raises:
        ValueError: it does not.
    """
    held = loss_fn.target_discount if isinstance(loss_fn, ItemLoss) else 0.0
    if discount and held != discount:
        raise ValueError(
            f"target_discount must be {held} with this {type(loss_fn).__name__}, got {discount!r}: later "
            "targets are a part of the loss. Set target_discount: 0, or give the model "
            f"LaterTargetsLoss({type(loss_fn).__name__}(...), {discount!r}), if the sum over items holds "
            "those of each row"
        )


def _weights(length: int, discount: float) -> Tensor:
    """Return (length, length): what a target (second) weighs for a state (first), by their places."""
    places = torch.arange(length, dtype=torch.float64)
    distance = places - places.unsqueeze(1)
    return torch.where(distance >= 0, discount ** distance.clamp(min=0), 0)
