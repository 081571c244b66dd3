from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recbole_sce.experiments import measure


class FakeTrainer:
    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)

    def _train_epoch(self, train_data: Any, epoch: int, show_progress: bool = False) -> Any:
        self.coverage = 0.5 + epoch / 10  # as SCETrainer notes it
        sum(number for number in range(20_000))
        return (1.0, 2.0) if epoch else 4.0

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> Any:
        score = next(self.scores)
        return score, {"mrr@10": score}

    def fit(self, epochs: int) -> None:
        for epoch in range(epochs):
            self._train_epoch(None, epoch, show_progress=False)
            self._valid_epoch(None)


class TestEpochRecorder:
    def test_keeps_each_epoch(self) -> None:
        trainer, entries = FakeTrainer([0.1, 0.3, 0.2]), []
        recorder = measure.EpochRecorder(trainer, entries.append)
        trainer.fit(3)
        assert [entry["epoch"] for entry in recorder.curve] == [1, 2, 3]
        assert [entry["score"] for entry in recorder.curve] == [0.1, 0.3, 0.2]
        assert [entry["train_loss"] for entry in recorder.curve] == [4.0, 3.0, 3.0]
        assert entries == recorder.curve
        seconds = [entry["training_seconds"] for entry in recorder.curve]
        assert 0 < seconds[0] < seconds[1] < seconds[2] == recorder.training_seconds
        cpu = [entry["training_cpu_seconds"] for entry in recorder.curve]
        assert 0 < cpu[0] <= cpu[1] <= cpu[2] == recorder.training_cpu_seconds
        assert [entry["coverage"] for entry in recorder.curve] == [0.5, 0.6, 0.7]

    @pytest.mark.parametrize(
        ("scores", "bigger", "best"), [([1, 3, 3, 2], True, 3), ([2, 1, 3], False, 2), ([0.0, -1.0], True, 1)]
    )
    def test_knows_the_best_as_recbole_does(self, scores: list[float], bigger: bool, best: int) -> None:
        from recbole.utils import early_stopping

        trainer = FakeTrainer(scores)
        recorder = measure.EpochRecorder(trainer)
        trainer.fit(len(scores))
        entry = recorder.best(bigger)
        assert entry is not None
        assert entry["epoch"] == best
        kept, so_far = 0, -np.inf if bigger else np.inf
        for epoch, score in enumerate(scores, 1):
            so_far, _, _, update = early_stopping(score, so_far, 0, max_step=10, bigger=bigger)
            kept = epoch if update else kept
        assert entry["epoch"] == kept

    def test_has_no_best_without_validation(self) -> None:
        assert measure.EpochRecorder(FakeTrainer([])).best(True) is None


def test_row_values_are_what_recbole_averages() -> None:
    from recbole.evaluator.collector import DataStruct
    from recbole.evaluator.metrics import MRR, NDCG

    config = {"topk": [1, 3], "metric_decimal_place": 8}
    data = DataStruct()
    # hits of three users among their first three items, and how many items each has: (3, 3 + 1)
    data.set("rec.topk", torch.tensor([[1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]))
    with measure.row_values() as values:
        result = {**NDCG(config).calculate_metric(data), **MRR(config).calculate_metric(data)}
    assert values["mrr@3"].tolist() == pytest.approx([1, 1 / 3, 0])
    assert values["ndcg@3"].tolist() == pytest.approx([1, 0.5, 0])
    assert set(values) == set(result)
    assert all(values[name].mean() == pytest.approx(result[name]) for name in result)
    NDCG(config).calculate_metric(data)
    assert len(values) == 4
    assert "topk_result" in vars(type(NDCG(config)).__mro__[1])


def test_a_user_with_several_rows_counts_once() -> None:
    means = measure.mean_by_user(np.asarray(["b", "a", "b"]), {"mrr@1": np.asarray([1.0, 0.25, 0.0])})
    assert means["users"].tolist() == ["a", "b"]
    assert means["mrr@1"].tolist() == [0.25, 0.5]


class _Batches(list):  # type: ignore[type-arg]
    """Evaluation data of RecBole, as far as it is looked at."""

    class dataset:
        uid_field = "user_id"

        @staticmethod
        def id2token(field: str, ids: Any) -> Any:
            return np.asarray(["[PAD]", "u1", "u2", "u3"])[ids]


@pytest.mark.parametrize(
    "second",
    [None, (torch.tensor([0]), torch.tensor([1])), torch.tensor([0, 0, 1])],
    ids=["seq", "gen", "uni"],
)
def test_users_of_rows(second: Any) -> None:
    users = torch.tensor([3, 3, 1]) if isinstance(second, torch.Tensor) else torch.tensor([3, 1])
    data = _Batches(
        [({"user_id": users}, second, None, None), ({"user_id": torch.tensor([2])}, None, None, None)]
    )
    assert measure.users_of_rows(data).tolist() == ["u3", "u1", "u2"]


def test_the_machine_is_told() -> None:
    machine = measure.machine()
    assert machine["torch"] == torch.__version__.split("+")[0] or machine["torch"] == torch.__version__
    assert machine["cores"] >= 1
    assert machine["recbole"] == "1.2.1"
