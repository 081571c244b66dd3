"""Recommendations of plugin models: the first k items of many users, without a score for every item held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import psutil  # type: ignore[import-untyped]
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_sce.data.sequences import values_of_slices
from recbole_sce.evaluator.encoding import encode_rows
from recbole_sce.evaluator.pairs import Pairs
from recbole_sce.evaluator.ranking import rank_catalogue
from recbole_sce.utils.devices import to_device

if TYPE_CHECKING:
    from recbole_sce.model.mixin import SCEMixin

Users = Sequence[int] | npt.NDArray[Any] | Tensor

#: Rows of test data whose sequences are made at a time.
_ROWS_AT_ONCE = 1024
#: Most users that an error names.
_NAMED = 10


def stream_topk(
    hidden: Tensor, item_table: Tensor, k: int, exclude: Pairs | None = None, memory_mb: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the k items with the largest inner product with each hidden state.

    Equal to ``torch.topk(hidden @ item_table.T, k)`` with item 0 (RecBole's padding) and ``exclude`` at
    -inf, in bounded memory.

    Args:
        hidden: (B, d) floating point.
        item_table: (C, d) floating point.
        k: 1 to C.
        exclude: cells (rows of ``hidden``, items) that are no candidates.
        memory_mb: most MiB beside inputs and results; None is automatic.

    Returns:
        Scores (B, k), descending, and items (B, k) int64.

    Raises:
        ValueError: ``k`` is not possible.
    """
    ranking = rank_catalogue(hidden, item_table, k, exclude=exclude, memory_mb=memory_mb)
    return ranking.scores, ranking.items


@torch.no_grad()
def full_sort_topk(
    uid_series: Users, model: SCEMixin, test_data: Any, k: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Return the first k items of users (RecBole: ``recbole.utils.case_study.full_sort_topk``).

    A user with several rows of test data has as many rows in the result, as in RecBole. With
    ``exclude_seen``, items of a row's whole history are left out, as in evaluation.

    Args:
        uid_series: internal ids of users; each must have a row in the test data.
        model: a model of the plugin.
        test_data: RecBole's loader of test data.
        k: 1 to the number of items.
        device: where ``model`` is; None is found out.

    Returns:
        Scores (B, k), descending, and internal ids of items (B, k) int64.

    Raises:
        ValueError: users are absent from the test data, or ``k`` is not possible.
    """
    device = device or next(model.parameters()).device
    rows = rows_of_users(uid_series, test_data.dataset)
    model.eval()
    table = model.item_table()
    parts = [
        stream_topk(hidden, table, k, exclude, model.settings.eval_memory_mb)
        for hidden, exclude in _encoded(rows, model, test_data, device)
    ]
    return torch.cat([scores for scores, _ in parts]), torch.cat([items for _, items in parts])


@torch.no_grad()
def full_sort_scores(
    uid_series: Users, model: SCEMixin, test_data: Any, device: torch.device | None = None
) -> Tensor:
    """Return the scores of all items for users (RecBole: ``recbole.utils.case_study.full_sort_scores``).

    Arguments are those of :func:`full_sort_topk`.

    Returns:
        (B, n_items); item 0, padding, is -inf, and with ``exclude_seen`` so are items of the history.

    Raises:
        ValueError: users are absent from the test data, or the result does not fit in free memory.
    """
    device = device or next(model.parameters()).device
    rows = rows_of_users(uid_series, test_data.dataset)
    model.eval()
    table = model.item_table()
    _check_fits(len(rows), table, device)
    scores = torch.empty(len(rows), len(table), dtype=table.dtype, device=device)
    start = 0
    for hidden, exclude in _encoded(rows, model, test_data, device):
        part = scores[start : start + len(hidden)]
        torch.mm(hidden, table.T, out=part)
        part[:, 0] = -torch.inf
        if exclude is not None:
            part[to_device(exclude.rows, device), to_device(exclude.items, device)] = -torch.inf
        start += len(hidden)
    return scores


def rows_of_users(uid_series: Users, dataset: Any) -> Tensor:
    """Return the rows (B,) int64 of a data set that belong to users, in the users' order.

    Raises:
        ValueError: users have no row; the message names them.
    """
    asked_users = torch.as_tensor(uid_series).reshape(-1).cpu()  # (U,)
    users = dataset.inter_feat[dataset.uid_field].long()  # (n,)
    by_user, order = users.sort(stable=True)
    starts = torch.searchsorted(by_user, asked_users)  # (U,)
    stops = torch.searchsorted(by_user, asked_users, right=True)
    absent = asked_users[starts == stops].tolist()
    if absent:
        some = ", ".join(map(str, absent[:_NAMED])) + (", ..." if len(absent) > _NAMED else "")
        raise ValueError(
            f"uid_series: {len(absent)} of {len(asked_users)} users have no row in this part of the data, so "
            f"there is no history to recommend from: internal ids {some}"
        )
    return values_of_slices(order, starts, stops)[1]


def _encoded(
    rows: Tensor, model: SCEMixin, test_data: Any, device: torch.device
) -> Iterator[tuple[Tensor, Pairs | None]]:
    """Yield hidden states (b, d) of some rows at a time, and what is excluded for them."""
    dataset = test_data.dataset
    for start in range(0, max(len(rows), 1), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        interaction: Interaction = test_data.transform(dataset, dataset[some])
        exclude = None
        if model.settings.exclude_seen:
            places, items = dataset.history(some)
            kept = items != interaction[dataset.iid_field][places]  # the target stays, as in evaluation
            exclude = Pairs(places[kept], items[kept])
        yield encode_rows(model, interaction, device), exclude


def _check_fits(n_rows: int, table: Tensor, device: torch.device) -> None:
    needed = n_rows * len(table) * table.element_size()
    on_cpu = device.type == "cpu"
    free = psutil.virtual_memory().available if on_cpu else torch.cuda.mem_get_info(device)[0]
    if needed > free:
        raise ValueError(
            f"uid_series: scores of all {len(table)} items for {n_rows} rows take {needed / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB are free; ask for fewer users at a time, or for the first k items "
            "(full_sort_topk)"
        )
