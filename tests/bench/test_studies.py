"""The losses of the studies are what they claim to be."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
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

    def test_buckets_of_all_items_are_exact(self) -> None:
        from completed_softmax import completed_loss

        hidden, table, targets = self.tensors()
        torch.manual_seed(0)
        found = completed_loss(hidden, table, targets, b_y=299, n_uniform=16, alpha=20.0)
        assert found.item() == pytest.approx(
            cross_entropy(hidden @ table[1:].T, targets - 1).item(), rel=1e-5
        )

    def test_the_rest_of_the_catalogue_is_estimated(self) -> None:
        from completed_softmax import completed_loss

        hidden, table, targets = self.tensors()
        exact = cross_entropy(hidden @ table[1:].T, targets - 1).item()
        torch.manual_seed(0)
        completed = [completed_loss(hidden, table, targets, 32, 128, 4.0).item() for _ in range(20)]
        sce = [
            ScalableCrossEntropyLoss(bucket_size_y=32, alpha=4.0)(hidden, table, targets).item()
            for _ in range(20)
        ]
        assert abs(sum(completed) / 20 - exact) < 0.2 * abs(sum(sce) / 20 - exact)


def test_every_study_can_be_imported() -> None:
    names = sorted(path.stem for path in STUDIES.glob("*.py"))
    assert names
    for name in names:
        importlib.import_module(name)
