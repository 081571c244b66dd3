"""The losses of the studies are what they claim to be."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import recbole_sce
from recbole_sce import ScalableCrossEntropyLoss

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

    def losses(self) -> dict[str, Callable[..., torch.Tensor]]:
        from completed_softmax import moments_loss, uniform_loss

        return {
            "uniform": partial(uniform_loss, n_uniform=128),
            "moments": partial(moments_loss, taylor=False),
            "taylor": partial(moments_loss, taylor=True),
        }

    @pytest.mark.parametrize("name", ["uniform", "moments", "taylor"])
    def test_buckets_of_all_items_are_exact(self, name: str) -> None:
        hidden, table, targets = self.tensors()
        torch.manual_seed(0)
        found = self.losses()[name](hidden, table, targets, b_y=299, alpha=20.0)
        assert found.item() == pytest.approx(
            cross_entropy(hidden @ table[1:].T, targets - 1).item(), rel=1e-5
        )

    @pytest.mark.parametrize("name", ["uniform", "moments", "taylor"])
    def test_the_rest_of_the_catalogue_is_estimated(self, name: str) -> None:
        hidden, table, targets = self.tensors()
        exact = cross_entropy(hidden @ table[1:].T, targets - 1).item()
        torch.manual_seed(0)
        loss_fn, partly = self.losses()[name], ScalableCrossEntropyLoss(bucket_size_y=32, alpha=4.0)
        completed = [loss_fn(hidden, table, targets, b_y=32, alpha=4.0).item() for _ in range(20)]
        sce = [partly(hidden, table, targets).item() for _ in range(20)]
        assert abs(sum(completed) / 20 - exact) < 0.2 * abs(sum(sce) / 20 - exact)


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
