"""From settings to a loss: the sizes that nobody sets."""

from __future__ import annotations

import pytest

from recbole_sce.loss import ScalableCrossEntropyLoss
from recbole_sce.model.losses import build_loss
from recbole_sce.model.settings import SCESettings


@pytest.mark.parametrize(("n_items", "exact"), [(12_288, True), (12_289, False)])
def test_small_catalogues_get_the_exact_softmax_where_no_size_is_set(n_items: int, exact: bool) -> None:
    loss_fn = build_loss(SCESettings())
    assert isinstance(loss_fn, ScalableCrossEntropyLoss)
    assert loss_fn.bucket_size_y == 1024
    assert loss_fn.is_exact(n_items) is exact


@pytest.mark.parametrize(
    "kept", [{"bucket_size_y": 1024}, {"n_buckets": 50}, {"bucket_size_x": 50}, {"complete_softmax": False}]
)
def test_sizes_set_by_hand_have_buckets(kept: dict[str, int]) -> None:
    loss_fn = build_loss(SCESettings(**kept))  # type: ignore[arg-type]
    assert isinstance(loss_fn, ScalableCrossEntropyLoss)
    assert not loss_fn.is_exact(4_097)
