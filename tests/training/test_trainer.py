"""The trainer against RecBole's own, on ml-100k, and what it adds."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_sce import SASRecSCE, SettingsError
from recbole_sce.training import SCETrainer

Prepare = Callable[..., SimpleNamespace]

METRICS = ["Recall", "MRR", "NDCG", "Hit", "MAP", "Precision", "GAUC", "ItemCoverage", "AveragePopularity"]
FEW_USERS = "[200,inf)"
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}
METRICS += ["ShannonEntropy", "GiniIndex", "TailPercentage"]


def evaluated(trainer: type[Trainer], made: SimpleNamespace, data: Any) -> dict[str, float]:
    instance = trainer(made.config, made.model)
    instance.eval_collector.data_collect(made.train)
    init_seed(7, True)  # loaders draw sampled candidates as they go
    result: dict[str, float] = instance.evaluate(data, load_best_model=False)
    return result


def assert_equal_to_recboles(made: SimpleNamespace, data: Any) -> None:
    expected = evaluated(Trainer, made, data)
    assert len(expected) == 2 * len(METRICS) - 1  # all but GAUC at 5 and at 10
    # Another item or rank would change a metric by more than this.
    assert evaluated(SCETrainer, made, data) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("eval_batch_size", [100, 4096])
def test_metrics_of_a_random_model_are_recboles(ml_100k: Prepare, eval_batch_size: int) -> None:
    made = ml_100k(metrics=METRICS, eval_batch_size=eval_batch_size)
    assert_equal_to_recboles(made, made.test)


@pytest.mark.slow
def test_metrics_of_a_trained_model_are_recboles(ml_100k: Prepare) -> None:
    made = ml_100k(metrics=METRICS, loss_type="SCE", learning_rate=0.01, epochs=2)
    before = evaluated(SCETrainer, made, made.test)["ndcg@10"]
    SCETrainer(made.config, made.model).fit(made.train, saved=False, verbose=False)
    assert_equal_to_recboles(made, made.test)
    assert evaluated(SCETrainer, made, made.test)["ndcg@10"] > 2 * before


def test_metrics_of_a_collapsed_model_are_recboles(ml_100k: Prepare) -> None:
    made = ml_100k(metrics=METRICS, eval_memory_mb=1)
    torch.nn.init.zeros_(made.model.item_embedding.weight)  # all scores equal
    assert_equal_to_recboles(made, made.test)


@pytest.mark.parametrize("mode", ["uni100", "pop100"])
def test_metrics_over_sampled_candidates_are_recboles(ml_100k: Prepare, mode: str) -> None:
    made = ml_100k(
        metrics=METRICS,
        eval_args={**LEAVE_ONE_OUT, "mode": mode},
        user_inter_num_interval=FEW_USERS,
    )
    assert_equal_to_recboles(made, made.test)


def test_labelled_evaluation_is_recboles(ml_100k: Prepare) -> None:
    made = ml_100k(
        metrics=["AUC", "LogLoss"],
        valid_metric="AUC",
        threshold={"rating": 4},
        load_col={"inter": ["user_id", "item_id", "rating", "timestamp"]},
        eval_args={**LEAVE_ONE_OUT, "mode": "labeled"},
        user_inter_num_interval=FEW_USERS,
    )
    expected = evaluated(Trainer, made, made.test)
    assert expected.keys() == {"auc", "logloss"}
    assert evaluated(SCETrainer, made, made.test) == expected


def test_no_score_matrix_is_made(ml_100k: Prepare, largest_tensor: Any) -> None:
    made = ml_100k(metrics=METRICS, eval_memory_mb=1, eval_batch_size=4096)
    with largest_tensor() as largest:
        evaluated(Trainer, made, made.test)
    assert largest.n_bytes >= 943 * 1683 * 4
    with largest_tensor() as largest:
        evaluated(SCETrainer, made, made.test)
    assert largest.n_bytes <= 2**20


def test_a_model_with_scores_of_its_own_is_evaluated_as_recbole_does(
    ml_100k: Prepare, caplog: pytest.LogCaptureFixture
) -> None:
    class Shifted(SASRecSCE):
        def full_sort_predict(self, interaction: Any) -> torch.Tensor:
            return super().full_sort_predict(interaction) + torch.arange(float(self.n_items))

    made = ml_100k(metrics=METRICS)
    made.model.__class__ = Shifted
    assert_equal_to_recboles(made, made.test)
    assert "Shifted defines full_sort_predict" in caplog.text
    made = ml_100k(exclude_seen=True)
    made.model.__class__ = Shifted
    with pytest.raises(ValueError, match="exclude_seen must be False with Shifted"):
        SCETrainer(made.config, made.model)


class TestExcludeSeen:
    @pytest.mark.parametrize("part", ["valid", "test"])
    def test_items_of_the_whole_history_leave_and_the_target_stays(self, ml_100k: Prepare, part: str) -> None:
        made = ml_100k(
            metrics=METRICS, exclude_seen=True, MAX_ITEM_LIST_LENGTH=5, user_inter_num_interval=FEW_USERS
        )
        data = getattr(made, part)
        dataset = data._dataset

        class ByHand(Trainer):
            """RecBole's trainer with the seen items' scores removed, user by user."""

            def _full_sort_batch_eval(self, batched_data: Any) -> Any:
                interaction, scores, users, items = super()._full_sort_batch_eval(batched_data)
                train = made.train._dataset
                for row, (user, target) in enumerate(zip(interaction["user_id"], items)):
                    log = dataset.log["item_id"]
                    # a user's first interaction is right before the target of the first training row
                    start = int(train.inter_feat["__position__"][train.inter_feat["user_id"] == user][0]) - 1
                    stop = int(dataset.inter_feat["__position__"][dataset.inter_feat["user_id"] == user][0])
                    seen = log[start:stop].long()
                    assert stop - start >= 5
                    scores[row, seen[seen != target]] = -np.inf
                return interaction, scores, users, items

        expected = evaluated(ByHand, made, data)
        assert evaluated(SCETrainer, made, data) == pytest.approx(expected, abs=1e-6)
        plain = ml_100k(metrics=METRICS, MAX_ITEM_LIST_LENGTH=5, user_inter_num_interval=FEW_USERS)
        assert evaluated(SCETrainer, plain, getattr(plain, part))["gauc"] != pytest.approx(expected["gauc"])

    def test_sampled_candidates_are_refused(self, ml_100k: Prepare) -> None:
        with pytest.raises(
            SettingsError, match=r"exclude_seen must be False with eval_args mode uni100, got True"
        ):
            ml_100k(
                exclude_seen=True,
                eval_args={"mode": "uni100", "order": "TO", "split": {"LS": "valid_and_test"}},
            )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eval_memory_mb", 0),
        ("eval_memory_mb", "all"),
        ("exclude_seen", "yes"),
        ("sparse_item_updates", "yes"),
    ],
)
def test_impossible_settings_are_named(ml_100k: Prepare, key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"{key} must be .*, got {value!r}"):
        Config("SASRecSCE", "ml-100k", config_dict={key: value, "train_neg_sample_args": None})


@pytest.mark.parametrize(("sparse", "chosen"), [(False, "CE"), (True, "SCE")])
def test_the_loss_that_auto_chose_is_logged(
    ml_100k: Prepare, caplog: pytest.LogCaptureFixture, sparse: bool, chosen: str
) -> None:
    caplog.set_level("INFO")
    made = ml_100k(loss_type="auto", sparse_item_updates=sparse)
    assert f"loss_type: auto is {chosen} for 1,682 items" in caplog.text
    assert made.model.loss_type == chosen
    assert made.config["loss_type"] == "auto"


class TestCoverage:
    def test_is_logged_with_the_loss(
        self, tiny_dataset: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        scalars = self.fit(tiny_dataset, caplog, loss_type="SCE", bucket_alpha=0.3)
        assert 0 < scalars["Coverage/Train"] < 1
        assert f"coverage: {scalars['Coverage/Train']:.4f}]" in caplog.text

    def test_is_left_out_where_there_are_no_buckets(
        self, tiny_dataset: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        scalars = self.fit(tiny_dataset, caplog, loss_type="CE-")
        assert "Loss/Train" in scalars
        assert "Coverage/Train" not in scalars
        assert "train loss" in caplog.text
        assert "coverage" not in caplog.text

    def fit(
        self, tiny_dataset: dict[str, Any], caplog: pytest.LogCaptureFixture, **settings: Any
    ) -> dict[str, float]:
        from recbole.data import create_dataset, data_preparation

        config = Config(
            "SASRecSCE", "tiny", config_dict={**tiny_dataset, "train_neg_sample_args": None, **settings}
        )
        train, _, _ = data_preparation(config, create_dataset(config))
        trainer = SCETrainer(config, SASRecSCE(config, train._dataset))
        scalars: dict[str, float] = {}
        trainer.tensorboard.add_scalar = lambda tag, value, step: scalars.update({tag: value})
        with caplog.at_level("INFO"):
            trainer.fit(train, saved=False)
        return scalars
