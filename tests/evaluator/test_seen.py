"""RecBole's own models with ``exclude_seen``, against the variants that have the same weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from factory import SMALL, prepare
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer

from recbole_sce import SettingsError
from recbole_sce.evaluator.seen import seen_items
from recbole_sce.training import SCETrainer

SETTINGS: dict[str, Any] = {
    **SMALL,
    "MAX_ITEM_LIST_LENGTH": 5,
    "user_inter_num_interval": "[100,200]",
    "metrics": ["NDCG", "Recall", "GAUC"],
    "train_neg_sample_args": None,
    "topk": [5, 10],
    "valid_metric": "NDCG@10",
    "exclude_seen": True,
}


def evaluated(trainer: type[Trainer], made: SimpleNamespace, data: Any) -> dict[str, float]:
    instance = trainer(made.config, made.model)
    instance.eval_collector.data_collect(made.train)
    result: dict[str, float] = instance.evaluate(data, load_best_model=False)
    return result


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}], ids=["LS", "RS"])
def test_a_base_has_the_metrics_of_its_variant(split: dict[str, Any]) -> None:
    settings = {**SETTINGS, "eval_args": {"split": split, "order": "TO", "group_by": "user"}}
    base, variant = (prepare(name, "ml-100k", settings) for name in ("SASRec", "SASRecSCE"))
    variant.model.load_state_dict(base.model.state_dict())
    for part in ("valid", "test"):
        expected = evaluated(SCETrainer, variant, getattr(variant, part))
        assert evaluated(Trainer, base, getattr(base, part)) == pytest.approx(expected, abs=1e-6)
    ranked = prepare("SASRec", "ml-100k", {**settings, "exclude_seen": False})
    ranked.model.load_state_dict(base.model.state_dict())
    assert evaluated(Trainer, ranked, ranked.test)["gauc"] != pytest.approx(expected["gauc"])


def test_where_histories_come_from_files_what_they_hold_is_left_out() -> None:
    dataset = SimpleNamespace(iid_field="i", i_list_field="is", item_list_length_field="n")
    rows = Interaction({"i": [3, 5], "is": [[1, 2, 0], [5, 4, 6]], "n": [2, 3]})
    places, items = seen_items(dataset, rows)
    assert torch.stack([places, items], dim=1).tolist() == [[0, 1], [0, 2], [1, 4], [1, 6]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"exclude_seen": "yes"}, "exclude_seen must be True or False, got 'yes'"),
        (
            {"eval_args": {"mode": "uni100", "order": "TO", "split": {"LS": "valid_and_test"}}},
            "exclude_seen must be False with eval_args mode uni100, got True",
        ),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        prepare("SASRec", "ml-100k", {**SETTINGS, **given})
