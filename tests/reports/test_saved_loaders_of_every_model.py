"""BERT4Rec with ``save_dataloaders: True`` fails in the second run: "nonzero(): argument must be Tensor"."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import kinds
import pytest
from logs import write_shop
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import quick_start, run_recbole

from recbole_sce.model import MODELS

pytestmark = pytest.mark.slow

NAMES = sorted({cls.__name__ for cls in MODELS} - {"S3RecSCE"})
OF_RECBOLE = [
    "SASRec",
    "GRU4Rec",
    "BERT4Rec",
    "NARM",
    "STAMP",
    "SRGNN",
    "Caser",
    "NextItNet",
    "LightSANs",
    "CORE",
    "SINE",
    "HRM",
    "NPE",
    "HGN",
    "SHAN",
    "FOSSIL",
    "FPMC",
    "TransRec",
    "RepeatNet",
    "SASRecF",
    "GRU4RecKG",
]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_shop(tmp_path / "data", "shop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.setattr(quick_start, "get_environment", mock.MagicMock())  # waits for the machine's load
    return tmp_path


def settings_of(model: str, **settings: Any) -> dict[str, Any]:
    base = model.removesuffix("SCE")
    needs: dict[str, Any] = {"kg_embedding_size": 8, "block_num": 1, "n_heads": 1}
    if base in ("SASRecF", "GRU4RecF", "FDSA"):
        needs |= {**kinds.FEATURES, "selected_features": ["kind"]}
    if base in ("GRU4RecKG", "KSR"):
        needs |= {**kinds.GRAPH, "eval_args": {**kinds.TIMED, "mode": "full"}}
    if base == "FEARec":
        needs["n_layers"] = 2
    own = {} if model in ("FPMC", "TransRec") else kinds.CE
    return {**kinds.settings_of("sequences", "data"), "train_neg_sample_args": {}, **needs, **own, **settings}


def result_of(model: str, **settings: Any) -> Any:
    return run_recbole(model, "shop", config_dict=settings_of(model, **settings), saved=False)


@pytest.mark.parametrize("model", [*NAMES, *OF_RECBOLE])
def test_saving_and_reading_give_what_a_run_without_them_gives(model: str, shop: Path) -> None:
    plain = result_of(model)
    assert result_of(model, save_dataset=True, save_dataloaders=True) == plain
    assert len(list(Path("saved").iterdir())) == 2
    assert result_of(model) == plain


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_batch_size", 16),
        ("eval_batch_size", 3),
        ("shuffle", False),
        ("eval_args", {**kinds.TIMED, "mode": "uni5"}),
        ("eval_args", {"split": {"RS": [8, 1, 1]}, "order": "TO", "mode": "full"}),
        ("train_positions", "last"),
        ("numerical_features", ["rating"]),
        ("MAX_ITEM_LIST_LENGTH", 5),
        ("seed", 7),
    ],
)
def test_another_setting_is_not_ignored(key: str, value: Any, shop: Path) -> None:
    expected = result_of("SASRecSCE", **{key: value})
    result_of("SASRecSCE", save_dataset=True, save_dataloaders=True)
    assert result_of("SASRecSCE", **{key: value}) == expected


def test_loaders_of_labeled_data_are_read(shop: Path) -> None:
    settings = kinds.settings_of("labels", "data", save_dataloaders=True)
    first, second = (run_recbole("FM", "shop", config_dict=settings, saved=False) for _ in range(2))
    assert first == second


def test_loaders_of_a_knowledge_graph_are_refused_by_name(shop: Path) -> None:
    config = Config(
        "CFKG", "shop", config_dict=kinds.settings_of("knowledge graph", "data", save_dataloaders=True)
    )
    with pytest.raises(ValueError, match="save_dataloaders must be False with CFKG, got True"):
        data_preparation(config, create_dataset(config))
