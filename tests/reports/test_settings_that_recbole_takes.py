"""A configuration that RecBole runs is refused once the model is a variant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recbole.config import Config

from recbole_sce import SettingsError
from recbole_sce.model import SASRecSCE

from .conftest import ROWS, Toy

WIDE = {"inter": ["user_id", "item_id", "timestamp", "rating"], "item": ["item_id", "price", "maker"]}
VECTORS = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "vectors": ["iid", "vector"]},
    "additional_feat_suffix": ["vectors"],
    "alias_of_item_id": ["iid"],
    "preload_weight": {"iid": "vector"},
}


@pytest.fixture
def wide(toy: Toy) -> Toy:
    """Interactions with ratings, and files of items and of vectors."""
    header = "user_id:token\titem_id:token\ttimestamp:float\trating:float"
    toy.write([(*row, str(1 + int(row[2]) % 5)) for row in ROWS], "inter", header)
    items = [(f"i{item}", str(item), f"m{item % 4}") for item in range(45)]
    toy.write(items, "item", "item_id:token\tprice:float\tmaker:token")
    vectors = [(f"i{item}", f"0.{item} 1") for item in range(40)]
    toy.write(vectors, "vectors", "iid:token\tvector:float_seq")
    return toy


@pytest.mark.parametrize(
    "keys",
    [
        {"val_interval": {"rating": "[2,inf)"}, "unused_col": {"inter": ["rating"]}},
        {"threshold": {"rating": 3}, "unused_col": {"inter": ["rating"]}},
        {"normalize_field": ["rating"], "unused_col": {"inter": ["rating"]}},
        {"numerical_features": ("price",), "unused_col": {"item": ["price"]}},
        {"alias_of_item_id": ["maker"], "unused_col": {"item": ["price", "maker"]}},
        {"val_interval": {"user_id": [f"u{user}" for user in range(9)]}},
        {**VECTORS, "unused_col": {"vectors": ["iid", "vector"]}},
    ],
    ids=lambda keys: ", ".join(keys),
)
@pytest.mark.parametrize("model", ["SASRec", "SASRecSCE"])
def test_columns_serve_filters_and_are_dropped_afterwards(
    wide: Toy, model: str, keys: dict[str, Any]
) -> None:
    run = wide.prepared(model, **{"load_col": WIDE, "epochs": 1, **keys})
    run.trainer.fit(run.train, run.valid, show_progress=False)
    for suffix, fields in keys.get("unused_col", {}).items():
        features = getattr(run.train.dataset, f"{suffix}_feat")
        assert not any(field in features for field in fields)


def test_filter_leaves_what_recboles_leaves(wide: Toy) -> None:
    keys = {"load_col": WIDE, "val_interval": {"user_id": [f"u{user}" for user in range(9)]}}
    tables = [wide.prepared(model, **keys).dataset for model in ("SASRec", "SASRecSCE")]
    recboles, ours = [(data.user_num, data.item_num, sorted(data.item_feat["item_id"])) for data in tables]
    assert ours == recboles


def test_threshold_of_a_column_that_is_no_interactions_is_named(wide: Toy) -> None:
    with pytest.raises(SettingsError, match="threshold must be of a float column of inter that is loaded"):
        wide.prepared(load_col=WIDE, threshold={"price": 3})


@pytest.mark.parametrize(
    ("key", "value", "taken"),
    [
        ("hidden_size", np.int64(16), 16),
        ("bucket_size_y", np.int64(64), 64),
        ("learning_rate", np.float32(0.5), 0.5),
        ("shuffle", np.bool_(True), True),
        ("topk", [np.int64(10)], [10]),
        ("seed", 1e3, 1000),
        ("shuffle", 0, False),
        ("filter_inter_by_user_or_item", 1, True),
        ("mix_x", 0, False),
        ("log_wandb", None, False),
        ("enable_amp", 0, False),
        ("gpu_id", None, "None"),  # RecBole: no device, so the CPU
        ("gpu_id", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"),
        ("RATING_FIELD", None, None),
        ("LABEL_FIELD", None, None),
        ("POSITION_FIELD", None, None),
        ("HEAD_ENTITY_ID_FIELD", None, None),
        ("wandb_project", None, None),
    ],
)
def test_value_is_taken(toy: Toy, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, taken: Any) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # RecBole sets it to gpu_id
    config = Config("SASRecSCE", "toy", config_dict=toy.settings(**{key: value}))
    assert config[key] == taken
    assert type(config[key]) is type(taken)


@pytest.mark.parametrize(
    ("key", "value"),
    [("mix_x", None), ("shuffle", 2), ("alias_of_item_id", ("maker",)), ("gpu_id", "cuda:0")],
)
def test_value_of_two_meanings_is_refused(toy: Toy, key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{key} must be "):
        Config(SASRecSCE, "toy", config_dict=toy.settings(**{key: value}))
