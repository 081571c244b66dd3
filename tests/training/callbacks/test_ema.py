"""The moving average of the weights: what it is, and what a run validates, keeps and goes on with."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from factory import SMALL, prepare_trainer
from torch import nn

from recbole_sce.compat import safe_load
from recbole_sce.training.callbacks import ema as averaging
from recbole_sce.training.callbacks.ema import WeightAverage
from recbole_sce.training.callbacks.last_state import last_path
from recbole_sce.training.row_adam import RowAdam


def walk(parameter: nn.Parameter, average: WeightAverage, steps: int) -> list[torch.Tensor]:
    """Take random steps; return the weights after each."""
    generator, path = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        average.update()
        path.append(parameter.detach().double().clone())
    return path


class TestWeightAverage:
    @pytest.mark.parametrize("steps", [1, 2, 9, 95, 1000, 1009, 1234])
    @pytest.mark.parametrize("decay", [0.9, 0.999])
    def test_is_that_of_its_definition(self, steps: int, decay: float) -> None:
        parameter = nn.Parameter(torch.zeros(3, 2))
        average = WeightAverage([parameter], decay)
        path = walk(parameter, average, steps)
        expected, updated = path[0], 1
        for step in (*range(2, 1001), *range(1010, 1231, 10)):
            if step <= steps:
                kept = min(decay, (1 + step) / (10 + step)) ** (step - updated)
                expected, updated = kept * expected + (1 - kept) * path[step - 1], step
        with average.in_place():
            torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-4, atol=1e-4)

    def test_is_nearer_to_where_a_noisy_path_stays(self) -> None:
        parameter = nn.Parameter(torch.zeros(1000))
        average, generator = WeightAverage([parameter], 0.99), torch.Generator().manual_seed(0)
        for _ in range(1000):
            with torch.no_grad():
                parameter.mul_(0.9).add_(torch.randn(1000, generator=generator))
            average.update()
        last = parameter.detach().square().mean()
        with average.in_place():
            assert parameter.detach().square().mean() < 0.2 * last

    def test_of_rows_that_steps_seldom_touch_is_that_of_each_step(self) -> None:
        start = torch.randn(30, 2, dtype=torch.float64)
        table, bias = nn.Parameter(start.clone()), nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = RowAdam([table, bias], lr=0.1, betas=(0.0, 0.98))  # no move after the step itself
        average, expected = WeightAverage([table, bias], 0.99, table), None
        with average.following(optimizer):
            for step in range(1, 201):
                rows = torch.randperm(30)[:3]
                table.grad = torch.sparse_coo_tensor(
                    rows.unsqueeze(0), torch.randn(3, 2, dtype=torch.float64), table.shape
                )
                bias.grad = torch.ones_like(bias)
                optimizer.step()
                kept = min(0.99, (1 + step) / (10 + step))
                now = table.detach().clone()
                expected = now if expected is None else kept * expected + (1 - kept) * now
        resumed = WeightAverage([table, bias], 0.99, table)
        resumed.load_state_dict(average.state_dict())
        for each in (average, resumed):
            with each.in_place():
                assert torch.allclose(table, expected, rtol=0, atol=1e-12)
                assert not torch.allclose(table, now, rtol=0, atol=1e-3)
            assert torch.equal(table, now)

    def test_of_rows_that_wait_does_not_go_on_without_row_updates(self) -> None:
        table = nn.Parameter(torch.zeros(5, 2))
        average = WeightAverage([table], 0.9, table)
        average.update()
        with pytest.raises(ValueError, match="sparse_item_updates must be True"):
            WeightAverage([table], 0.9).load_state_dict(average.state_dict())

    def test_of_rows_goes_on_from_a_state_of_before_they_were_caught_up(self) -> None:
        table = nn.Parameter(torch.zeros(5, 2))
        average = WeightAverage([table], 0.9, table)
        average.load_state_dict({"steps": 50, "updated": 50, "means": [torch.ones(5, 2)]})
        for _ in range(3):
            average.update()
        with average.in_place():
            torch.testing.assert_close(table.detach(), torch.full((5, 2), (52 / 61) * (53 / 62) * (54 / 63)))

    def test_of_a_table_whose_gradient_is_dense_after_all_is_that_of_each_step(self) -> None:
        averages = []
        for table in (nn.Parameter(torch.zeros(5, 2)), nn.Parameter(torch.zeros(5, 2))):
            optimizer = RowAdam([table], lr=0.1)
            average = WeightAverage([table], 0.9, None if averages else table)
            with average.following(optimizer):
                for step in range(20):
                    table.grad = torch.full_like(table, (-1.0) ** step)
                    optimizer.step()
            with average.in_place():
                averages.append(table.detach().clone())
        torch.testing.assert_close(*averages)

    @pytest.mark.parametrize("shape", [(), (5,), (7, 2), (2, 7)])
    def test_is_exchanged_in_parts_and_back(
        self, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(averaging, "_NUMBERS_AT_ONCE", 3)
        parameter = nn.Parameter(torch.zeros(shape))
        average = WeightAverage([parameter], 0.99)
        path = walk(parameter, average, 5)
        (mean,) = (each.clone() for each in average.state_dict()["means"])
        at = parameter.data_ptr()
        for _ in range(2):
            with average.in_place():
                assert torch.equal(parameter.detach(), mean)
                assert not torch.equal(parameter.detach().double(), path[-1])
                assert parameter.data_ptr() == at
                with average.in_place():
                    assert torch.equal(parameter.detach(), mean)
                assert torch.equal(parameter.detach(), mean)
            assert torch.equal(parameter.detach().double(), path[-1])

    def test_follows_an_optimiser_for_as_long_as_it_is_told(self) -> None:
        parameter = nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        parameter.grad = torch.ones(2)
        average = WeightAverage([parameter], 0.99)
        with average.following(optimizer):
            optimizer.step()
            optimizer.step()
        optimizer.step()
        assert average.state_dict()["steps"] == 2

    def test_is_put_back_when_what_is_done_with_it_fails(self) -> None:
        parameter = nn.Parameter(torch.zeros(3))
        average = WeightAverage([parameter], 0.99)
        last = walk(parameter, average, 5)[-1]

        def fail() -> None:
            with average.in_place():
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert torch.equal(parameter.detach().double(), last)

    def test_is_the_weights_themselves_before_the_first_step(self) -> None:
        parameter = nn.Parameter(torch.ones(2))
        average = WeightAverage([parameter], 0.99)
        assert average.state_dict()["steps"] == 0
        assert average.state_dict()["means"] == []
        with average.in_place():
            assert parameter.tolist() == [1, 1]
        average.keep()
        assert parameter.tolist() == [1, 1]

    def test_leaves_out_what_is_not_trained(self) -> None:
        frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        average = WeightAverage([frozen, nn.Parameter(torch.ones(3))], 0.99)
        average.update()
        assert [len(mean) for mean in average.state_dict()["means"]] == [3]

    def test_is_kept_and_a_new_one_begins(self) -> None:
        parameter = nn.Parameter(torch.zeros(4))
        average = WeightAverage([parameter], 0.99)
        walk(parameter, average, 5)
        (mean,) = (each.clone() for each in average.state_dict()["means"])
        average.keep()
        assert torch.equal(parameter.detach(), mean)
        assert average.state_dict()["steps"] == 0
        assert average.state_dict()["means"] == []

    def test_goes_on_as_if_it_had_not_been_stored(self) -> None:
        whole, part = (nn.Parameter(torch.zeros(3)) for _ in range(2))
        of_whole, of_part = (WeightAverage([each], 0.9) for each in (whole, part))
        walk(whole, of_whole, 1025)
        walk(part, of_part, 1025)
        stored = of_part.state_dict()
        resumed = WeightAverage([part], 0.9)
        resumed.load_state_dict(stored)
        walk(whole, of_whole, 25)
        walk(part, resumed, 25)
        assert resumed.state_dict()["steps"] == of_whole.state_dict()["steps"] == 1050
        assert torch.equal(resumed.state_dict()["means"][0], of_whole.state_dict()["means"][0])

    def test_refuses_one_of_other_shapes(self) -> None:
        average = WeightAverage([nn.Parameter(torch.zeros(3))], 0.9)
        with pytest.raises(ValueError, match=r"of shapes \[\(2,\)\], the model of \[\(3,\)\]"):
            average.load_state_dict({"steps": 1, "updated": 1, "means": [torch.zeros(2)]})


class TestRuns:
    @pytest.fixture
    def trained(self, tiny_dataset: dict[str, Any]) -> Callable[..., SimpleNamespace]:
        """Return ``trained(**settings)`` -> a trainer that has trained, its loaders and validation scores."""

        def train(
            model: str = "SASRecSCE",
            callback: Callable[[SimpleNamespace, float], None] = lambda run, score: None,
            **settings: Any,
        ) -> SimpleNamespace:
            many_steps = {"epochs": 6, "learning_rate": 0.02, "train_batch_size": 3, "use_gpu": False}
            run = prepare_trainer(model, "tiny", {**tiny_dataset, **SMALL, **many_steps, **settings})
            run.steps_an_epoch, run.scores = len(run.train), []

            def validated(epoch: int, score: float) -> None:
                run.scores.append(score)
                callback(run, score)

            run.best = run.trainer.fit(run.train, run.valid, verbose=False, callback_fn=validated)
            return run

        return train

    @pytest.mark.parametrize("settings", [{}, {"sparse_item_updates": True}], ids=["dense", "rows"])
    def test_train_as_without_it(
        self, trained: Callable[..., SimpleNamespace], settings: dict[str, Any]
    ) -> None:
        averaged, plain = (
            trained(ema_decay=decay, checkpoint_dir=name, **settings)
            for name, decay in {"averaged": 0.99, "plain": None}.items()
        )
        weights, expected = (
            safe_load(last_path(run.trainer.saved_model_file))["state_dict"] for run in (averaged, plain)
        )
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert averaged.scores != plain.scores

    @pytest.mark.parametrize("settings", [{}, {"sparse_item_updates": True}], ids=["dense", "rows"])
    def test_average_over_each_step_once(
        self, trained: Callable[..., SimpleNamespace], settings: dict[str, Any]
    ) -> None:
        torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # from now on torch wraps the step of its class
        run = trained(ema_decay=0.99, train_batch_positions=None, **settings)
        steps = safe_load(last_path(run.trainer.saved_model_file))["training"]["average"]["steps"]
        assert steps == 6 * run.steps_an_epoch > 100

    def test_validate_and_keep_it(self, trained: Callable[..., SimpleNamespace]) -> None:
        run = trained(ema_decay=0.99, stopping_step=30)
        last = safe_load(last_path(run.trainer.saved_model_file))
        names = [name for name, _ in run.trainer.model.named_parameters()]
        means = dict(zip(names, last["training"]["average"]["means"]))
        assert any(not torch.equal(means[name], last["state_dict"][name]) for name in names)
        # What fit leaves is what the last epoch validated.
        assert all(torch.equal(each, means[name]) for name, each in run.trainer.model.named_parameters())
        result = run.trainer.evaluate(run.valid, load_best_model=False)
        assert result["ndcg@10"] == run.scores[-1]
        # The file of the best model has what scored best.
        result = run.trainer.evaluate(run.valid, load_best_model=True)
        assert result["ndcg@10"] == run.best[0] == max(run.scores)

    def test_show_it_to_the_callback(self, trained: Callable[..., SimpleNamespace]) -> None:
        seen = []

        def look(run: SimpleNamespace, score: float) -> None:
            seen.append((run.trainer.evaluate(run.valid, load_best_model=False)["ndcg@10"], score))

        trained(ema_decay=0.99, callback=look)
        assert len(seen) == 6
        assert all(evaluated == score for evaluated, score in seen)

    def test_save_it_from_the_callback(self, trained: Callable[..., SimpleNamespace]) -> None:
        def save(run: SimpleNamespace, score: float) -> None:
            run.trainer._save_checkpoint(0, verbose=False, saved_model_file="mine.pth")
            assert run.trainer._valid_epoch(run.valid)[0] == score

        run = trained(ema_decay=0.99, callback=save)
        kept = safe_load("mine.pth")["state_dict"]
        assert all(torch.equal(kept[name], each) for name, each in run.trainer.model.named_parameters())

    def test_that_validate_nothing_keep_it_too(self, trained: Callable[..., SimpleNamespace]) -> None:
        run = trained(ema_decay=0.99, eval_step=0)
        last = safe_load(last_path(run.trainer.saved_model_file))
        kept = safe_load(run.trainer.saved_model_file)["state_dict"]
        names = [name for name, _ in run.trainer.model.named_parameters()]
        means = last["training"]["average"]["means"]
        assert len(means) == len(names)
        assert all(torch.equal(kept[name], mean) for name, mean in zip(names, means))
        assert any(not torch.equal(last["state_dict"][name], kept[name]) for name in names)

    def test_of_a_recurrent_model(self, trained: Callable[..., SimpleNamespace]) -> None:
        run = trained("GRU4RecSCE", ema_decay=0.99)
        assert run.trainer.evaluate(run.valid)[run.config["valid_metric"].lower()] == max(run.scores)

    def test_with_sasrec_have_it_by_default_and_others_do_not(
        self, trained: Callable[..., SimpleNamespace]
    ) -> None:
        assert trained(epochs=1).trainer.average is not None
        assert trained("GRU4RecSCE", epochs=1).trainer.average is None
