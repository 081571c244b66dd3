"""From settings to a loss."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from recbole_sce.loss import (
    CrossEntropyLoss,
    GBCELoss,
    LaterTargetsLoss,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
)
from recbole_sce.model.losses import AUTO_EXACT_UP_TO, build_loss, resolve_loss_type
from recbole_sce.settings import SCESettings


def test_defaults_are_those_of_the_loss() -> None:
    signature, settings = inspect.signature(ScalableCrossEntropyLoss).parameters, SCESettings()
    assert settings.bucket_alpha == signature["alpha"].default
    shared = set(signature) & set(vars(settings))
    assert len(shared) == 7
    for key in shared:
        assert getattr(settings, key) == signature[key].default


@pytest.mark.parametrize("n_items", [10, 3_416, 10_000_000])
@pytest.mark.parametrize("loss_type", ["SCE", "CE", "CE-", "gBCE", "BCE"])
def test_a_loss_is_the_same_in_every_catalogue(loss_type: str, n_items: int) -> None:
    settings = SCESettings(loss_type=loss_type)
    assert resolve_loss_type(settings, n_items) == loss_type
    assert build_loss(settings, n_items).name == loss_type


@pytest.mark.parametrize(
    ("n_items", "sparse", "chosen"),
    [
        (AUTO_EXACT_UP_TO, False, "CE"),
        (AUTO_EXACT_UP_TO + 1, False, "SCE"),
        (10, False, "CE"),
        (10, True, "SCE"),
    ],
)
def test_auto_is_exact_in_small_catalogues(n_items: int, sparse: bool, chosen: str) -> None:
    settings = SCESettings(loss_type="auto", sparse_item_updates=sparse)
    assert resolve_loss_type(settings, n_items) == chosen
    assert isinstance(
        build_loss(settings, n_items), {"CE": CrossEntropyLoss, "SCE": ScalableCrossEntropyLoss}[chosen]
    )


@pytest.mark.parametrize(
    ("key", "value", "attribute"),
    [
        ("n_buckets", 3, "n_buckets"),
        ("bucket_size_x", 5, "bucket_size_x"),
        ("bucket_size_y", 7, "bucket_size_y"),
        ("bucket_alpha", 4.0, "alpha"),
        ("mix_x", False, "mix_x"),
        ("complete_softmax", False, "complete_softmax"),
        ("n_outside", 9, "n_outside"),
        ("catalog_chunk", 11, "catalog_chunk"),
    ],
)
def test_settings_reach_the_loss(key: str, value: Any, attribute: str) -> None:
    assert getattr(build_loss(SCESettings(**{key: value}), 100), attribute) == value


def test_settings_reach_the_sampled_losses() -> None:
    sampled = build_loss(SCESettings(loss_type="CE-", n_negatives=7), 100)
    assert isinstance(sampled, SampledCrossEntropyLoss)
    assert sampled.n_negatives == 7
    calibrated = build_loss(SCESettings(loss_type="gBCE", n_negatives=7, gbce_t=0.5), 100)
    assert isinstance(calibrated, GBCELoss)
    assert (calibrated.n_negatives, calibrated.calibration) == (7, 0.5)


@pytest.mark.parametrize("loss_type", ["SCE", "CE", "auto"])
def test_later_targets_are_part_of_the_loss(loss_type: str) -> None:
    loss_fn = build_loss(SCESettings(loss_type=loss_type, target_discount=0.4), 100)
    assert isinstance(loss_fn, LaterTargetsLoss)
    assert loss_fn.target_discount == 0.4


def test_later_targets_of_a_loss_that_allows_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"target_discount must be 0 with BCELoss, got 0\.4"):
        build_loss(SCESettings(loss_type="BCE", target_discount=0.4), 100)
