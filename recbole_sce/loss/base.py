"""What a loss needs, gives and allows: the interface between losses and those who train with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from recbole_sce.loss.sce.histories import Histories


@dataclass(frozen=True)
class LossStats:
    """Plain numbers of the last call of a loss.

    ``n_states`` N and ``n_trained`` of them, whose mean the loss is. ``estimated`` says whether a sample
    stands for a part of the sum over items. A loss with buckets has their number and sizes, and
    ``bucket_coverage``, the share of states in at least one of them; one without has zeros and None.
    """

    n_states: int = 0
    n_trained: int = 0
    estimated: bool = False
    bucket_coverage: float | None = None
    n_buckets: int = 0
    bucket_size_x: int = 0
    bucket_size_y: int = 0


class ItemLoss(nn.Module):
    """A loss of hidden states against item embeddings.

    It is called ``loss(hidden (N, d), item_embeddings (C, d), targets (N,))``, with the keyword arguments
    that it needs. A subclass says what differs from the defaults below. Any other module with that call can
    train a model, too: it then needs and allows no more than the defaults (see :func:`call_loss`).
    """

    #: The name shown with results.
    name = ""
    #: Needs ``histories``, the items of each state's history (:class:`Histories`).
    needs_histories = False
    #: Needs ``owner`` (N,) int64, ascending: which row of the batch a state is of. It is on the CPU, as the
    #: model's batch was, whatever device the states are on.
    needs_owner = False
    #: Allows later targets: its sum over items holds those of each state's row.
    allows_later_targets = False
    #: Allows a sparse gradient of the item embeddings.
    allows_sparse_grad = False
    #: The discount of the later targets that it holds; 0 without.
    target_discount = 0.0
    _sparse_grad = False
    #: How many states the last call had.
    _n_states = 0

    @property
    def sparse_grad(self) -> bool:
        """Whether the gradient of the item embeddings is a sparse (COO) tensor of the rows touched.

        Raises:
            ValueError: it is set, and the loss does not allow it.
        """
        return self._sparse_grad

    @sparse_grad.setter
    def sparse_grad(self, value: bool) -> None:
        if value and not self.allows_sparse_grad:
            raise ValueError(
                f"sparse_grad must be False with {type(self).__name__}, got True: its gradient of the item "
                "embeddings is dense"
            )
        self._sparse_grad = bool(value)

    @property
    def last_stats(self) -> LossStats:
        """What the last call did."""
        return LossStats(n_states=self._n_states, n_trained=self._n_states)


def call_loss(
    loss_fn: nn.Module,
    hidden: Tensor,
    item_embeddings: Tensor,
    targets: Tensor,
    owner: Tensor,
    row_items: Callable[[], Tensor],
) -> Tensor:
    """Call a loss with what it needs.

    Args:
        loss_fn: an :class:`ItemLoss`, or any module that takes the first three tensors.
        hidden: (N, d) floating point, row by row, each in its order.
        item_embeddings: (C, d) floating point.
        targets: (N,) int64, rows of ``item_embeddings``.
        owner: (N,) int64, ascending: which row of the batch a state is of; on the CPU, or with the states.
        row_items: returns (B, L) int64, the items of each row of the batch; other numbers than rows of
            ``item_embeddings``, such as a mask's, count for nothing. Called for a loss that needs histories.

    Returns:
        A scalar.
    """
    more: dict[str, Tensor | Histories] = {}
    if isinstance(loss_fn, ItemLoss):
        if loss_fn.needs_owner:
            more["owner"] = owner
        if loss_fn.needs_histories:
            items = row_items()
            known = (items >= 0) & (items < len(item_embeddings))
            more["histories"] = Histories(items.masked_fill(~known, -1), owner)
    loss: Tensor = loss_fn(hidden, item_embeddings, targets, **more)
    return loss


def stats_of(loss_fn: nn.Module, n_states: int) -> LossStats:
    """Return the statistics of the last call of any loss, which had ``n_states`` states."""
    if isinstance(loss_fn, ItemLoss):
        return loss_fn.last_stats
    return LossStats(n_states=n_states, n_trained=n_states)


def display_name(loss_type: str, complete_softmax: bool = True) -> str:
    """Return the name of a loss where a result is shown, from the settings of the same names."""
    return "SCE (paper)" if loss_type == "SCE" and not complete_softmax else loss_type
