"""A step of several processes as one of a single process on the joined batch.

``DistributedDataParallel`` averages the gradients of the processes. The loss of each is a mean over its own
states, and with ``train_positions: all`` one process may have many more than another: a mean of means would
count these less.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recbole_sce.loss import stats_of
from recbole_sce.training.callbacks.base import Callback
from recbole_sce.utils import processes

if TYPE_CHECKING:
    from recbole_sce.model.mixin import SCEMixin


class WeighedByStates(Callback):
    """Lets each state of a step count the same, in whichever process it is."""

    def __init__(self, model: SCEMixin) -> None:
        self._model = model

    def epoch(self, epoch: int, n_steps: int) -> AbstractContextManager[None]:
        """Scale the losses of the steps."""
        return weighed_by_states(self._model)


@contextmanager
def weighed_by_states(model: SCEMixin) -> Iterator[None]:
    """Scale the loss of each process, within, so that the mean over processes is the mean over all states.

    Args:
        model: its ``loss_fct`` is called with ``(hidden, item_table, targets, ...)``, once a step, and
            returns the mean over the states, or over as many as its ``last_stats`` then say.
    """

    def weigh(loss_fct: Any, arguments: tuple[Tensor, ...], loss: Tensor) -> Tensor:
        n_states = stats_of(loss_fct, len(arguments[2])).n_trained
        of_all = loss.detach().new_full((), n_states)
        dist.all_reduce(of_all)
        return loss * (n_states * processes.world_size() / of_all.clamp(min=1))

    handle = model.loss_fct.register_forward_hook(weigh)
    try:
        yield
    finally:
        handle.remove()


def keep_from_ddp(model: SCEMixin) -> Tensor:
    """Let ``DistributedDataParallel``, which exchanges all rows, leave out the item table; and return it."""
    table = model.item_table()
    names = [name for name, parameter in model.named_parameters() if parameter is table]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        model, names
    )
    return table


def exchange_rows(table: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    """Begin with the first process's table, and average its sparse gradients before each step."""
    dist.broadcast(table.detach(), src=0)

    def average(*_: Any) -> None:
        if table.grad is not None and table.grad.is_sparse:  # of dense ones the optimizer complains
            table.grad = mean_of_rows(table.grad)

    optimizer.register_step_pre_hook(average)


def mean_of_rows(gradient: Tensor) -> Tensor:
    """Return the mean over processes of sparse gradients (COO) that name different rows of one table."""
    gradient = gradient.coalesce()
    rows, values = gradient.indices()[0], gradient.values()  # (m,), (m, d)
    sizes = _sizes(rows)
    indices = _gathered(rows, sizes).unsqueeze(0)
    mean = torch.sparse_coo_tensor(
        indices, _gathered(values, sizes) / len(sizes), gradient.shape, check_invariants=False
    )
    return mean.coalesce()


def rows_of_all(rows: Tensor) -> Tensor:
    """Return the rows (m_i,) that the processes name, one behind the other."""
    return _gathered(rows, _sizes(rows))


def _sizes(tensor: Tensor) -> list[int]:
    """Return the lengths of the tensors (m_i, ...) of all processes."""
    counts = [tensor.new_zeros(1, dtype=torch.int64) for _ in range(processes.world_size())]
    dist.all_gather(counts, counts[0].new_tensor([len(tensor)]))
    return torch.cat(counts).tolist()


def _gathered(tensor: Tensor, sizes: list[int]) -> Tensor:
    """Return the tensors (m_i, ...) of all processes, one behind the other."""
    padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes)])
