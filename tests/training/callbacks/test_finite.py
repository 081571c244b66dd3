"""What is not finite ends training before it spreads, and is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from torch import Tensor

from recbole_sce import SASRecSCE
from recbole_sce.training import SCETrainer
from recbole_sce.training.callbacks import finite

NAN, INFINITE = float("nan"), float("inf")


def prepare(given: dict[str, Any], **settings: Any) -> tuple[SCETrainer, Any]:
    config = Config("SASRecSCE", "tiny", config_dict={**given, "train_batch_size": 16, **settings})
    init_seed(config["seed"], config["reproducibility"])
    train, _, _ = data_preparation(config, create_dataset(config))
    return SCETrainer(config, SASRecSCE(config, train._dataset)), train


def break_at(trainer: SCETrainer, step: int, change: Any) -> list[dict[str, Tensor]]:
    """Let ``change(model, interaction)`` act before a step; return a list that will hold the weights then."""
    calculate_loss, seen, weights = trainer.model.calculate_loss, [], []

    def broken(interaction: Any) -> Any:
        seen.append(interaction)
        if len(seen) == step + 1:
            change(trainer.model, interaction)
            weights.append(copy.deepcopy(trainer.model.state_dict()))
        return calculate_loss(interaction)

    trainer.model.calculate_loss = broken  # type: ignore[method-assign]
    return weights


def poison_items(model: SASRecSCE, interaction: Any) -> None:
    """Break the row of an item that the batch trains."""
    with torch.no_grad():
        model.item_embedding.weight[interaction[model.TARGET_SEQ].max()] = NAN


def poison_states(model: SASRecSCE, interaction: Any) -> None:
    """Let the encoder give one row of the batch no numbers."""
    encode_positions = model.encode_positions

    def broken(interaction: Any) -> Tensor:
        states = encode_positions(interaction)
        return states.index_fill(0, torch.tensor([5]), INFINITE)

    model.encode_positions = broken  # type: ignore[method-assign]


def poison_loss(model: SASRecSCE, interaction: Any) -> None:
    model.extra_loss = lambda interaction, hidden: hidden.sum() * NAN  # type: ignore[method-assign]


def poison_input(model: SASRecSCE, interaction: Any) -> None:
    interaction["price"] = torch.ones(len(interaction)).index_fill(0, torch.tensor([2]), NAN)
    poison_states(model, interaction)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (poison_items, r"parameter item_embedding\.weight, row (3[0-9]|40) of 41"),
        (poison_states, r"hidden states, row .* \(batch rows 5\)"),
        (poison_loss, r"only the loss"),
        (poison_input, r"input 'price', batch row 2 of 16"),
    ],
)
@pytest.mark.parametrize("loss_type", ["SCE", "CE-"])
def test_a_loss_that_is_no_number_is_named_and_its_step_not_taken(
    change: Any, named: str, loss_type: str, tiny_dataset: dict[str, Any]
) -> None:
    trainer, train = prepare(tiny_dataset, epochs=3, loss_type=loss_type)
    n_steps = len(train)
    before = break_at(trainer, n_steps + 1, change)
    place = r"epoch 1, batch 1 \(both from 0\): the training loss is (nan|inf); not finite: "
    with pytest.raises(finite.NonFiniteError, match=f"{place}({named})"):
        trainer.fit(train, saved=False)
    for name, weight in trainer.model.state_dict().items():
        assert torch.allclose(weight, before[0][name], rtol=0, atol=0, equal_nan=True), name


def test_item_embeddings_that_a_model_makes_are_named(tiny_dataset: dict[str, Any]) -> None:
    trainer, train = prepare(tiny_dataset)
    table = trainer.model.item_table().detach().clone()
    table[7] = INFINITE
    trainer.model.item_table = lambda: table  # type: ignore[method-assign]
    assert finite.describe(trainer.model, next(iter(train))) == "item embeddings, row 7 of 41"


def test_a_gradient_that_is_no_number_never_reaches_a_checkpoint(tiny_dataset: dict[str, Any]) -> None:
    trainer, train = prepare(tiny_dataset, epochs=2)

    def break_gradient(model: SASRecSCE, interaction: Any) -> None:
        model.item_embedding.weight.register_hook(lambda gradient: gradient * NAN)

    break_at(trainer, 2 * len(train) - 1, break_gradient)
    with pytest.raises(finite.NonFiniteError, match=r"epoch 1 \(from 0\).*parameter item_embedding\.weight"):
        trainer.fit(train, saved=True)
    saved = torch.load(trainer.saved_model_file, weights_only=False)
    assert saved["epoch"] == 0
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())


def test_a_step_that_is_well_is_not_looked_into(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> str:
        raise AssertionError("described a step without need")

    monkeypatch.setattr(finite, "describe", fail)
    trainer, train = prepare(tiny_dataset)
    trainer.fit(train, saved=False)


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
def test_all_finite(value: float) -> None:
    model = torch.nn.Linear(3, 2)
    assert finite.all_finite(model)
    with torch.no_grad():
        model.weight[1, 2] = value
    assert not finite.all_finite(model)
    assert finite.all_finite(torch.nn.Identity())


@pytest.mark.parametrize("enable_amp", [False, True])
@pytest.mark.parametrize("loss_type", ["SCE", "CE", "CE-", "gBCE", "BCE"])
def test_large_embeddings_train(loss_type: str, enable_amp: bool, tiny_dataset: dict[str, Any]) -> None:
    trainer, train = prepare(tiny_dataset, loss_type=loss_type, enable_amp=enable_amp)
    with torch.no_grad():
        trainer.model.item_embedding.weight.mul_(1e4 / trainer.model.item_embedding.weight.abs().max())
    trainer.fit(train, saved=False)
    assert finite.all_finite(trainer.model)
