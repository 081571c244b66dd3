"""Which models give the same states and losses whatever the width of a batch's padding."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_sce.evaluator import encoding
from recbole_sce.evaluator.encoding import encode_rows
from recbole_sce.model import MODELS, SCEMixin

NAMES = [cls.__name__ for cls in MODELS]
#: NextItNet reads the last column, padding or not, with train_positions: last alone.
IGNORE_IT_AS_THEY_TRAIN_ALL = ("NextItNetSCE",)


def close(actual: Any, expected: Any) -> None:
    rtol = 1e-5 if expected[1].dtype == torch.float32 else 1e-9
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol)


def short_rows(loader: Any, longest: int) -> tuple[Interaction, Interaction]:
    """Return a training batch of short rows as wide as batches may be, 10, and cut to ``longest``."""
    dataset = loader._dataset
    lengths, _ = dataset.training_sizes()
    rows = np.flatnonzero(lengths <= longest)[:64]
    rows = np.append(rows, np.flatnonzero(lengths == longest)[:2])
    full, cut = (dataset.training_batch(rows, cut=cut) for cut in (False, True))
    assert full["item_id_list"].size(1) == 10
    assert cut["item_id_list"].size(1) == longest
    return full, cut


def loss_and_states(model: Any, loader: Any, batch: Interaction) -> tuple[Any, Any]:
    random.seed(2)  # by which BERT4Rec's transform masks
    torch.manual_seed(2)  # by which BERT4RecSCE masks
    batch = loader.transform(loader._dataset, batch)
    return model.calculate_loss(batch), model.encode(batch)


CASES = [
    *((name, "last") for name in NAMES),
    *((cls.__name__, "all") for cls in MODELS if cls.trains() != "last"),
]


@torch.no_grad()
@pytest.mark.parametrize(("name", "positions"), CASES)
def test_a_model_ignores_padding_if_it_says_so(zoo: Any, name: str, positions: str) -> None:
    """Weights are not zero where RecBole leaves padding an embedding of its own."""
    model = zoo.drawn(name, train_positions=positions)
    loader = zoo.data(name, positions).train
    assert loader.cuts_padding == model.ignores_padding
    for longest in (1, 5) if positions == "last" else (5,):
        full, cut = short_rows(loader, longest)
        expected = loss_and_states(model, loader, full)
        if model.ignores_padding:
            close(loss_and_states(model, loader, cut), expected)
            assert next(iter(loader))["item_id_list"].size(1) <= 10
        elif name not in IGNORE_IT_AS_THEY_TRAIN_ALL or positions == "last":
            assert differs(model, loader, cut, expected)
            return
    assert model.ignores_padding or name in IGNORE_IT_AS_THEY_TRAIN_ALL


def differs(model: Any, loader: Any, cut: Interaction, expected: Any) -> bool:
    try:
        actual = loss_and_states(model, loader, cut)
    except (RuntimeError, IndexError):
        return True
    return bool((actual[1] - expected[1]).abs().max() > 1e-3)


def test_a_model_of_a_user_keeps_the_full_width() -> None:
    assert not SCEMixin.ignores_padding


@torch.no_grad()
@pytest.mark.parametrize("name", ["SASRecSCE", "NPESCE"])
def test_states_of_many_rows_are_those_of_one_batch_in_its_order(
    zoo: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_POSITIONS", 400)
    model = zoo.model(name).eval()
    batch = zoo.data(name).train._dataset[list(range(300))]
    widths = []
    encode = model.encode

    def recording(interaction: Interaction) -> Any:
        widths.append(interaction["item_id_list"].size(1))
        return encode(interaction)

    model.encode = recording
    states = encode_rows(model, batch, torch.device("cpu"))
    torch.testing.assert_close(states, encode(batch))
    assert len(widths) > 5
    assert (set(widths) == {10}) == (name == "NPESCE")
    assert batch["item_id_list"].size(1) == 10
    assert len(encode_rows(model, batch[:0], torch.device("cpu"))) == 0
