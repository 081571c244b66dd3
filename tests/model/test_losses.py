"""From settings to a loss: the sizes that nobody sets."""

from __future__ import annotations

import pytest

from recbole_sce.loss import ScalableCrossEntropyLoss
from recbole_sce.model.losses import build_loss
from recbole_sce.settings import SCESettings


@pytest.mark.parametrize(
    ("chosen", "largest"),
    [
        ({}, 12_288),
        ({"bucket_size_y": 1024}, 10_240),
        ({"bucket_size_y": 256}, 4_096),
        ({"n_outside": 1024}, 3_072),
        ({"bucket_alpha": 4.0, "n_outside": 2048}, 10_240),
    ],
)
def test_small_catalogues_get_the_exact_softmax(chosen: dict[str, float], largest: int) -> None:
    loss_fn = build_loss(SCESettings(**chosen))  # type: ignore[arg-type]
    assert isinstance(loss_fn, ScalableCrossEntropyLoss)
    assert loss_fn.is_exact(largest)
    assert not loss_fn.is_exact(largest + 1)


def test_sizes_that_nobody_sets() -> None:
    loss_fn = build_loss(SCESettings())
    assert isinstance(loss_fn, ScalableCrossEntropyLoss)
    assert (loss_fn.bucket_size_y, loss_fn.n_outside) == (256, 2048)


@pytest.mark.parametrize("kept", [{"n_buckets": 50}, {"bucket_size_x": 50}, {"complete_softmax": False}])
def test_sizes_set_by_hand_have_buckets(kept: dict[str, int]) -> None:
    loss_fn = build_loss(SCESettings(**kept))  # type: ignore[arg-type]
    assert isinstance(loss_fn, ScalableCrossEntropyLoss)
    assert not loss_fn.is_exact(100)
