"""``Config(model=MySCE)`` fails: "'SequentialDataset' object has no attribute 'interactions_per_user'"."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import recbole.data.dataset
import recbole.trainer
from factory import prepare_trainer
from recbole.config import Config
from recbole.model.sequential_recommender import GRU4Rec, SASRec
from recbole.quick_start import objective_function, quick_start, run, run_recbole
from recbole.utils import get_model

from recbole_sce import SCEMixin, plugin
from recbole_sce.model import SASRecSCE

Run = Callable[[type, dict[str, Any]], Any]


class OwnSASRecSCE(SASRecSCE):
    """A model of the user's, which nobody has registered."""


class OwnGRU4RecSCE(SCEMixin, GRU4Rec):
    """Another one, over a recommender of RecBole."""

    causal = True


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget after the test what it has registered."""
    monkeypatch.setattr(plugin, "_models", dict(plugin._models))
    yield
    for cls in (OwnSASRecSCE, OwnGRU4RecSCE):
        for module, kind in ((recbole.data.dataset, "Dataset"), (recbole.trainer, "Trainer")):
            vars(module).pop(f"{cls.__name__}{kind}", None)
        sys.modules.pop(f"recbole.model.sequential_recommender.{cls.__name__.lower()}", None)


def by_hand(model: type, settings: dict[str, Any]) -> Any:
    run = prepare_trainer(model, "tiny", settings)
    assert type(run.model) is model
    return run.trainer.fit(run.train, run.valid, show_progress=False)[0]


WAYS: dict[str, Run] = {
    "Config": by_hand,
    "run_recbole": lambda model, settings: run_recbole(model=model, dataset="tiny", config_dict=settings),
    "run": lambda model, settings: run(model=model, dataset="tiny", config_dict=settings),
    "config_dict": lambda model, settings: run_recbole(
        config_dict={**settings, "model": model, "dataset": "tiny"}
    ),
    "objective_function": lambda model, settings: objective_function(
        {**settings, "model": model, "dataset": "tiny"}
    ),
}


@pytest.mark.parametrize("model", [OwnSASRecSCE, OwnGRU4RecSCE])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_registered_on_first_sight(
    way: str, model: type, tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_start, "get_environment", mock.MagicMock())  # waits for the machine's load
    settings = {**tiny_dataset, "hidden_size": 8, "inner_size": 8, "embedding_size": 8, "n_layers": 1}
    assert WAYS[way](model, settings)
    assert plugin.registered_models()[model.__name__] is model


def test_a_class_that_is_defined_again_takes_the_place_of_the_first(tiny_dataset: dict[str, Any]) -> None:
    """As in a notebook whose cell is run once more."""
    again = type("OwnSASRecSCE", (SASRecSCE,), {"__module__": __name__})
    for cls in (OwnSASRecSCE, again):
        Config(model=cls, dataset="tiny", config_dict=tiny_dataset)
        assert get_model("OwnSASRecSCE") is cls


def test_a_name_that_is_taken_is_said(tiny_dataset: dict[str, Any]) -> None:
    taken = type("GRU4RecSCE", (SASRecSCE,), {"__module__": __name__})
    with pytest.raises(ValueError, match=r"GRU4RecSCE cannot be registered: .*another name"):
        Config(model=taken, dataset="tiny", config_dict=tiny_dataset)


def test_bases_in_the_wrong_order_are_said(tiny_dataset: dict[str, Any]) -> None:
    wrong = type("WrongSCE", (SASRec, SCEMixin), {"__module__": __name__})
    with pytest.raises(TypeError, match="SCEMixin must come before the recommender"):
        Config(model=wrong, dataset="tiny", config_dict=tiny_dataset)
