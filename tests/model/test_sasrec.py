"""The dropout that SASRecSCE chooses by the data."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from recbole_sce.model import SASRecSCE
from recbole_sce.model.sasrec import dropout_for


def rates(model: nn.Module) -> set[float]:
    return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize(
    ("interactions_per_user", "dropout"),
    [(8.9, 0.5), (10.4, 0.5), (19.99, 0.5), (20.0, 0.2), (38.4, 0.2), (165.5, 0.2)],
)
def test_sparse_data_get_more_dropout(interactions_per_user: float, dropout: float) -> None:
    assert dropout_for(interactions_per_user) == dropout


@pytest.mark.parametrize(("interactions_per_user", "dropout"), [(9.0, 0.5), (100.0, 0.2)])
def test_all_layers_have_the_dropout_of_the_data(
    prepared: Any, caplog: pytest.LogCaptureFixture, interactions_per_user: float, dropout: float
) -> None:
    run = prepared("SASRecSCE")
    dataset = run.train._dataset
    dataset.interactions_per_user = interactions_per_user
    caplog.set_level(logging.INFO)
    assert rates(SASRecSCE(run.config, dataset)) == {dropout}
    assert (
        f"A user has {interactions_per_user} interactions on average: "
        f"hidden_dropout_prob = {dropout}, attn_dropout_prob = {dropout}"
    ) in caplog.text


def test_the_data_of_a_run_decide(prepared: Any) -> None:
    run = prepared("SASRecSCE")
    assert run.train._dataset.interactions_per_user < 20
    assert rates(run.model) == {0.5}


@pytest.mark.parametrize("positions", ["all", "last"])
def test_what_is_set_stays(prepared: Any, positions: str) -> None:
    given = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.3, "train_positions": positions}
    run = prepared("SASRecSCE", **given)
    assert rates(run.model) == {0.0, 0.3}


def test_what_is_not_set_is_chosen_beside_it(prepared: Any) -> None:
    run = prepared("SASRecSCE", attn_dropout_prob=0.3)
    assert rates(run.model) == {0.3, 0.5}
    assert run.model.dropout.p == 0.5


def test_the_configuration_stays_as_it_was(prepared: Any) -> None:
    """So that a checkpoint goes on under the same configuration: its data choose the same again."""
    config = prepared("SASRecSCE").config
    assert config["hidden_dropout_prob"] is None
    assert config["attn_dropout_prob"] is None


def test_a_set_dropout_asks_nothing_of_the_data() -> None:
    config: Any = {"hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.0}
    chosen = SASRecSCE.encoder_settings(config, dataset=SimpleNamespace())  # type: ignore[arg-type]
    assert chosen == {"loss_type": "CE"}
