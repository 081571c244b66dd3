"""Keys of RecBole that used to fail late or in no key's name, for variants and for RecBole's own models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recbole.config import Config
from recbole.quick_start import run_recbole

from recbole_sce import SettingsError
from recbole_sce.settings import recbole_keys

FULL = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
RANKED = "full, or uni or pop with a number"


def evaluated(**parts: Any) -> dict[str, Any]:
    return {"eval_args": {**FULL, **parts}}


#: Settings, and the whole or the beginning of what is said of them; all of these fail in RecBole.
LATE: list[tuple[dict[str, Any], str]] = [
    (
        {"valid_metric": "NDCG"},
        "valid_metric must be recall@10, mrr@10, ndcg@10, hit@10 or precision@10, got",
    ),
    ({"metrics": ["GAUC"], "valid_metric": "GAUC@10"}, "valid_metric must be gauc, got 'GAUC@10'"),
    ({"topk": [5], "valid_metric": "NDCG@10"}, "valid_metric must be .*, got 'NDCG@10'"),
    (evaluated(mode="labeled"), f"eval_args mode must be {RANKED}, with metrics .*, got 'labeled'"),
    (
        evaluated(mode={"valid": "full", "test": "labeled"}),
        f"eval_args mode must be {RANKED}.*, got 'labeled'",
    ),
    (
        {**evaluated(mode="labeled"), "metrics": ["AUC"], "valid_metric": "AUC"},
        "LABEL_FIELD must be the name of a column of tiny.inter .*, got 'label': loaded are",
    ),
    ({"eval_args": {"mode": "uni20"}}, "eval_args order must be TO .*, got 'RO': .*add order: TO"),
    (evaluated(split={"RS": [0.8, 0.2]}), r"eval_args split RS must be three ratios, .*, got \[0.8, 0.2\]"),
    (evaluated(split={"TS": [0.8, 0.2]}), r"eval_args split TS must be three ratios, .*, got \[0.8, 0.2\]"),
    (evaluated(split={"LS": [8, 1, 1]}), r"eval_args split LS must be valid_and_test or .*, got \[8, 1, 1\]"),
    (evaluated(split={"RS": [8, 1, 1], "LS": "test_only"}), "eval_args split must be a dict of one of RS"),
    (evaluated(split={"XS": [8, 1, 1]}), "eval_args split must be a dict of one of RS, LS and TS"),
    (
        evaluated(split={"RS": [8, 1, 1]}, group_by="item"),
        "eval_args group_by must be user or none, got 'item'",
    ),
    ({"clip_grad_norm": 5}, r"clip_grad_norm must be null or a dict with max_norm, .*, got 5"),
    ({"clip_grad_norm": {"norm": 5}}, r"clip_grad_norm must be null or a dict with max_norm"),
    ({"clip_grad_norm": {"max_norm": 5, "p": 2}}, "clip_grad_norm must be a dict of .*: leave p out"),
    ({"eval_step": 1.5, "epochs": 2}, "eval_step must be a whole number, got 1.5"),
    ({"loss_decimal_place": -1}, "loss_decimal_place must be a whole number of at least 0, or null, got -1"),
    ({"benchmark_filename": ["train", "test"]}, "benchmark_filename must be the names of three parts"),
]
#: What RecBole refuses itself when its Config is built, in other words; checked of variants.
EARLY: list[tuple[dict[str, Any], str]] = [
    ({"metrics": ["NDGC"]}, "metrics must be among .*ndcg.*, got 'NDGC'"),
    ({"metrics": []}, r"metrics must be a list of names of metrics, got \[\]"),
    ({"metrics": ["NDCG", "AUC"]}, "metrics must be all of one kind, got"),
    ({"topk": [0]}, r"topk must be a whole number of at least 1, or a list of such, got \[0\]"),
    ({"topk": []}, r"topk must be a whole number of at least 1, or a list of such, got \[\]"),
    ({"eval_args": "full"}, "eval_args must be a dict of split, order, group_by and mode, got 'full'"),
    (evaluated(mode="uni"), "eval_args mode must be full, labeled, or uni or pop .*, got 'uni'"),
    (evaluated(mode="unix"), "eval_args mode must be .*, got 'unix'"),
    (
        {"metrics": ["AUC"], "valid_metric": "AUC"},
        "eval_args mode must be labeled, or uni or pop .*, got 'full'",
    ),
    (
        {"benchmark_filename": ["a", "b", "c"]},
        "benchmark_filename must be the names of parts whose files exist",
    ),
]


@pytest.mark.parametrize(("settings", "message"), [*LATE, *EARLY])
def test_a_variant_refuses_before_data_is_read(
    tiny_dataset: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, **settings})


@pytest.mark.parametrize(
    ("settings", "message"), [case for case in LATE if "benchmark_filename" not in case[0]]
)
def test_a_model_of_recbole_refuses_before_training(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    def no_training(*args: Any) -> None:
        pytest.fail("it was trained")

    monkeypatch.setattr("recbole.trainer.trainer.Trainer._train_epoch", no_training)
    small = {"train_neg_sample_args": None, "hidden_size": 16, "n_layers": 1}
    with pytest.raises(SettingsError, match=message):
        run_recbole("SASRec", "tiny", config_dict={**tiny_dataset, **small, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": "NDCG", "valid_metric": "NDCG@10"},
        {"topk": 10.0, "epochs": 1.0, "train_batch_size": 64.0, "hidden_size": 16.0},
        evaluated(mode={"valid": "uni5", "test": "full"}),
        evaluated(split={"RS": [0.8, 0.1, 0.1]}, group_by=None),
        {"clip_grad_norm": {"max_norm": 5.0, "norm_type": 2}},
        {"loss_decimal_place": 0, "metric_decimal_place": 4.0},
        {"learner": "anything"},
        {"eval_step": 0},
        {"eval_step": 1.5, "epochs": 3},
    ],
)
def test_what_recbole_runs_is_not_refused(tiny_dataset: dict[str, Any], settings: dict[str, Any]) -> None:
    small = {"train_neg_sample_args": None, "hidden_size": 16, "n_layers": 1, "inner_size": 16}
    result = run_recbole("SASRec", "tiny", config_dict={**tiny_dataset, **small, **settings})
    assert result["test_result"]


def test_a_model_of_recbole_that_is_only_evaluated_needs_no_valid_metric(
    tiny_dataset: dict[str, Any],
) -> None:
    config = Config("Pop", "tiny", config_dict={**tiny_dataset, "valid_metric": "NDCG@77"})
    assert config["valid_metric"] == "NDCG@77"


def test_whole_numbers_follow_the_default() -> None:
    values = {
        "topk": [5.0, 10],
        "epochs": 3.0,
        "learning_rate": 1.0,
        "sizes": [8.0, 4.0],
        "half": 2.5,
        "own": 1.0,
    }
    defaults = {"topk": [10], "epochs": 300, "learning_rate": 0.001, "sizes": [64, 32], "half": 1}
    whole = recbole_keys.with_whole_numbers(values, defaults)
    assert whole == values
    assert [type(one) for one in (*whole["topk"], whole["epochs"], *whole["sizes"])] == [int] * 5
    assert [type(whole[key]) for key in ("learning_rate", "half", "own")] == [float] * 3


@pytest.mark.parametrize("content", ["# nothing yet\n", "", "- a\n- b\n", "just words\n"])
def test_a_file_without_keys_is_named(tiny_dataset: dict[str, Any], content: str) -> None:
    Path("empty.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config_file_list must name YAML files .*, got 'empty.yaml'"):
        Config("SASRecSCE", "tiny", config_file_list=["empty.yaml"], config_dict=tiny_dataset)


ITEMS = "item_id:token\tcat:token\ttags:token_seq\tprice:float\tsize:float\temb:float_seq\n" + "".join(
    f"i{i}\tc{i % 4}\tt{i % 3} t4\t{i}\t{i * 2}\t0.{i} 1\n" for i in range(40)
)
COLUMNS = ["item_id", "cat", "tags", "price", "size", "emb"]


@pytest.fixture
def with_items(tiny_dataset: dict[str, Any]) -> dict[str, Any]:
    Path("data/tiny/tiny.item").write_text(ITEMS)
    return {
        **tiny_dataset,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": COLUMNS},
        "embedding_size": 16,
        "hidden_size": 16,
        "train_neg_sample_args": None,
    }


BASES = ("SASRecF", "GRU4RecF", "FDSA")
FEATURES: list[tuple[Any, list[str], str]] = [
    (
        ["price"],
        [],
        "selected_features must be features of a type that the model reads, got .*price is float",
    ),
    (
        ["cat", "price", "size"],
        ["price", "size"],
        "selected_features must be a list with at most one float column",
    ),
    (
        ["genre"],
        [],
        r"selected_features must be item features that are loaded, got \['genre'\]: loaded of tiny",
    ),
    ([], [], r"selected_features must be a list of one or more item features, got \[\]"),
    ("cat", [], "selected_features must be a list of one or more item features, got 'cat'"),
]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("features", "numerical", "message"), FEATURES)
@pytest.mark.parametrize("variant", [True, False])
def test_item_features_that_no_model_can_read(
    with_items: dict[str, Any], base: str, features: Any, numerical: list[str], message: str, variant: bool
) -> None:
    settings = {**with_items, "selected_features": features, "numerical_features": numerical}
    with pytest.raises(SettingsError, match=message):
        run_recbole(f"{base}SCE" if variant else base, "tiny", config_dict=settings)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("features", [["cat", "price"], ["cat", "emb"]])
def test_a_float_column_that_is_not_named_numerical(
    with_items: dict[str, Any], base: str, features: list[str]
) -> None:
    settings = {**with_items, "selected_features": features}
    with pytest.raises(SettingsError, match=r"selected_features must be .*numerical_features names it"):
        Config(f"{base}SCE", "tiny", config_dict=settings)
    if base == "FDSA":  # which leaves such a column out, without a word
        assert run_recbole(base, "tiny", config_dict=settings)["test_result"]
    else:
        with pytest.raises(SettingsError, match="selected_features must be features of a type"):
            run_recbole(base, "tiny", config_dict=settings)


@pytest.mark.parametrize("base", BASES)
def test_features_that_are_not_chosen_or_not_loaded(with_items: dict[str, Any], base: str) -> None:
    with pytest.raises(SettingsError, match=r"got \['class'\]: .*; RecBole's default is for ml-100k"):
        Config(f"{base}SCE", "tiny", config_dict=with_items)
    unloaded = {**with_items, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    with pytest.raises(SettingsError, match=r"load_col loads nothing of tiny\.item"):
        Config(f"{base}SCE", "tiny", config_dict={**unloaded, "selected_features": ["cat"]})
    Path("data/tiny/tiny.item").unlink()
    with pytest.raises(SettingsError, match=r"tiny\.item does not exist"):
        Config(f"{base}SCE", "tiny", config_dict={**with_items, "selected_features": ["cat"]})


@pytest.mark.parametrize(
    ("base", "features", "numerical"),
    [
        *((base, ["cat", "tags"], []) for base in BASES),
        *((base, ["cat", "price"], ["price"]) for base in BASES),
        *((base, ["cat", "emb"], ["emb"]) for base in ("GRU4RecF", "FDSA")),
    ],
)
def test_features_that_serve(
    with_items: dict[str, Any], base: str, features: list[str], numerical: list[str]
) -> None:
    chosen = {"selected_features": features, "numerical_features": numerical}
    assert run_recbole(f"{base}SCE", "tiny", config_dict={**with_items, **chosen})["test_result"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numerical_features": "price"}, "numerical_features must be a list of float columns, got 'price'"),
        ({"numerical_features": ["prize"]}, r"numerical_features must be float columns .*, got \['prize'\]"),
        ({"numerical_features": ["cat"]}, r"numerical_features must be float columns .*, got \['cat'\]"),
        ({"discretization": {"price": {"method": "LD"}}}, r"discretization must be a dict of numerical_feat"),
        (
            {"numerical_features": ["price"], "discretization": {"price": {"method": "ED"}}},
            "discretization price must be .*bucket",
        ),
    ],
)
def test_numerical_features_that_are_none(
    with_items: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        Config("SASRecSCE", "tiny", config_dict={**with_items, **settings})


@pytest.mark.parametrize("attribute", ["price", "genre"])
def test_s3rec_needs_an_attribute_of_tokens(
    with_items: dict[str, Any], attribute: str, tmp_path: Path
) -> None:
    made: Callable[..., Config] = lambda **own: Config(  # noqa: E731
        "S3RecSCE", "tiny", config_dict={**with_items, "pre_model_path": __file__, **own}
    )
    with pytest.raises(SettingsError, match=f"item_attribute must be a token column .*, got '{attribute}'"):
        made(item_attribute=attribute)
    made(item_attribute="cat")
