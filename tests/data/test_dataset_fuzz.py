"""Random logs against RecBole's own augmentation, and through windows."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data.dataset import SequentialDataset

from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.data.fields import target_list_field
from recbole_sce.data.sequences import gather_padded

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
Log = list[tuple[str, str, int]]
tokens = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters='"'), min_size=1, max_size=3
)
#: What pandas, and so RecBole, takes for a missing value.
MISSING = {"NA", "NaN", "nan", "N/A", "n/a", "#NA", "<NA>", "null", "NULL", "None", ""}


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Return interactions of a few users with a few items; repeated ones, equal times, any order."""
    users = draw(
        st.lists(tokens.filter(lambda token: token not in MISSING), min_size=1, max_size=5, unique=True)
    )
    items = draw(
        st.lists(tokens.filter(lambda token: token not in MISSING), min_size=1, max_size=6, unique=True)
    )
    row = st.tuples(st.sampled_from(users), st.sampled_from(items), st.integers(0, 12))
    rows = draw(st.lists(row, min_size=4, max_size=40))
    # At least one user has enough for each part of a split.
    return rows + [(users[0], items[-1], time) for time in draw(st.permutations(range(4)))]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])


def config_of(folder: str, log: Log, train_positions: str, **keys: object) -> Config:
    path = Path(folder) / "fuzz" / "fuzz.inter"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + "".join("\t".join(map(str, row)) + "\n" for row in log), encoding="utf-8")
    given_keys = {
        "data_path": folder,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "train_neg_sample_args": None,
        "train_positions": train_positions,
        "use_gpu": False,
        "state": "ERROR",
        **keys,
    }
    return Config("SASRec", "fuzz", config_dict=given_keys)


def rows_of(dataset: SequentialDataset) -> list[dict[str, list[float]]]:
    batch = dataset[np.arange(len(dataset))]
    names = sorted(name for name in batch.columns if name != "timestamp_list")
    return [{name: batch[name][row].tolist() for name in names} for row in range(len(dataset))]


SPLITS = st.sampled_from(
    [
        {"LS": "valid_and_test"},
        {"LS": "valid_only"},
        {"LS": "test_only"},
        {"RS": [0.8, 0.1, 0.1]},
        {"RS": [1, 0, 0]},
    ]
)
few = settings(
    max_examples=max(15, settings().max_examples // 30),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@few
@given(log=logs(), length=st.integers(1, 7), split=SPLITS)
def test_rows_of_last_positions_are_recboles(log: Log, length: int, split: dict[str, object]) -> None:
    eval_args = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(folder, log, "last", MAX_ITEM_LIST_LENGTH=length, eval_args=eval_args)
        dataset, reference = IndexedSequenceDataset(config), SequentialDataset(config)
        for field, names in reference.field2id_token.items():
            assert dataset.field2id_token[field].tolist() == names.tolist()
        expected = [rows_of(part) for part in reference.build()]
        asked = [part for part, ratio in zip(expected, split.get("RS", (1, 1, 1))) if ratio]
        if "LS" in split:
            asked = [
                part for part, name in zip(expected, ("", "test_only", "valid_only")) if name != split["LS"]
            ]
        if not all(asked):
            with pytest.raises(ValueError, match="no interaction is left for"):
                dataset.build()
            return
        assert [rows_of(part) for part in dataset.build()] == expected


@few
@given(log=logs(), length=st.integers(1, 7))
def test_windows_train_what_rows_train(log: Log, length: int) -> None:
    eval_args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    with tempfile.TemporaryDirectory() as folder:
        keys = {"MAX_ITEM_LIST_LENGTH": length, "eval_args": eval_args}
        last = IndexedSequenceDataset(config_of(folder, log, "last", **keys))
        every = IndexedSequenceDataset(config_of(folder, log, "all", **keys))
        rows, windows = last.build()[0], every.build()[0]
    batch = windows.training_batch(np.arange(len(windows.windows)))
    targets = batch[target_list_field(windows.config)]
    trained: Counter[tuple[int, ...]] = Counter()
    for user, items, following, n_items in zip(
        batch["user_id"].tolist(),
        batch["item_id_list"].tolist(),
        targets.tolist(),
        batch["item_length"].tolist(),
    ):
        assert items[n_items:] == [0] * (length - n_items) == following[n_items:]
        assert 0 not in items[:n_items]
        for place, target in enumerate(following):
            if target:
                trained[(user, items[place], target)] += 1
    expected: Counter[tuple[int, ...]] = Counter()
    batch = rows[np.arange(len(rows))]
    for user, items, n_items, target in zip(
        batch["user_id"].tolist(),
        batch["item_id_list"].tolist(),
        batch["item_length"].tolist(),
        batch["item_id"].tolist(),
    ):
        expected[(user, items[n_items - 1], target)] += 1
    assert trained == expected


@given(data=st.data(), width=st.integers(1, 6))
def test_slices_are_padded(data: st.DataObject, width: int) -> None:
    values = torch.tensor(data.draw(st.lists(st.integers(-9, 9), min_size=1, max_size=12)))
    slices = data.draw(
        st.lists(
            st.integers(0, len(values) - 1).flatmap(
                lambda start: st.tuples(st.just(start), st.integers(0, min(width, len(values) - start)))
            ),
            min_size=1,
            max_size=5,
        )
    )
    starts, lengths = (torch.tensor(column) for column in zip(*slices))
    table = gather_padded(values, starts, lengths, width)
    assert table.tolist() == [
        values[start : start + length].tolist() + [0] * (width - length) for start, length in slices
    ]
