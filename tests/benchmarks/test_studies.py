"""The losses of the studies are what they claim to be."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import recbole_sce
from recbole_sce import Histories, ScalableCrossEntropyLoss, select_buckets
from recbole_sce.loss import LaterTargets
from recbole_sce.loss.sce.buckets import bucket_centers

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"


@pytest.fixture(autouse=True)
def _studies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the studies importable; their models are not registered, for other tests count the models."""
    monkeypatch.syspath_prepend(str(STUDIES))
    monkeypatch.setattr(recbole_sce, "register_model", lambda cls: cls)
    yield
    for path in STUDIES.glob("*.py"):
        sys.modules.pop(path.stem, None)


class TestCompletedSoftmax:
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        hidden = 0.3 * torch.randn(60, 8, generator=generator)  # a flat softmax, as trained models have
        return hidden, torch.randn(300, 8, generator=generator), torch.arange(1, 61)

    def histories(self) -> Histories:
        items = torch.randint(0, 300, (12, 7), generator=torch.Generator().manual_seed(1))
        return Histories(items, torch.arange(60) // 5)

    def losses(self) -> dict[str, Callable[..., torch.Tensor]]:
        from completed_softmax import moments_loss, sampled_loss

        return {
            "sampled": partial(sampled_loss, n_outside=128),
            "sampled, mean": partial(sampled_loss, n_outside=128, over_buckets="mean"),
            "sampled, near": partial(sampled_loss, n_outside=128, histories=self.histories()),
            "moments": partial(moments_loss, taylor=False),
            "taylor": partial(moments_loss, taylor=True),
        }

    @pytest.mark.parametrize("name", ["sampled", "sampled, mean", "sampled, near", "moments", "taylor"])
    def test_buckets_of_all_items_are_exact(self, name: str) -> None:
        hidden, table, targets = self.tensors()
        torch.manual_seed(0)
        loss = self.losses()[name](hidden, table, targets, b_y=299, alpha=20.0)
        assert loss.item() == pytest.approx(cross_entropy(hidden @ table[1:].T, targets - 1).item(), rel=1e-5)

    @pytest.mark.parametrize("name", ["sampled", "sampled, mean", "sampled, near", "moments", "taylor"])
    def test_the_rest_of_the_catalogue_is_estimated(self, name: str) -> None:
        hidden, table, targets = self.tensors()
        exact = cross_entropy(hidden @ table[1:].T, targets - 1).item()
        torch.manual_seed(0)
        loss_fn, partly = (
            self.losses()[name],
            ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=32, alpha=4.0),
        )
        completed = [loss_fn(hidden, table, targets, b_y=32, alpha=4.0).item() for _ in range(20)]
        sce = [partly(hidden, table, targets).item() for _ in range(20)]
        assert abs(sum(completed) / 20 - exact) < 0.2 * abs(sum(sce) / 20 - exact)

    def test_the_mean_over_buckets_is_another_loss(self) -> None:
        from completed_softmax import sampled_loss

        hidden, table, targets = self.tensors()
        losses = {}
        for over_buckets in ("largest", "mean"):
            torch.manual_seed(0)
            losses[over_buckets] = sampled_loss(hidden, table, targets, 20, 4.0, 40, over_buckets).item()
        assert losses["mean"] != pytest.approx(losses["largest"], rel=1e-4)
        assert losses["mean"] == pytest.approx(losses["largest"], rel=0.05)

    def test_the_sampled_one_is_the_package_s(self) -> None:
        from completed_softmax import sampled_loss

        hidden, table, targets = self.tensors()
        package = ScalableCrossEntropyLoss(bucket_size_y=20, complete_softmax=True, n_outside=40)
        for seed in range(5):
            torch.manual_seed(seed)
            sampled = sampled_loss(hidden, table, targets, 20, 2.0, 40, histories=self.histories()).item()
            torch.manual_seed(seed)
            expected = package(hidden, table, targets, histories=self.histories()).item()
            assert sampled == pytest.approx(expected, rel=1e-5)


class TestBucketChoice:
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return (
            torch.randn(25, 4, generator=generator),
            torch.randn(50, 4, generator=generator),
            torch.arange(25),
        )

    def test_the_package_s_own_choice_is_one_of_them(self) -> None:
        from bucket_choices import BucketChoice

        hidden, table, targets = self.tensors()
        torch.manual_seed(0)
        buckets = BucketChoice("mixtures", 1)(hidden, table, targets, b_y=7, alpha=2.0)
        torch.manual_seed(0)
        expected = select_buckets(hidden, table, bucket_centers(hidden, 10), 10, 7)
        assert torch.equal(buckets.rows, expected.rows)
        assert torch.equal(buckets.items, expected.items)

    def test_centres_are_hidden_states(self) -> None:
        from bucket_choices import BucketChoice

        hidden, table, _ = self.tensors()
        centers = BucketChoice("states", 1).draw(hidden, table[:25], 6)
        assert torch.isin(centers[:, 0], hidden[:, 0]).all()
        assert centers.shape == (6, 4)

    def test_centres_are_mixtures_of_targets(self) -> None:
        from bucket_choices import BucketChoice

        hidden, table, _ = self.tensors()
        table[:25, 2:] = 0  # what follows lies in a plane that hidden states leave
        assert (BucketChoice("targets", 1).draw(hidden, table[:25], 6)[:, 2:] == 0).all()
        assert (BucketChoice("mixtures", 1).draw(hidden, table[:25], 6)[:, 2:] != 0).any()

    def test_items_stay_for_as_many_steps_as_said_and_states_do_not(self) -> None:
        from bucket_choices import BucketChoice

        hidden, table, targets = self.tensors()
        choice = BucketChoice("mixtures", 2)
        torch.manual_seed(0)
        first, second, third = (
            choice(states, table, targets, 7, 2.0) for states in (hidden, -hidden, -hidden)
        )
        assert torch.equal(first.items, second.items)
        assert not torch.equal(first.rows, second.rows)
        assert not torch.equal(second.items, third.items)

    def test_unknown_centres_are_refused(self) -> None:
        from bucket_choices import BucketChoice

        with pytest.raises(ValueError, match="got 'items'"):
            BucketChoice("items", 1)


class TestTargetWeights:
    TARGETS = torch.tensor([[3, 4, 5, 6], [7, 3, 0, 0]])

    def loss(self, ahead: list[float], *others: float, targets: torch.Tensor = TARGETS) -> float:
        from target_weights import weighted_loss

        hidden, table = self.tensors(int((targets != 0).sum()))
        return weighted_loss(hidden, table, targets, ahead, *others).item()

    def tensors(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(6, 4, generator=generator)[:n], torch.randn(9, 4, generator=generator)

    @pytest.mark.parametrize("discount", [0.1, 0.4])
    def test_discounted_weights_are_the_package_s(self, discount: float) -> None:
        hidden, table = self.tensors(6)
        own = cross_entropy(hidden @ table[1:].T, self.TARGETS[self.TARGETS != 0] - 1)
        owner = (self.TARGETS != 0).nonzero()[:, 0]
        expected = own + LaterTargets(discount)(hidden, table, self.TARGETS[self.TARGETS != 0], owner)
        weighted = self.loss([discount**k for k in range(4)], 0, 0, 0)
        assert weighted == pytest.approx(expected.item(), rel=1e-5)

    def test_smoothing_gives_to_all_items_alike(self) -> None:
        hidden, table = self.tensors(6)
        targets = self.TARGETS[self.TARGETS != 0] - 1
        expected = cross_entropy(hidden @ table[1:].T, targets, label_smoothing=0.1).item()
        assert self.loss([1], 0.1, 0, 0) == pytest.approx(expected, rel=1e-5)

    def test_older_states_and_long_rows_count_less(self) -> None:
        from target_weights import state_weights

        assert state_weights(self.TARGETS, 1, 0).tolist() == pytest.approx([0.2, 0.25, 0.5, 1, 0.5, 1])
        assert state_weights(self.TARGETS, 0, 0.5).tolist() == pytest.approx([0.5] * 4 + [0.5**0.5] * 2)
        assert state_weights(self.TARGETS, 0, 0).tolist() == [1] * 6


def test_the_last_row_of_each_user_is_left_out() -> None:
    from epochs import without_last

    rows = ["user\titem\ttime", "1\ta\t1", "1\tb\t2", "2\ta\t1", "3\tc\t1", "3\ta\t2", "3\tb\t3"]
    assert without_last("\n".join(rows)).splitlines() == [rows[0], rows[1], rows[4], rows[5]]


@pytest.mark.slow
def test_every_epoch_is_validated_and_tested(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    script = [sys.executable, str(STUDIES / "epochs.py"), "tiny", "--data-path", tiny_dataset["data_path"]]
    small = ["--epochs=2", "--eval_step=1", "--hidden_size=8", "--inner_size=8", "--n_layers=1"]
    done = subprocess.run([*script, *small], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in table] == ["| epoch", "| 1", "| 2"]


@pytest.mark.slow
def test_averages_are_shown_beside_the_last_step(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    script = [sys.executable, str(STUDIES / "averages.py"), "tiny", "--data-path", tiny_dataset["data_path"]]
    small = ["--epochs=2", "--eval_step=1", "--hidden_size=8", "--inner_size=8", "--n_layers=1"]
    command = [*script, "--decays", "1e-09", "0.99", *small, "--learning_rate=0.05", "--train_batch_size=8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert table[0] == ["epoch", "last step", "1e-09", "0.99"]
    assert [line[0] for line in table[1:]] == ["1", "2"]
    for _, last, nearly_last, average in table[1:]:
        assert last == nearly_last != average


def test_every_study_can_be_imported() -> None:
    names = sorted(path.stem for path in STUDIES.glob("*.py"))
    assert names
    for name in names:
        importlib.import_module(name)


def test_the_original_encoder_looks_at_no_later_item() -> None:
    from original_sasrec import _Block

    torch.manual_seed(0)
    block, states = _Block(8, 2, 0.0), torch.randn(1, 5, 8)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    changed = states.clone()
    changed[0, 3] += 1
    before, after = block(states, later), block(changed, later)
    assert torch.allclose(before[0, :3], after[0, :3])
    assert not torch.allclose(before[0, 3:], after[0, 3:], atol=1e-3)
