"""The list of models: complete, documented, and each with its property file."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import recbole
import recbole.model.sequential_recommender as sequential
import yaml
from recbole.model.abstract_recommender import SequentialRecommender

import recbole_sce
from recbole_sce.model import MODELS, NOT_SERVED, SCEMixin
from recbole_sce.model.table import models_markdown
from recbole_sce.plugin import base_of, registered_models
from recbole_sce.utils.properties import properties_folder

PROPERTIES = Path(str(properties_folder()))
RECBOLE = Path(recbole.__file__).parent / "properties"
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "models.md"


def test_every_sequential_recommender_of_recbole_is_served_or_the_reason_is_given() -> None:
    theirs = {
        name
        for name, cls in vars(sequential).items()
        if inspect.isclass(cls) and issubclass(cls, SequentialRecommender)
    }
    assert len(theirs) > 25
    served = {base_of(cls).__name__ for cls in MODELS}
    assert served | set(NOT_SERVED) == theirs
    assert not served & set(NOT_SERVED)


def test_every_model_is_exported_and_registered() -> None:
    for cls in MODELS:
        assert cls.__name__ == f"{base_of(cls).__name__}SCE"
        assert getattr(recbole_sce, cls.__name__) is cls
        assert registered_models()[cls.__name__] is cls


def test_the_page_of_models_is_what_the_code_says() -> None:
    assert DOCS.read_text(encoding="utf-8") == models_markdown(), (
        "python -m recbole_sce.model.table > docs/reference/models.md"
    )


def test_the_page_says_what_a_model_overrides() -> None:
    parts = {part.partition("\n")[0]: part for part in models_markdown().split("\n### ")}
    assert "- Positions: `all`, `last`\n- Table scored: `item_embedding`\n" in parts["SASRecSCE"]
    assert "Beside the item softmax" not in parts["SASRecSCE"]
    assert "- Positions: `last`\n" in parts["NARMSCE"]
    assert "- Table scored: `relu(item_embedding)`\n" in parts["NPESCE"]
    assert "- Beside the item softmax: `reg_weight` times the norm" in parts["GCSANSCE"]
    assert "- Positions: masked positions" in parts["BERT4RecSCE"]
    assert "| `RepeatNet`" in models_markdown()


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
class TestPropertyFiles:
    def test_each_model_has_one_that_repeats_nothing(self, cls: type[SCEMixin]) -> None:
        ours = yaml.safe_load((PROPERTIES / "model" / f"{cls.__name__}.yaml").read_text()) or {}
        base = yaml.safe_load((RECBOLE / "model" / f"{base_of(cls).__name__}.yaml").read_text())
        common = yaml.safe_load((PROPERTIES / "model" / "SCE.yaml").read_text())
        ours.pop("pre_model_path", None)  # empty in RecBole too; here for its comment
        assert not {key for key in ours if {**base, **common}.get(key, "none") == ours[key]}
