"""What SASRecSCE chooses by the data: dropout, weight decay, and whether later items are targets."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model, run_recbole
from torch import nn

from recbole_sce import SettingsError
from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.model import SASRecSCE, sasrec
from recbole_sce.model.sasrec import choose_by_data
from recbole_sce.training import SCETrainer
from recbole_sce.training.row_adam import RowAdam


def rates(model: nn.Module) -> set[float]:
    return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}


#: What else it asks of a configuration.
LOSS = {
    "sparse_item_updates": False,
    "loss_type": "SCE",
    "complete_softmax": True,
    "train_positions": None,
}


def chosen(average: float | None, causal: bool = True, **given: Any) -> tuple[Any, ...]:
    """What is in the configuration when a model is built; without an average, the data must not be asked."""
    config: Any = {**dict.fromkeys(SASRecSCE.chosen_by_data), "learner": "adamw", **LOSS, **given}
    dataset: Any = SimpleNamespace(**({} if average is None else {"interactions_per_user": average}))
    choose_by_data(config, dataset, causal)
    return tuple(config[key] for key in SASRecSCE.chosen_by_data)


@pytest.mark.parametrize("average", [8.9, 10.4, 19.99, 20.0, 38.4, 165.5])
def test_sparse_data_get_more_dropout_decay_and_targets(average: float) -> None:
    assert chosen(average) == ((0.5, 0.5, 0.1, 0.4) if average < 20 else (0.2, 0.2, 0.0, 0.0))


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"hidden_dropout_prob": 0.3}, (0.3, 0.3, 0.1, 0.4)),
        ({"attn_dropout_prob": 0.1}, (0.5, 0.1, 0.1, 0.4)),
        ({"hidden_dropout_prob": 0.0}, (0.0, 0.0, 0.1, 0.4)),
        ({"weight_decay": 0.0}, (0.5, 0.5, 0.0, 0.4)),
        ({"weight_decay": 0.01}, (0.5, 0.5, 0.01, 0.4)),
        ({"learner": "AdamW"}, (0.5, 0.5, 0.1, 0.4)),
        ({"learner": "adam"}, (0.5, 0.5, 0.0, 0.4)),
        ({"sparse_item_updates": True}, (0.5, 0.5, 0.0, 0.4)),
        ({"learner": "sgd", "weight_decay": 0.01}, (0.5, 0.5, 0.01, 0.4)),
        ({"target_discount": 0.0}, (0.5, 0.5, 0.1, 0.0)),
        ({"target_discount": 0.7}, (0.5, 0.5, 0.1, 0.7)),
        ({"train_positions": "all", "loss_type": "CE"}, (0.5, 0.5, 0.1, 0.4)),
        ({"loss_type": "CE", "complete_softmax": False}, (0.5, 0.5, 0.1, 0.4)),
    ],
)
def test_what_is_set_stays_and_decay_is_adamws(given: dict[str, Any], values: tuple[float, ...]) -> None:
    assert chosen(9.0, **given) == values


@pytest.mark.parametrize(
    "loss",
    [
        {"complete_softmax": False},
        {"train_positions": "last"},
        *({"loss_type": t} for t in ("CE-", "gBCE", "BCE")),
    ],
)
def test_later_items_are_no_targets_of_losses_that_cannot_have_them(loss: dict[str, Any]) -> None:
    assert chosen(9.0, **loss) == (0.5, 0.5, 0.1, 0.0)
    assert chosen(9.0, causal=False) == (0.5, 0.5, 0.1, 0.0)


@pytest.mark.parametrize("decay", [{"weight_decay": 0.0}, {"learner": "adam"}, {"sparse_item_updates": True}])
@pytest.mark.parametrize("later", [{"target_discount": 0.0}, {"complete_softmax": False}])
def test_the_data_are_not_asked_where_they_decide_nothing(
    decay: dict[str, Any], later: dict[str, Any]
) -> None:
    assert chosen(None, hidden_dropout_prob=0.3, **decay, **later) == (0.3, 0.3, 0.0, 0.0)


@pytest.mark.parametrize(("least", "dropout"), [(2, 0.5), (20, 0.2)])
def test_all_layers_have_the_dropout_of_the_data_and_the_configuration_says_so(
    prepared: Any, caplog: pytest.LogCaptureFixture, least: int, dropout: float
) -> None:
    caplog.set_level(logging.INFO)
    run = prepared("SASRecSCE", user_inter_num_interval=f"[{least},inf)")
    average = run.train._dataset.interactions_per_user
    assert (average < 20) is (dropout == 0.5)
    assert rates(run.model) == {dropout}
    assert run.config["hidden_dropout_prob"] == run.config["attn_dropout_prob"] == dropout
    told = f"A user has {average:.2f} interactions on average, 20 and more are dense data: "
    decay, discount = (0.1, 0.4) if dropout == 0.5 else (0.0, 0.0)
    assert run.model.settings.target_discount == discount
    told += f"hidden_dropout_prob = {dropout}, weight_decay = {decay}, target_discount = {discount}"
    assert told in caplog.text


def test_saved_data_choose_the_same(tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        **tiny_dataset,
        "train_neg_sample_args": None,
        "checkpoint_dir": "saved",
        "save_dataset": True,
    }
    for _ in range(2):
        config = Config("SASRecSCE", "tiny", config_dict=settings)
        train, _, _ = data_preparation(config, create_dataset(config))
        assert rates(SASRecSCE(config, train._dataset)) == {0.5}
        monkeypatch.setattr(IndexedSequenceDataset, "__init__", None)  # the second time it is loaded


@pytest.mark.parametrize("key", ["hidden_dropout_prob", "attn_dropout_prob"])
@pytest.mark.parametrize("value", ["null", "auto", 1.5, 1, -0.1, True, float("nan")])
def test_impossible_values_are_named_before_data_is_read(
    tiny_dataset: dict[str, Any], key: str, value: Any
) -> None:
    with pytest.raises(
        SettingsError, match=f"{key}: {value!r} is not allowed; a number from 0 to less than 1"
    ):
        Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, key: value})


def test_null_is_not_allowed_with_models_that_choose_nothing(tiny_dataset: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="attn_dropout_prob: None is not allowed; a number from 0"):
        Config("BERT4RecSCE", "tiny", config_dict={**tiny_dataset, "attn_dropout_prob": None})


def test_a_checkpoint_keeps_what_was_chosen(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_recbole("SASRecSCE", "tiny", config_dict=tiny_dataset)
    monkeypatch.setattr(sasrec, "DENSE_FROM", 2)  # another version chooses otherwise
    (best,) = (path for path in Path("saved").glob("*.pth") if not path.stem.endswith("-last"))
    config, model, *_ = load_data_and_model(str(best))
    assert config["hidden_dropout_prob"] == 0.5
    assert rates(model) == {0.5}


def test_none_on_the_command_line_is_null(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "--hidden_dropout_prob=None"])
    config = Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, "hidden_dropout_prob": 0.3})
    assert config["hidden_dropout_prob"] is None


def test_a_model_that_extends_it_reads_what_was_chosen(prepared: Any) -> None:
    class WithHead(SASRecSCE):
        def __init__(self, config: Any, dataset: Any) -> None:
            super().__init__(config, dataset)
            self.head = nn.Dropout(config["hidden_dropout_prob"])

    run = prepared("SASRecSCE")
    run.config["hidden_dropout_prob"] = None
    assert WithHead(run.config, run.train._dataset).head.p == 0.5


@pytest.mark.parametrize(
    ("settings", "optimizer", "decay"),
    [
        ({}, torch.optim.AdamW, 0.1),
        ({"learner": "adam"}, torch.optim.Adam, 0.0),
        ({"sparse_item_updates": True}, RowAdam, 0.0),
    ],
)
def test_training_decays_by_what_was_chosen(
    prepared: Any, settings: dict[str, Any], optimizer: type, decay: float
) -> None:
    run = prepared("SASRecSCE", **settings)
    trainer = SCETrainer(run.config, run.model)
    assert type(trainer.optimizer) is optimizer
    layer = run.model.position_embedding.weight  # decays alone: its gradient is 0
    before = layer.detach().clone()
    layer.grad = torch.zeros_like(layer)
    trainer.optimizer.step()
    assert torch.allclose(layer, before * (1 - 0.001 * decay), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("model", "value"), [("SASRecSCE", -0.1), ("GRU4RecSCE", None), ("SASRecSCE", "much")]
)
def test_impossible_weight_decay_is_refused(tiny_dataset: dict[str, Any], model: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"weight_decay: {value!r} is not allowed"):
        Config(model, "tiny", config_dict={**tiny_dataset, "weight_decay": value})
