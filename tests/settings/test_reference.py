"""Files that are made of the schema are as the schema says; every key's default changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from factory import prepare_trainer

from recbole_sce.settings import KEYS, SCESettings, reference
from recbole_sce.settings.recipes import read_recipe
from recbole_sce.settings.schema import RecBoleSettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("properties/model/SCE.yaml", reference.property_file()),
        ("docs/reference/settings.md", reference.markdown()),
    ],
)
def test_the_file_is_what_the_schema_renders(path: str, text: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == text, "run python -m recbole_sce.settings"


def test_the_property_file_holds_every_key_with_its_default() -> None:
    content = yaml.safe_load(reference.property_file())
    assert list(KEYS) == [key for key in content if key not in RecBoleSettings.model_fields]
    assert all(content[key] == SCESettings.model_fields[key].default for key in KEYS)


def test_every_key_is_described_in_one_place() -> None:
    assert not set(KEYS) & set(RecBoleSettings.model_fields)
    for schema in (SCESettings, RecBoleSettings):
        assert all(field.description for field in schema.model_fields.values())


def weights(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what one epoch makes of SASRecSCE under ``settings``, and its validation."""
    run = prepare_trainer("SASRecSCE", "tiny", settings)
    score, result = run.trainer.fit(run.train, run.valid, saved=False)
    return {"score": score, "result": result, **run.model.state_dict()}


@pytest.fixture(scope="module")
def with_defaults() -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("key", [*KEYS, "train_neg_sample_args"])
def test_setting_a_key_to_its_default_changes_nothing(
    tiny_dataset: dict[str, Any], with_defaults: dict[str, Any], key: str
) -> None:
    settings = {**tiny_dataset, "hidden_size": 16, "inner_size": 16, "n_layers": 1, "recipe": "plain"}
    for small in ("bucket_size_y", "n_outside"):
        del settings[small]
    if not with_defaults:
        with_defaults.update(weights(settings))
    defaults = {**SCESettings().model_dump(), "train_neg_sample_args": None, **read_recipe("plain")}
    now = weights({**settings, key: defaults[key]})
    assert now.keys() == with_defaults.keys()
    for name, value in now.items():
        same = (
            torch.equal(value, with_defaults[name])
            if torch.is_tensor(value)
            else value == with_defaults[name]
        )
        assert same, name


def test_setting_the_recipe_of_the_model_changes_nothing(tiny_dataset: dict[str, Any]) -> None:
    unset, auto = (weights({**tiny_dataset, **recipe}) for recipe in ({}, {"recipe": "auto"}))
    assert all(
        torch.equal(value, auto[name]) if torch.is_tensor(value) else value == auto[name]
        for name, value in unset.items()
    )
