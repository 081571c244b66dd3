"""Values that are impossible, alone or together, are named with what they must be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from recbole_sce.settings import SCESettings, SettingsError, parse_settings
from recbole_sce.settings.checks import Trains


def test_defaults_hold_where_nothing_is_set() -> None:
    assert parse_settings({}, "all") == SCESettings(train_positions="all")


def test_values_are_read_by_their_configuration_keys() -> None:
    settings = parse_settings(
        {"loss_type": "CE-", "n_buckets": 7, "bucket_alpha": 3, "mix_x": False, "train_positions": "last"},
        "all",
    )
    assert settings.loss_type == "CE-"
    assert settings.n_buckets == 7
    assert settings.bucket_alpha == 3
    assert settings.mix_x is False
    assert settings.train_positions == "last"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        SCESettings().n_negatives = 3  # type: ignore[misc]


@pytest.mark.parametrize("key", ["n_buckets", "bucket_size_y", "n_negatives", "eval_memory_mb"])
def test_a_whole_number_may_come_as_a_float(key: str) -> None:
    value = getattr(parse_settings({key: 24.0}, "all"), key)
    assert (value, type(value)) == (24, int)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("recipe", "", "auto, plain, sparse, dense or the path of a YAML file"),
        ("recipe", None, "auto, plain, sparse, dense or the path of a YAML file"),
        ("loss_type", "FOO", "SCE, auto, CE, CE-, gBCE or BCE"),
        ("loss_type", ["SCE"], "SCE, auto, CE, CE-, gBCE or BCE"),
        ("train_positions", "middle", "auto, all or last"),
        ("n_buckets", 0, "a whole number of at least 1, or null"),
        ("n_buckets", "many", "a whole number of at least 1, or null"),
        ("bucket_size_x", -3, "a whole number of at least 1, or null"),
        ("bucket_size_y", -256, "a whole number of at least 1"),
        ("bucket_size_y", 2.5, "a whole number of at least 1"),
        ("bucket_size_y", True, "a whole number of at least 1"),
        ("n_outside", 0, "a whole number of at least 1"),
        ("n_outside", "many", "a whole number of at least 1"),
        ("n_negatives", None, "a whole number of at least 1"),
        ("bucket_alpha", 0, "a number above 0"),
        ("bucket_alpha", float("nan"), "a number above 0"),
        ("bucket_alpha", "two", "a number above 0"),
        ("bucket_alpha", True, "a number above 0"),
        ("mix_x", "yes", "True or False"),
        ("complete_softmax", 1, "True or False"),
        ("catalog_chunk", 0, "a whole number of at least 1, or null"),
        ("n_negatives", 0, "a whole number of at least 1"),
        ("gbce_t", 1.5, "a number from 0 to 1"),
        ("target_discount", 1, "a number from 0 to less than 1"),
        ("target_discount", -0.1, "a number from 0 to less than 1"),
        ("target_discount", True, "a number from 0 to less than 1"),
        ("ema_decay", 1, "a number above 0 and below 1, or null"),
        ("resume", True, "auto or the path of a checkpoint, or null"),
        ("learner", "adamm", "one of adam, adamw, sgd, adagrad, rmsprop"),
        ("train_batch_size", 0, "a whole number of at least 1"),
        ("hidden_dropout_prob", 1, "a number from 0 to less than 1"),
        ("hidden_dropout_prob", float("nan"), "a number from 0 to less than 1"),
        ("weight_decay", -0.1, "a number of at least 0"),
        ("loss_decimal_place", -1, "a whole number of at least 0, or null"),
        ("eval_step", 1.5, "a whole number"),
        ("n_layers", 10**12, "a whole number from 1 to 1000"),
        ("num_layers", 0, "a whole number from 1 to 1000"),
    ],
)
def test_an_impossible_value_is_named_with_its_key_and_what_it_must_be(
    key: str, value: object, allowed: str
) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings({key: value}, "all")
    assert str(error.value) == f"{key} must be {allowed}, got {value!r}"


@pytest.mark.parametrize(
    "key", ["hidden_dropout_prob", "attn_dropout_prob", "weight_decay", "target_discount"]
)
def test_a_null_that_once_meant_by_the_data_names_the_recipe(key: str) -> None:
    with pytest.raises(
        SettingsError, match=f"^{key} must be .*, got None: leave it out, and recipe: auto sets"
    ):
        parse_settings({key: None}, "all")


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("train_positions", "auto stands for all positions where the model can"),
        ("bucket_size_y", "leave it out for 256"),
        ("n_outside", "leave it out for 2048"),
    ],
)
def test_a_null_that_once_meant_a_default_names_it(key: str, instead: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key} must be .*, got None: {instead}"):
        parse_settings({key: None}, "all")


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"^n_buckets must be .*, got -1\. mix_x must be .*, got 3$"):
        parse_settings({"n_buckets": -1, "mix_x": 3}, "all")


def test_a_model_that_sees_later_items_cannot_train_all_positions() -> None:
    with pytest.raises(SettingsError, match=r"train_positions must be last with .*, got 'all'"):
        parse_settings({"train_positions": "all"}, "last")
    assert parse_settings({"train_positions": "last"}, "last").train_positions == "last"


@pytest.mark.parametrize(("trains", "expected"), [("all", "all"), ("masked", "all"), ("last", "last")])
def test_train_positions_auto_is_what_the_model_can_do(trains: Trains, expected: str) -> None:
    assert parse_settings({"train_positions": "auto"}, trains).train_positions == expected


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"loss_type": "BCE"}, "loss_type BCE"),
        ({"complete_softmax": False}, "complete_softmax False"),
        ({"train_positions": "last"}, "train_positions last"),
    ],
)
def test_later_targets_need_rows_and_a_softmax_that_scores_them(
    others: dict[str, object], reason: str
) -> None:
    with pytest.raises(SettingsError, match=f"^target_discount must be 0 with {reason}, got 0.4: "):
        parse_settings({"target_discount": 0.4, **others}, "all")
    parse_settings({"target_discount": 0.0, **others}, "all")


def test_later_targets_are_of_causal_models() -> None:
    parse_settings({"target_discount": 0.4}, "all")
    parse_settings({"target_discount": 0.4, "loss_type": "CE", "complete_softmax": False}, "all")
    with pytest.raises(SettingsError, match="target_discount must be 0 with a model that trains one"):
        parse_settings({"target_discount": 0.4}, "last")
    with pytest.raises(SettingsError, match="target_discount must be 0 with a model that restores masked"):
        parse_settings({"target_discount": 0.4}, "masked")


def test_recboles_negative_sampling_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"train_neg_sample_args must be null, got .*the loss chooses"):
        parse_settings({"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}, "all")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"hidden_size": 65, "n_heads": 2},
            "hidden_size must be a multiple of n_heads 2, got 65: 64 and 66 serve, or n_heads 1",
        ),
        (
            {"hidden_size": 8, "n_heads": 12},
            "hidden_size must be a multiple of n_heads 12, got 8: 12 serves, or n_heads 8",
        ),
        (
            {"sparse_item_updates": True, "learner": "adam", "weight_decay": 0.1},
            "weight_decay must be 0 with sparse_item_updates True, got 0.1",
        ),
        (
            {"valid_metric": "NDCG@20", "metrics": ["NDCG", "GiniIndex"], "topk": [5, 10]},
            "valid_metric must be ndcg@5, ndcg@10, giniindex@5 or giniindex@10, got 'NDCG@20'",
        ),
    ],
)
def test_values_that_are_impossible_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(values, "all")
    assert str(error.value).startswith(message)
