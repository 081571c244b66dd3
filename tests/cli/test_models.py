"""recbole-sce models."""

from __future__ import annotations

from cli.conftest import Call
from recbole_sce import MODELS, NOT_SERVED
from recbole_sce.cli.models import recbole_models


def test_all_models_are_listed(call: Call) -> None:
    words = call("models").out.replace(",", " ").replace(":", " ").split()
    assert {cls.__name__ for cls in MODELS} <= set(words)
    assert {"SASRec", "BPR", "DeepFM", "KGAT", *NOT_SERVED} <= set(words)


def test_recboles_models_by_kind() -> None:
    kinds = recbole_models()
    assert "GRU4Rec" in kinds["sequential"]
    assert "LightGCN" in kinds["general"]
    assert "WideDeep" in kinds["context-aware"]
    assert "CKE" in kinds["knowledge-aware"]
    assert not {"SequentialRecommender", "SASRecSCE"} & {name for names in kinds.values() for name in names}
