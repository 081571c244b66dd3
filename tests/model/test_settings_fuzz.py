"""Any value for the plugin's keys is accepted, or refused by an error that names key and value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.config import Config

from recbole_sce.settings import KEYS, SettingsError, parse_settings
from recbole_sce.settings.checks import Trains

OF_RECBOLE = [
    "train_batch_size",
    "eval_batch_size",
    "MAX_ITEM_LIST_LENGTH",
    "epochs",
    "stopping_step",
    "learning_rate",
    "valid_metric",
    "train_neg_sample_args",
]
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 5),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["SCE", "CE-", "all", "last", "auto", "null", "1", "1e3", "yes", "none", "None"]),
)
trains = st.sampled_from(get_args(Trains))
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["mode", "distribution", "split", "a"]), inner, max_size=2),
    ),
    max_leaves=4,
)


def refusal_of(make: Callable[[], Any], kind: type[ValueError] = SettingsError) -> str:
    """Return the message with which ``make`` refuses, '' if it does not; any other exception is a fault."""
    try:
        make()
    except kind as error:
        return str(error)
    return ""


@given(st.sampled_from([*KEYS, *OF_RECBOLE]), values, trains)
def test_one_value(key: str, value: Any, trains: Trains) -> None:
    refusal = refusal_of(lambda: parse_settings({key: value}, trains))
    if refusal:
        assert refusal.startswith(f"{key} must be ")
        assert f", got {value!r}" in refusal
    elif key in KEYS and (key, value) != ("train_positions", "auto"):
        assert getattr(parse_settings({key: value}, trains), key) == value


@given(st.dictionaries(st.sampled_from([*KEYS, *OF_RECBOLE]), values), trains)
def test_many_values(given_values: dict[str, Any], trains: Trains) -> None:
    refusal = refusal_of(lambda: parse_settings(given_values, trains))
    named = [
        f"{key} must be " in refusal and f", got {value!r}" in refusal for key, value in given_values.items()
    ]
    assert not refusal or any(named)


@settings(
    max_examples=max(15, settings().max_examples // 30),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(given_values=st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=3))
def test_values_in_files(
    given_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(given_values, allow_unicode=True), encoding="utf-8")
    refusal = refusal_of(lambda: Config("SASRecSCE", "ml-100k", config_file_list=[str(path)]), ValueError)
    assert not refusal or any(f"{key} must be " in refusal for key in given_values)
