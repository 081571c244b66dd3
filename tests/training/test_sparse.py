"""``sparse_item_updates``: what it changes in a step, and where it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_sce import SASRecSCE, SettingsError
from recbole_sce.loss import ItemLoss, LaterTargetsLoss
from recbole_sce.training import SCETrainer, sparse
from recbole_sce.training.row_adam import RowAdam


class Lookup(ItemLoss):
    """Cross-entropy over the items from ``first`` on, with a gradient that may be sparse."""

    allows_sparse_grad = True

    def __init__(self, first: int = 1) -> None:
        super().__init__()
        self.first = first

    def forward(self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
        items = torch.arange(self.first, len(item_embeddings))
        own = F.embedding(targets, item_embeddings, sparse=self.sparse_grad)  # (N, d)
        others = F.embedding(items, item_embeddings, sparse=self.sparse_grad)
        positive = (hidden * own).sum(-1, keepdim=True)
        return torch.cat([positive, hidden @ others.T], 1).logsumexp(1).mean() - positive.mean()


def trainer_of(tiny_dataset: dict[str, Any], loss: nn.Module, cls: type = SASRecSCE, **settings: Any) -> Any:
    exact = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "ema_decay": None, "target_discount": 0.0}
    settings = {**exact, "epochs": 2, **settings}
    config = Config(
        "SASRecSCE", "tiny", config_dict={**tiny_dataset, "train_neg_sample_args": None, **settings}
    )
    train, _, _ = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    model = cls(config, train._dataset).double()
    model.loss_fct = loss
    return SCETrainer(config, model), train


@pytest.mark.parametrize(("learner", "decay"), [("adam", 0.0), ("adamw", 0.0), ("adamw", 0.1)])
def test_training_equals_dense_training_where_all_rows_are_touched(
    tiny_dataset: dict[str, Any], learner: str, decay: float
) -> None:
    tables = []
    for by_row in (False, True):
        settings = {"learner": learner, "weight_decay": decay, "train_batch_size": 20, "ema_decay": 0.9}
        trainer, train = trainer_of(tiny_dataset, Lookup(), sparse_item_updates=by_row, **settings)
        before = trainer.model.item_embedding.weight.detach().clone()
        trainer.fit(train, saved=False, verbose=False)
        # Row 0, padding, has no gradient: its average is one of a row that only decays.
        tables.append(trainer.model.item_embedding.weight.detach()[1:])
        assert not torch.allclose(before[1:], tables[-1])
        assert isinstance(trainer.optimizer.state_dict()["state"], dict)
    assert torch.allclose(*tables, rtol=0, atol=1e-9)


class AmongTargets(ItemLoss):
    """Cross-entropy over the targets of a batch, which reads and touches no other rows."""

    allows_sparse_grad = True

    def forward(self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
        items, own = targets.unique(return_inverse=True)
        return F.cross_entropy(hidden @ F.embedding(items, item_embeddings, sparse=self.sparse_grad).T, own)


def test_a_batch_reads_rows_where_dense_training_has_them(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def table(**settings: Any) -> Tensor:
        settings = {"train_batch_size": 1, "learner": "adamw", "weight_decay": 0.1, "epochs": 1, **settings}
        trainer, train = trainer_of(tiny_dataset, AmongTargets(), **settings)
        trainer.fit(train, saved=False, verbose=False)
        learnt: Tensor = trainer.model.item_embedding.weight.detach()
        return learnt

    dense = table(sparse_item_updates=False)
    rows = table(sparse_item_updates=True)
    monkeypatch.setattr(sparse.RowsUpToDate, "watched", lambda _, calculate_loss: calculate_loss)
    late = table(sparse_item_updates=True)
    assert (rows - dense).abs().mean() < 0.1 * (late - dense).abs().mean()


class WithMask(SASRecSCE):
    """Says of a row that it also holds a mask, and no item."""

    def row_items(self, interaction: Any) -> Tensor:
        items = super().row_items(interaction)
        return torch.cat([items, torch.full_like(items[:, :1], self.n_items), items[:, :1] * 0 - 1], 1)


class WithGroups(SASRecSCE):
    """Has a second table with sparse gradients, of fewer rows."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.group_embedding = nn.Embedding(3, self.hidden_size, sparse=True)

    def encode_positions(self, interaction: Any) -> Tensor:
        groups = self.group_embedding(interaction[self.ITEM_SEQ_LEN] % 3)  # (B, d)
        states: Tensor = super().encode_positions(interaction) + groups.unsqueeze(1)
        return states


def test_numbers_that_are_no_rows_count_for_nothing(tiny_dataset: dict[str, Any]) -> None:
    tables = []
    for cls in (SASRecSCE, WithMask):
        settings = {"sparse_item_updates": True, "train_batch_size": 5, "learner": "adam"}
        trainer, train = trainer_of(tiny_dataset, AmongTargets(), cls, **settings)
        trainer.fit(train, saved=False, verbose=False)
        tables.append(trainer.model.item_embedding.weight)
    assert torch.allclose(*tables, rtol=0, atol=1e-12)


def test_rows_of_items_are_no_rows_of_another_table(tiny_dataset: dict[str, Any]) -> None:
    settings = {"sparse_item_updates": True, "train_batch_size": 5, "learner": "adam"}
    trainer, train = trainer_of(tiny_dataset, AmongTargets(), WithGroups, **settings)
    before = trainer.model.group_embedding.weight.detach().clone()
    trainer.fit(train, saved=False, verbose=False)
    assert not torch.equal(trainer.model.group_embedding.weight, before)


def test_later_targets_touch_no_other_rows(tiny_dataset: dict[str, Any]) -> None:
    loss = Lookup(first=38)
    loss.allows_later_targets = True
    later = LaterTargetsLoss(loss, 0.4)
    trainer, train = trainer_of(tiny_dataset, later, sparse_item_updates=True, target_discount=0.4)
    trainer.model.calculate_loss(next(iter(train))).backward()
    assert trainer.model.item_embedding.weight.grad.is_sparse


def test_a_step_changes_the_rows_that_it_touches_and_no_others(tiny_dataset: dict[str, Any]) -> None:
    trainer, train = trainer_of(tiny_dataset, Lookup(first=38), sparse_item_updates=True, train_batch_size=2)
    table = trainer.model.item_embedding.weight
    before = table.detach().clone()
    batch = next(iter(train))
    trainer.model.calculate_loss(batch).backward()
    assert table.grad.is_sparse
    trainer.optimizer.step()
    targets = batch[trainer.model.TARGET_SEQ]
    touched = set(torch.cat([batch["item_id_list"].flatten(), targets.flatten()]).tolist()) | {38, 39, 40}
    changed = set((table != before).any(1).nonzero().squeeze(1).tolist())
    assert changed == touched - {0}
    assert len(changed) < 35


@pytest.mark.parametrize("by_row", [False, True])
def test_a_checkpoint_goes_on_where_it_was(tiny_dataset: dict[str, Any], by_row: bool) -> None:
    trainer, train = trainer_of(tiny_dataset, Lookup(), sparse_item_updates=by_row)
    trainer.fit(train, verbose=False)
    resumed, _ = trainer_of(tiny_dataset, Lookup(), sparse_item_updates=by_row)
    resumed.resume_checkpoint(trainer.saved_model_file)
    for each in (trainer, resumed):
        init_seed(3, True)
        train.generator.manual_seed(3)
        each._train_epoch(train, 2)
    assert torch.equal(trainer.model.item_embedding.weight, resumed.model.item_embedding.weight)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss_type", "CE"),
        ("learner", "sgd"),
        ("clip_grad_norm", {"max_norm": 1.0}),
    ],
)
def test_settings_that_touch_every_row_are_refused(
    tiny_dataset: dict[str, Any], key: str, value: object
) -> None:
    with pytest.raises(SettingsError, match=f"{key} must be .* with sparse_item_updates True, got "):
        Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, "sparse_item_updates": True, key: value})


def test_decay_of_the_gradient_is_refused(tiny_dataset: dict[str, Any]) -> None:
    settings = {**tiny_dataset, "sparse_item_updates": True, "weight_decay": 0.1}
    Config("SASRecSCE", "tiny", config_dict={**settings, "learner": "adamw"})
    with pytest.raises(SettingsError, match=r"weight_decay must be 0 with sparse_item_.*set learner: adamw"):
        Config("SASRecSCE", "tiny", config_dict={**settings, "learner": "adam"})


@pytest.mark.parametrize(
    ("n_items", "settings", "by_row"),
    [
        (41, {}, True),
        (42, {}, False),
        (41, {"loss_type": "CE"}, False),
        (41, {"learner": "adam", "weight_decay": 0.1}, False),
        (41, {"clip_grad_norm": {"max_norm": 1.0}}, False),
        (41, {"sparse_item_updates": False}, False),
        (42, {"sparse_item_updates": True}, True),
    ],
)
def test_auto_updates_rows_of_large_catalogues_where_it_can(
    tiny_dataset: dict[str, Any],
    n_items: int,
    settings: dict[str, Any],
    by_row: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparse, "AUTO_FROM", n_items)  # of 41 items
    config = Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, **settings})
    train, _, _ = data_preparation(config, create_dataset(config))
    trainer = SCETrainer(config, SASRecSCE(config, train._dataset))
    assert trainer.model.n_items == 41
    assert trainer.updates_rows is by_row
    assert isinstance(trainer.optimizer, RowAdam) is by_row


def test_auto_trains_a_model_whose_gradient_is_dense_after_all(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Regularised(SASRecSCE):
        def extra_loss(self, interaction: Any, hidden: Tensor) -> Tensor:
            return self.item_embedding.weight.square().sum()

    losses = []
    for first in (2, 100):
        monkeypatch.setattr(sparse, "AUTO_FROM", first)
        trainer, train = trainer_of(
            tiny_dataset, Lookup(), Regularised, ema_decay=0.9, learner="adamw", weight_decay=0.1
        )
        trainer.fit(train, saved=False, verbose=False)
        losses.append(trainer.train_loss_dict[1])
    assert losses[0] == pytest.approx(losses[1])


def test_scaled_gradients_of_several_processes_are_refused(tiny_dataset: dict[str, Any]) -> None:
    settings = {**tiny_dataset, "sparse_item_updates": True, "enable_scaler": True}
    Config("SASRecSCE", "tiny", config_dict=settings)
    with pytest.raises(
        SettingsError, match="enable_scaler must be False in several processes with sparse_item_updates"
    ):
        Config("SASRecSCE", "tiny", config_dict={**settings, "world_size": 2})


def test_a_table_that_is_computed_is_refused(tiny_dataset: dict[str, Any]) -> None:
    class Normalised(SASRecSCE):
        def item_table(self) -> Tensor:
            return F.normalize(super().item_table())

    with pytest.raises(ValueError, match="sparse_item_updates must be False with Normalised, got True"):
        trainer_of(tiny_dataset, Lookup(), Normalised, sparse_item_updates=True)


def test_a_loss_with_dense_gradients_is_refused(tiny_dataset: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be False with Identity, got True: its gradient .* is dense"):
        trainer_of(tiny_dataset, nn.Identity(), sparse_item_updates=True)


def test_a_loss_that_uses_the_whole_table_is_refused_in_its_first_step(tiny_dataset: dict[str, Any]) -> None:
    class Regularised(SASRecSCE):
        def extra_loss(self, interaction: Any, hidden: Tensor) -> Tensor:
            return self.item_embedding.weight.square().sum()

    trainer, train = trainer_of(tiny_dataset, Lookup(), Regularised, sparse_item_updates=True)
    with pytest.raises(ValueError, match="uses all rows of the table in each step"):
        trainer.fit(train, saved=False, verbose=False)


@pytest.mark.parametrize("loss_type", ["SCE", "CE-", "gBCE", "BCE"])
def test_every_loss_that_touches_few_rows_trains_so(tiny_dataset: dict[str, Any], loss_type: str) -> None:
    settings = {"sparse_item_updates": True, "loss_type": loss_type, "n_negatives": 2, "bucket_size_y": 3}
    config = Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, **settings, "train_batch_size": 4})
    train, valid, _ = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    trainer = SCETrainer(config, SASRecSCE(config, train._dataset))
    first = trainer._train_epoch(train, 0)
    assert trainer.model.item_embedding.weight.grad.is_sparse
    assert trainer._train_epoch(train, 1) < first
    assert trainer.evaluate(valid, load_best_model=False)["ndcg@10"] > 0
