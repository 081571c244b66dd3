"""The losses on a simulated GPU: nothing mixes devices, values are the CPU's, and the host hardly waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from recbole_sce.loss import (
    BCELoss,
    CrossEntropyLoss,
    GBCELoss,
    Histories,
    ItemLoss,
    LaterTargetsLoss,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
)
from recbole_sce.loss import softmax as exact

simulated_cuda = pytest.importorskip("simulated_cuda", exc_type=ImportError)
SimulatedCuda = simulated_cuda.SimulatedCuda

N, C, D = 200, 3000, 16


class Case(NamedTuple):
    loss: Callable[[], ItemLoss]
    most_waits: int
    #: Whether it draws nothing on the device that the CPU would draw otherwise.
    exact: bool = False


SMALL: dict[str, Any] = {"bucket_size_y": 16, "n_outside": 64}
CASES = {
    "CE": Case(CrossEntropyLoss, 0, exact=True),
    "CE-": Case(lambda: SampledCrossEntropyLoss(16), 0, exact=True),
    "gBCE": Case(lambda: GBCELoss(16), 0, exact=True),
    "BCE": Case(lambda: BCELoss(16), 0, exact=True),
    "SCE (paper)": Case(lambda: ScalableCrossEntropyLoss(bucket_size_y=16, complete_softmax=False), 2),
    "SCE": Case(lambda: ScalableCrossEntropyLoss(**SMALL), 4),
    "SCE, large sample": Case(lambda: ScalableCrossEntropyLoss(bucket_size_y=16, n_outside=400), 4),
    "CE, later targets": Case(lambda: LaterTargetsLoss(CrossEntropyLoss(), 0.5), 1, exact=True),
}
SPARSE = [name for name, case in CASES.items() if case.loss().allows_sparse_grad]


def step(loss_fn: ItemLoss, cuda: Any = None, owner_on_cpu: bool = False) -> list[Tensor]:
    """Return the loss with its gradients; on a simulated device, whose counts then are of the loss alone."""
    device = "cpu" if cuda is None else "cuda"
    source = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=source).to(device).requires_grad_()
    table = torch.randn(C, D, generator=source).to(device).requires_grad_()
    targets = torch.randint(1, C, (N,), generator=source).to(device)
    items = torch.randint(-1, C, (N // 10, 12), generator=source).to(device)
    owner = (torch.arange(N) // 10).to("cpu" if owner_on_cpu else device)
    more: dict[str, Any] = {"generator": torch.Generator(device).manual_seed(1)}
    if loss_fn.needs_histories:
        more["histories"] = Histories(items, owner)
    if loss_fn.needs_owner:
        more["owner"] = owner
    if cuda is not None:
        cuda.syncs.clear()
        cuda.launches.clear()
    loss = loss_fn(hidden, table, targets, **more)
    loss.backward()
    assert hidden.grad is not None
    assert table.grad is not None
    return [loss.detach(), hidden.grad, table.grad]


@pytest.mark.parametrize("name", CASES)
def test_a_step_waits_no_more_than_it_must(name: str) -> None:
    case = CASES[name]
    expected = step(case.loss())
    with SimulatedCuda() as cuda:
        loss_fn = case.loss()
        results = step(loss_fn, cuda)
        assert all(each.device == torch.device("cuda", 0) for each in results)
        assert loss_fn.last_stats.n_states == N  # to read it costs no wait either
        assert len(cuda.syncs) <= case.most_waits, cuda.syncs
        results = [each.cpu() for each in results]
    if case.exact:
        for one, other in zip(results, expected):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_gradients_cost_one_wait_more(name: str) -> None:
    dense, sparse = CASES[name].loss(), CASES[name].loss()
    sparse.sparse_grad = True
    with SimulatedCuda() as cuda:
        expected = step(dense, cuda)
        results = step(sparse, cuda)
        assert results[2].is_sparse
        assert len(cuda.syncs) <= CASES[name].most_waits + 1, cuda.syncs
        torch.testing.assert_close(results[2].to_dense().cpu(), expected[2].cpu(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "most_waits"),
    [
        (lambda: ScalableCrossEntropyLoss(**SMALL), 3),
        (lambda: LaterTargetsLoss(CrossEntropyLoss(), 0.5), 0),
        (lambda: LaterTargetsLoss(ScalableCrossEntropyLoss(**SMALL), 0.5), 3),
    ],
)
def test_owners_on_the_cpu_are_not_waited_for(loss: Callable[[], ItemLoss], most_waits: int) -> None:
    with SimulatedCuda() as cuda:
        expected = step(loss(), cuda)
        results = step(loss(), cuda, owner_on_cpu=True)
        assert len(cuda.syncs) <= most_waits, cuda.syncs
        assert all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(results, expected))


def test_a_generator_of_the_cpu_is_refused() -> None:
    with SimulatedCuda(), pytest.raises(simulated_cuda.DeviceMismatch, match="generator"):
        ScalableCrossEntropyLoss(**SMALL)(
            torch.randn(N, D, device="cuda"),
            torch.randn(C, D, device="cuda"),
            torch.ones(N, dtype=torch.int64, device="cuda"),
            generator=torch.Generator(),
        )


def test_more_tiles_are_no_more_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "tile_bytes", lambda device: 4 * N * 100)
    with SimulatedCuda() as cuda:
        step(CrossEntropyLoss(), cuda)
        assert not cuda.syncs


def launches(tiles: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the launches of a step of exact cross-entropy over so many tiles."""
    monkeypatch.setattr(exact, "tile_bytes", lambda device: 4 * N * (C // tiles))
    with SimulatedCuda() as cuda:
        step(CrossEntropyLoss(), cuda)
        return sum(cuda.launches.values())


def test_exact_cross_entropy_of_a_million_items_takes_a_thousand_launches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = launches(10, monkeypatch), launches(20, monkeypatch)
    of_tile = (many - few) / 10
    monkeypatch.undo()
    with SimulatedCuda(memory_bytes=80 * 2**30):
        hidden = torch.empty(12_800, 64, device="cuda")
        table = torch.empty(10**6, 64, device="cuda")  # never read: the products are left out
        monkeypatch.setattr(torch, "mm", lambda *_, out: out)
        n_tiles = sum(len(list(tiles)) for _, _, tiles in exact._item_chunks(hidden, table, [0]))
    assert few - 10 * of_tile + n_tiles * of_tile <= 1000
