"""``sparse_grad``: the same gradient, as a sparse tensor of the rows that the loss touched."""

from __future__ import annotations

import pytest
import torch
from test_scalable import make
from torch import nn

from recbole_sce.loss import (
    BCELoss,
    CrossEntropyLoss,
    GBCELoss,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
)

LOSSES = [
    lambda: ScalableCrossEntropyLoss(complete_softmax=False, n_buckets=3, bucket_size_x=8, bucket_size_y=4),
    lambda: ScalableCrossEntropyLoss(n_buckets=3, bucket_size_x=8, bucket_size_y=4, n_outside=9),
    lambda: SampledCrossEntropyLoss(3),
    lambda: GBCELoss(3),
    lambda: BCELoss(3),
]


@pytest.mark.parametrize("make_loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_the_dense_gradient_on_the_rows_it_names(make_loss, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    gradients = []
    for sparse_grad in (False, True):
        hidden, items, targets = make(10, 200, 6, dtype=dtype)
        loss_fn = make_loss()
        loss_fn.sparse_grad = sparse_grad
        loss_fn(hidden, items, targets, torch.Generator().manual_seed(1)).backward()
        gradients.append((items.grad, hidden.grad))
    (dense, dense_hidden), (sparse, sparse_hidden) = gradients
    assert sparse.is_sparse
    assert sparse._nnz() == sparse.coalesce()._nnz() < 80  # no row twice
    assert sparse.dtype == dense.dtype
    torch.testing.assert_close(sparse.to_dense(), dense)
    assert torch.equal(sparse_hidden, dense_hidden)


def test_adds_up_with_the_gradient_of_a_sparse_lookup() -> None:
    _, items, targets = make(10, 200, 6)
    table = nn.Embedding(200, 6, sparse=True, _weight=items.detach())
    loss_fn = ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=4)
    loss_fn.sparse_grad = True
    hidden = table(targets)
    loss_fn(hidden, table.weight, targets).backward()
    assert table.weight.grad.is_sparse
    assert set(targets.tolist()) <= set(table.weight.grad.coalesce().indices()[0].tolist())


def test_exact_cross_entropy_touches_every_row_and_has_none() -> None:
    loss_fn = CrossEntropyLoss()
    assert not loss_fn.allows_sparse_grad
    with pytest.raises(ValueError, match="sparse_grad must be False with CrossEntropyLoss, got True"):
        loss_fn.sparse_grad = True
