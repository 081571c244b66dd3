"""The whole history before a target, whatever the length of the sequences that a model reads."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset

import recbole_sce  # noqa: F401  (registers the model)


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.6, 0.2, 0.2]}])
def test_the_history_holds_all_that_came_before_the_target(
    tiny_dataset: dict[str, Any], split: dict[str, Any]
) -> None:
    settings = {**tiny_dataset, "MAX_ITEM_LIST_LENGTH": 3, "train_neg_sample_args": None}
    config = Config(
        "SASRecSCE",
        "tiny",
        config_dict={**settings, "eval_args": {"split": split, "order": "TO", "group_by": "user"}},
    )
    *_, test = create_dataset(config).build()
    log = pd.read_csv(f"{settings['data_path']}/tiny/tiny.inter", sep="\t").sort_values(
        ["user_id:token", "timestamp:float"], kind="stable"
    )
    sequences = log.groupby("user_id:token")["item_id:token"].agg(list)
    rows = torch.arange(len(test)).flip(0)
    places, items = test.history(rows)
    assert items.dtype == places.dtype == torch.int64
    seen_users: dict[str, int] = {}
    for place, row in enumerate(rows.tolist()):
        user = test.id2token("user_id", int(test.inter_feat["user_id"][row]))
        whole = sequences[user]
        seen_users[user] = seen_users.get(user, 0) + 1  # rows are read from the user's last one on
        position = len(whole) - seen_users[user]
        assert test.id2token("item_id", int(test.inter_feat["item_id"][row])) == whole[position]
        assert list(test.id2token("item_id", items[places == place])) == whole[:position]
    assert len(rows) >= 60


def test_no_rows_have_no_history(tiny_dataset: dict[str, Any]) -> None:
    config = Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, "train_neg_sample_args": None})
    places, items = create_dataset(config).build()[2].history(torch.empty(0, dtype=torch.int64))
    assert places.shape == items.shape == (0,)


def test_prepared_histories_are_what_their_files_hold(
    tiny_dataset: dict[str, Any],
) -> None:
    folder = f"{tiny_dataset['data_path']}/tiny"
    for part in ("train", "valid", "test"):
        with open(f"{folder}/tiny.{part}.inter", "w", encoding="utf-8") as file:
            file.write("user_id:token\titem_id_list:token_seq\titem_id:token\n")
            file.write("u1\ta b\tc\nu2\tc\ta\n")
    config = Config(
        "SASRecSCE",
        "tiny",
        config_dict={
            **tiny_dataset,
            "load_col": None,
            "benchmark_filename": ["train", "valid", "test"],
            "alias_of_item_id": ["item_id_list"],
            "train_neg_sample_args": None,
        },
    )
    test = create_dataset(config).build()[2]
    places, items = test.history(torch.tensor([0, 1]))
    assert places.tolist() == [0, 0, 1]
    assert list(test.id2token("item_id", items)) == ["a", "b", "c"]
