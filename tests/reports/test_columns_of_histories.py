"""``dataset["item_id_list"]`` or ``interaction["timestamp_list"]``, which RecBole has, is a KeyError."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.data.dataset import SequentialDataset

from recbole_sce import register_model
from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.inference.recommender import RecommendationError, Recommender
from recbole_sce.model import SASRecSCE

from .conftest import Toy

LISTS = ("item_id_list", "timestamp_list")


def pairs_of_parts(toy: Toy, **keys: Any) -> Iterator[tuple[Any, Any]]:
    """The data set and its parts, ours beside RecBole's."""
    config = Config("SASRecSCE", "toy", config_dict=toy.settings(train_positions="all", **keys))
    reference = Config("SASRec", "toy", config_dict=toy.settings("SASRec", **keys))
    ours, recboles = IndexedSequenceDataset(config), SequentialDataset(reference)
    parts = zip(ours.build(), recboles.build())
    yield ours, recboles
    yield from parts


@pytest.mark.parametrize("keys", [{}, {"numerical_features": ["timestamp"]}], ids=["plain", "numerical"])
def test_columns_are_recboles(toy: Toy, keys: dict[str, Any]) -> None:
    for data, reference in pairs_of_parts(toy, **keys):
        for name in LISTS:
            expected = reference.inter_feat[name]
            assert name in data.inter_feat
            assert data.inter_feat[name].dtype == expected.dtype
            assert torch.equal(data.inter_feat[name], expected)
            assert torch.equal(data[name], expected)
            assert torch.equal(data.inter_feat[name][[3, 1]], data.inter_feat[[3, 1]][name])
            assert getattr(data, f"{name}_field") == name
            assert data.field2type[name] == reference.field2type[name]
            assert data.field2seqlen[name] == reference.field2seqlen[name]
        assert torch.equal(data["item_id"], reference["item_id"])
        with pytest.raises(KeyError, match="mood_list"):
            data.inter_feat["mood_list"]


def test_they_follow_changes_of_rows(toy: Toy) -> None:
    (_, _), (data, reference), *_ = pairs_of_parts(toy)
    for each in (data, reference):
        torch.manual_seed(3)
        each.shuffle()
        each.sort(by="item_id")
    for name in LISTS:
        assert torch.equal(data[name], reference[name])


def test_a_dropped_column_is_gone(toy: Toy) -> None:
    data = toy.prepared(unused_col={"inter": ["timestamp_list", "timestamp"]}).train.dataset
    assert "timestamp_list" not in data.inter_feat
    assert "timestamp" not in data.inter_feat
    assert "item_id_list" in data[[1, 2]]


class _ReadsTimes(SASRecSCE):
    def encode_positions(self, interaction: Any) -> torch.Tensor:
        states: torch.Tensor = super().encode_positions(interaction)
        return states + 0 * interaction["timestamp_list"].float().mean()


@register_model
class TimesUnnamedSCE(_ReadsTimes):
    """Does not say that it reads times."""


@register_model
class TimesNamedSCE(_ReadsTimes):
    """Says so, and evaluates by items alone."""

    sequence_fields = ("timestamp",)


@register_model
class TimesEvaluatedSCE(_ReadsTimes):
    """Says so, and reads them in evaluation too."""

    sequence_fields = ("timestamp",)

    def encode(self, interaction: Any) -> torch.Tensor:
        states: torch.Tensor = super().encode(interaction)
        return states + 0 * interaction["timestamp_list"].float().mean()


def test_a_model_that_reads_another_history_is_told_how(toy: Toy) -> None:
    run = toy.prepared("TimesUnnamedSCE")
    with pytest.raises(
        KeyError, match=r"no field 'timestamp_list'.*sequence_fields, such as \('timestamp',\)"
    ):
        run.trainer.fit(run.train, run.valid, show_progress=False)
    recommender = Recommender.load(toy.trained("TimesNamedSCE", epochs=1).file)
    (top,) = recommender.for_users(["u1"], 3)
    assert (top.scores > -torch.inf).all()
    recommender = Recommender.load(toy.trained("TimesEvaluatedSCE", epochs=1).file)
    with pytest.raises(RecommendationError, match="TimesEvaluatedSCE reads more of a history than its items"):
        list(recommender.for_users(["u1"], 3))
