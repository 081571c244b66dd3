"""The temporal split against a plain reading of its definition, for plugin models and RecBole's own."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

import recbole_sce  # noqa: F401  (registers)
from recbole_sce.data.temporal import temporal_rows

MODELS = ("SASRecSCE", "SASRec")


def write_log(folder: Path, seed: int = 0) -> list[tuple[str, str, int]]:
    """Write ``tiny``: users who begin and end at any time; return its rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(60):
        start = 1_600_000_000 + int(rng.integers(10_000))
        for step in range(int(rng.integers(2, 15))):
            rows.append((f"u{user}", f"i{int(60 * rng.random() ** 2)}", start + 40 * step))
    rng.shuffle(rows)
    rows = [(str(user), str(item), int(time)) for user, item, time in rows]
    file = folder / "tiny" / "tiny.inter"
    file.parent.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    return write_log(tmp_path)


def config_of(model: str, **keys: Any) -> Config:
    settings = {
        "data_path": ".",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "train_neg_sample_args": None,
        "temporal_holdout": 0.8,
        "MAX_ITEM_LIST_LENGTH": 6,
        "state": "ERROR",
        **keys,
    }
    return Config(model, "tiny", config_dict=settings)


def defined(log: list[tuple[str, str, int]], quantile: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the sequences of training users and, cut at the point in time, of test users."""
    times = sorted(time for *_, time in log)
    point = times[round(quantile * (len(times) - 1))]
    late = {user for user, _, time in log if time >= point}
    known = {item for user, item, _ in log if user not in late}
    train, test = defaultdict(list), defaultdict(list)
    for user, item, time in sorted(log, key=lambda row: row[2]):
        if user not in late:
            train[user].append(item)
        elif time >= point and item in known:
            test[user].append(item)
    return train, {user: items for user, items in test.items() if len(items) >= 3}


def sequences(part: Any) -> dict[str, list[tuple[list[str], str]]]:
    """Return each user's (history, target) pairs of a part of the data."""
    dataset, by_user = part.dataset, defaultdict(list)
    batch = dataset[torch.arange(len(dataset))]
    for user, items, length, target in zip(
        *(batch[field].numpy() for field in ("user_id", "item_id_list", "item_length", "item_id"))
    ):
        history = dataset.id2token("item_id", items[:length]).tolist()
        by_user[str(dataset.id2token("user_id", user))].append(
            (history, str(dataset.id2token("item_id", target)))
        )
    return by_user


@pytest.mark.parametrize("model", MODELS)
def test_who_is_trained_and_who_is_tested_on_what(log: list[tuple[str, str, int]], model: str) -> None:
    train, test = defined(log, 0.8)
    assert len(train) > 20
    assert len(test) > 5
    config = config_of(model, train_positions="last")
    dataset = create_dataset(config)
    parts = data_preparation(config, dataset)
    trained, valid, tested = (sequences(part) for part in parts)

    assert set(trained) == {user for user, items in train.items() if len(items) > 1}
    for user, pairs in trained.items():
        items = train[user]
        assert sorted(pairs) == sorted((items[max(0, n - 6) : n], items[n]) for n in range(1, len(items)))
    for pairs_of, end in ((valid, -2), (tested, -1)):
        assert pairs_of == {user: [(items[:end][-6:], items[end])] for user, items in test.items()}
    known = {item for items in train.values() for item in items}
    assert set(dataset.field2id_token["item_id"][1:]) == known


def test_excluding_the_seen_looks_no_further_back_than_the_point_in_time(
    log: list[tuple[str, str, int]],
) -> None:
    _, test = defined(log, 0.8)
    config = config_of("SASRecSCE", exclude_seen=True, MAX_ITEM_LIST_LENGTH=2)
    _, _, tested = data_preparation(config, create_dataset(config))
    dataset = tested.dataset
    rows = torch.arange(len(dataset))
    seen = defaultdict(list)
    for place, item in zip(*(column.tolist() for column in dataset.history(rows))):
        user = str(dataset.id2token("user_id", int(dataset.inter_feat["user_id"][place])))
        seen[user].append(str(dataset.id2token("item_id", item)))
    assert seen == {user: items[:-1] for user, items in test.items()}


def test_interactions_are_counted_of_training_users_alone(log: list[tuple[str, str, int]]) -> None:
    train, _ = defined(log, 0.8)
    dataset = create_dataset(config_of("SASRecSCE"))
    assert dataset.interactions_per_user == sum(map(len, train.values())) / len(train)


def test_windows_hold_training_users_alone(log: list[tuple[str, str, int]]) -> None:
    train, _ = defined(log, 0.8)
    config = config_of("SASRecSCE")
    trained, *_ = data_preparation(config, create_dataset(config))
    windows = trained.dataset.windows
    users = {str(user) for user in trained.dataset.id2token("user_id", windows["user_id"].numpy())}
    assert users == {user for user, items in train.items() if len(items) > 1}


def test_without_the_key_nothing_changes(log: list[tuple[str, str, int]]) -> None:
    config = config_of("SASRec", temporal_holdout=None)
    dataset = create_dataset(config)
    assert dataset.inter_num == len(log)
    *_, tested = data_preparation(config, dataset)
    items = defaultdict(list)
    for user, item, _ in sorted(log, key=lambda row: row[2]):
        items[user].append(item)
    last = {user: own[-1] for user, own in items.items() if len(own) > 2}  # the others' only target trains
    assert {user: pairs[0][1] for user, pairs in sequences(tested).items()} == last


def test_a_saved_data_set_is_not_taken_for_another_split(log: list[tuple[str, str, int]]) -> None:
    first = create_dataset(config_of("SASRecSCE", save_dataset=True, checkpoint_dir="saved"))
    again = create_dataset(config_of("SASRecSCE", temporal_holdout=None, checkpoint_dir="saved"))
    assert first.inter_num < again.inter_num == len(log)


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        (
            "SASRecSCE",
            {"temporal_holdout": 95},
            "temporal_holdout must be a number above 0 and below 1, or null, got 95",
        ),
        ("SASRec", {"temporal_holdout": True}, "temporal_holdout must be .*, got True"),
        ("Pop", {}, "temporal_holdout must be null with Pop"),
        ("SASRec", {"eval_args": {"split": {"RS": [8, 1, 1]}}}, r"RS.*valid_and_test"),
        ("SASRec", {"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename"),
    ],
)
def test_what_cannot_be_is_refused_before_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, keys: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        config_of(model, **keys)


@pytest.mark.parametrize(
    ("quantile", "message"), [(0.001, "no user to train on"), (0.9999, "no user to test")]
)
def test_an_empty_part_is_named(log: list[tuple[str, str, int]], quantile: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_dataset(config_of("SASRec", temporal_holdout=quantile))


def test_rows_are_kept_by_the_rules() -> None:
    # 0 and 3 train; 1 tests: an early one, an unknown item, three known ones; 2 has only two
    users = np.array([0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3])
    items = np.array([0, 1, 2, 0, 5, 0, 1, 2, 0, 1, 3])
    times = np.array([0, 1, 2, 3, 9, 8, 8, 9, 8, 9, 4])
    rows, of_test = temporal_rows(users, items, times, 0.5)  # the point in time: 8
    assert rows.tolist() == [0, 1, 2, 5, 6, 7, 10]
    assert of_test.tolist() == [False] * 3 + [True] * 3 + [False]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_models_are_trained_and_tested(log: list[tuple[str, str, int]], model: str) -> None:
    from recbole.quick_start import run_recbole

    keys = config_of(model).external_config_dict
    result = run_recbole(model, "tiny", config_dict={**keys, "epochs": 1, "train_batch_size": 16})
    assert 0 <= result["test_result"]["ndcg@10"] <= 1
