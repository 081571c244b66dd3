"""A setting is lost on the way: its key is misspelt, or its value is of a kind that no checkpoint keeps."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recbole.quick_start import run_recbole

from recbole_sce import SettingsError

from .conftest import Toy


class Kind(enum.Enum):
    LARGE = 1


@pytest.mark.parametrize("model", ["SASRecSCE", "SASRec"])
@pytest.mark.parametrize(
    "value",
    [datetime.date(2020, 1, 1), Kind.LARGE, Kind, max, lambda: 1, {"at": [datetime.date(2020, 1, 1)]}],
)
def test_what_no_checkpoint_keeps_is_refused_before_training(toy: Toy, model: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^my_own must be plain data, .* got .*: write it as"):
        toy.trained(model, my_own=value)
    assert not list(Path("saved").glob("*.pth"))


@pytest.mark.parametrize(
    "value", ["2020-01-01", 1.5, None, {"a": [1, (2, True)]}, np.float32(1), Path("x"), {1}]
)
def test_plain_data_is_kept(toy: Toy, value: Any) -> None:
    assert Path(toy.trained(my_own=value, epochs=1).file).is_file()


def test_without_a_checkpoint_models_of_recbole_take_anything(toy: Toy) -> None:
    run = toy.prepared("SASRec", my_own=max, epochs=1)
    run.trainer.fit(run.train, run.valid, saved=False, show_progress=False)


@pytest.mark.parametrize("model", ["SASRecSCE", "SASRec"])
@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("n_bucket", "n_buckets"),
        ("loss_typ", "loss_type"),
        ("Exclude_Seen", "exclude_seen"),
        ("temporal_hold_out", "temporal_holdout"),
    ],
)
def test_a_misspelt_key_is_warned_of(
    toy: Toy, model: str, key: str, near: str, log_lines: Callable[[], str]
) -> None:
    toy.prepared(model, **{key: 1})
    assert log_lines().splitlines() == [f"{key} must be a key that somebody reads: did you mean {near}?"]


def test_keys_of_ones_own_and_of_recbole_are_no_misspelt_ones(toy: Toy, log_lines: Callable[[], str]) -> None:
    toy.prepared(my_weight=1, colour="red", train_batch_size=7, stopping_step=3, loss_type="CE")
    assert not log_lines()


def test_run_recbole_warns_once(toy: Toy, log_lines: Callable[[], str]) -> None:
    settings = toy.settings(n_bucket=3, epochs=1, state="WARNING")
    run_recbole("SASRecSCE", "toy", config_dict=settings, saved=False)
    assert log_lines().count("did you mean n_buckets?") == 1
