"""Keys of RecBole: what they may hold, and that RecBole's own values pass."""

from __future__ import annotations

from typing import Any

import pytest
from recbole.config import Config

from recbole_sce.model import MODELS
from recbole_sce.settings.recbole_types import problems_of_types


@pytest.mark.parametrize("model", sorted(cls.__name__ for cls in MODELS if cls.__name__ != "S3RecSCE"))
def test_recboles_own_values_pass(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    settings = {"selected_features": ["class"], "load_col": None}
    assert Config(model, "ml-100k", config_dict=settings)["model"] == model


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("user_inter_num_interval", value) for value in ("[5,inf)", "(0,1];[3,4)", [20, 22], (3, 9), None)),
        *(("gpu_id", value) for value in ("0", "0,1", "", 0, -1, (0, 1))),
        *(("load_col", value) for value in (None, {"inter": "*"}, {"inter": ["a"], "item": ("b",)})),
        *(("val_interval", value) for value in (None, {"rating": "[3,5]"}, {"kind": ["a", "b"]})),
        *(("state", value) for value in ("INFO", "info", None)),
        *(("dilations", value) for value in ([1, 4], [1, 2, 4], (1, 2))),
        ("global_ratio", 0.5),
        ("nv", 4.0),
        ("seed", 0),
        ("threshold", {"rating": 3}),
        ("colour", object()),
    ],
)
def test_what_serves_passes(key: str, value: Any) -> None:
    assert problems_of_types({key: value}, {"dilations": [1, 4], "global_ratio": 1, "nv": 4}) == []


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        *(
            ("user_inter_num_interval", value, "intervals such as '[5,inf)' or '(0,1];[3,4)', or null")
            for value in ("[5", "5", "[a,b]", 5, [10, 5], "", True, {})
        ),
        *(("gpu_id", value, "numbers of devices") for value in ("x", [], True, 1.5)),
        *(("load_col", value, "a dict of lists of columns") for value in ("all", [], {"inter": 3})),
        *(("seed", value, "a whole number from 0 to 2**32 - 1") for value in (-1, 2**40, "x", None, True)),
        ("state", "loud", "one of trace, debug"),
        ("hidden_act", "step", "gelu, relu, swish, tanh or sigmoid"),
        ("threshold", {"rating": "x"}, "a dict of one column"),
        ("threshold", {"a": 1, "b": 2}, "a dict of one column"),
        ("nv", "x", "a whole number"),
        ("nv", 1.5, "a whole number"),
        ("dilations", [], "a list of numbers"),
        ("dropout_probs", [0.1], "a list of 2 numbers"),
        ("pooling_type", 3, "text"),
        ("high", float("nan"), "a number"),
        ("std", 1, "True or False"),
        ("reg_weight", "x", "a number"),
    ],
)
def test_what_does_not_is_named(key: str, value: Any, allowed: str) -> None:
    defaults = {
        "dilations": [1, 4],
        "nv": 4,
        "dropout_probs": [0.25, 0.5],
        "pooling_type": "average",
        "high": 0.5,
        "std": False,
    }
    (problem,) = problems_of_types({key: value}, defaults)
    assert problem.startswith(f"{key} must be {allowed}")
    assert problem.endswith(f"got {value!r}")
