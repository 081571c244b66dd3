"""TIME_FIELD among the numerical_features or discretized: a crash, or histories in the order of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .conftest import ROWS, Toy

CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "numerical": {"numerical_features": ["timestamp"]},
    "logarithm": {"numerical_features": ["timestamp"], "discretization": {"timestamp": {"method": "LD"}}},
    "buckets": {
        "numerical_features": ["timestamp"],
        "discretization": {"timestamp": {"method": "ED", "bucket": 3}},
    },
    "normalized": {"normalize_field": ["timestamp"], "normalize_all": None},
    "threshold": {"threshold": {"timestamp": 5000}},
}
SPLITS: dict[str, dict[str, Any]] = {
    "leave one out": {"split": {"LS": "valid_and_test"}, "group_by": "user"},
    "point in time": {"split": {"TS": [0.8, 0.1, 0.1]}, "group_by": "user"},
    "ratio over time": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"},
    "ratio by user": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user"},
}


def parts(toy: Toy, model: str, **keys: Any) -> list[list[tuple[str, ...]]]:
    """User, history and target of each row of each part, as the files spell them."""
    run = toy.prepared(model, **keys)
    result = []
    for loader in (run.train, run.valid, run.test):
        data = loader.dataset
        batch = data[np.arange(len(data))]
        names = data.field2id_token["item_id"]
        rows = []
        for place in range(len(batch)):
            user = data.field2id_token["user_id"][batch["user_id"][place]]
            history = (
                names[batch["item_id_list"][place][: batch["item_length"][place]]]
                if "item_id_list" in batch
                else ()
            )
            rows.append((str(user), *map(str, history), str(names[batch["item_id"][place]])))
        result.append(rows)
    return result


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("change", [name for name in CHANGES if name != "nothing"])
@pytest.mark.parametrize("model", ["SASRecSCE", "SASRec", "BPR"])
def test_histories_and_parts_do_not_depend_on_what_becomes_of_the_column(
    toy: Toy, model: str, change: str, split: str
) -> None:
    keys: dict[str, Any] = {"eval_args": {"order": "TO", "mode": "full", **SPLITS[split]}}
    if model == "BPR":
        keys["train_neg_sample_args"] = {
            "distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0
        }  # fmt: skip
    assert parts(toy, model, **keys, **CHANGES[change]) == parts(toy, model, **keys)


@pytest.mark.parametrize("model", ["SASRecSCE", "SASRec"])
def test_times_closer_than_float32_can_tell_are_told_apart_by_a_split(toy: Toy, model: str) -> None:
    rows = [
        (user, item, str(1_600_000_000 + int(time) % 1000 * 3 + int(user[1:]))) for user, item, time in ROWS
    ]
    toy.write(rows)
    args = {"order": "TO", "mode": "full", **SPLITS["point in time"]}
    _, _, test = parts(toy, model, eval_args=args)
    by_user: dict[str, list[tuple[int, str]]] = {}
    for user, item, time in rows:
        by_user.setdefault(user, []).append((int(time), item))
    targets = [time for times in by_user.values() for time, _ in sorted(times)[1:]]
    boundary = np.percentile(targets, 90)
    expected = {
        (user, *(item for _, item in sorted(times)[:place]), sorted(times)[place][1])
        for user, times in by_user.items()
        for place in range(1, len(times))
        if sorted(times)[place][0] > boundary
    }
    assert set(test) == expected


def test_a_saved_data_set_keeps_the_order(toy: Toy) -> None:
    toy.prepared(save_dataset=True, **CHANGES["logarithm"])
    saved = parts(toy, "SASRecSCE", **CHANGES["logarithm"])
    assert saved == parts(toy, "SASRecSCE")
