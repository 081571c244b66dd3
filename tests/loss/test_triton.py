"""The kernels beside the PyTorch operations that they replace, in Triton's interpreter or on a GPU."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import Tensor

from recbole_sce.loss import (
    Buckets,
    Histories,
    ItemSample,
    ScalableCrossEntropyLoss,
    sample_items,
    scalable_cross_entropy,
)
from recbole_sce.loss.ops import memory
from recbole_sce.loss.ops.kernels import LEAST_CAPABILITY, SWITCH, kernels_for
from recbole_sce.loss.sce import search

pytest.importorskip("triton", reason="the kernels need triton, which is not installed (make test-triton)")
import triton

from recbole_sce.loss.ops import triton_kernels

#: What older compilers keep in registers for capability 8.0.
SPILLS_OF_8_0 = pytest.mark.skipif(
    Version(triton.__version__) < Version("3.9"), reason="Triton spills there from 3.9 on"
)

DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def best(queries: Tensor, table: Tensor, k: int, excluded: tuple[int, ...] = ()) -> Tensor:
    """Return what a search must find, (Q, k) ascending."""
    scores = queries.double() @ table.to(queries.dtype).double().T
    scores[:, list(excluded)] = -torch.inf
    return scores.topk(k).indices.sort(1).values


def found(*arguments: Any) -> Tensor:
    return search.top_rows(*arguments).sort(1).values


def spied(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Return a list that grows by the name of each of these functions of the kernels when it is called."""
    called: list[str] = []
    for name in names:
        function = getattr(triton_kernels, name)

        def recording(*arguments: Any, name: str = name, function: Any = function) -> Any:
            called.append(name)
            return function(*arguments)

        monkeypatch.setattr(triton_kernels, name, recording)
    return called


def spilled(capability: int, dtype: str, folder: Path) -> dict[str, int]:
    """Return the bytes that a thread of each kernel spills, as compiled for a GPU."""
    script = Path(__file__).with_name("compile_kernels.py")
    done = subprocess.run(
        [sys.executable, str(script), str(capability), dtype],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return {name: int(n_bytes) for name, n_bytes in lines}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [(86, "float32"), (86, "float16"), (89, "bfloat16"), (90, "float32"), (90, "bfloat16"), (120, "float32")],
)
def test_all_kernels_compile_and_keep_to_registers(capability: int, dtype: str, tmp_path: Path) -> None:
    n_bytes = spilled(capability, dtype, tmp_path)
    assert set(n_bytes) == {name for name in vars(triton_kernels) if name.endswith("_kernel")}
    assert max(n_bytes.values()) <= 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        (75, "float16"),
        *(pytest.param(80, dtype, marks=SPILLS_OF_8_0) for dtype in ("float32", "bfloat16")),
    ],
)
def test_what_is_refused_spills(capability: int, dtype: str, tmp_path: Path) -> None:
    assert divmod(capability, 10) < LEAST_CAPABILITY
    assert max(spilled(capability, dtype, tmp_path).values()) > 128


# The search.


@pytest.mark.parametrize(
    ("n_queries", "n_rows", "width", "k", "chunk"),
    [
        (7, 1201, 16, 20, None),
        (7, 1201, 16, 20, 100),  # chunks of whole blocks, merged
        (64, 256, 64, 3, None),  # nothing to mask
        (65, 33, 70, 31, None),  # one more than a tile of queries, rows, columns; all that is allowed
        (3, 500, 1, 1, 32),
        (2, 90, 5, 88, 40),  # more rows than blocks
    ],
)
def test_the_search_finds_the_best(
    n_queries: int, n_rows: int, width: int, k: int, chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = spied(monkeypatch, "top_rows")
    queries, table = randn(n_queries, width), randn(n_rows, width, seed=1)
    excluded = (0, 32) if n_rows > 32 else ()
    assert torch.equal(found(queries, table, k, excluded, chunk), best(queries, table, k, excluded))
    assert called == ["top_rows"]


def test_the_search_ends_at_the_last_row() -> None:
    # What lies in memory behind a chunk, or behind the table, is larger than everything in it.
    memory_behind = randn(300, 8)
    memory_behind[100:] *= 1000
    queries = randn(4, 8, seed=1)
    assert torch.equal(found(queries, memory_behind[:100], 1), best(queries, memory_behind[:100], 1))


@pytest.mark.parametrize("order", [1, -1])
def test_a_sorted_table_is_no_trap(order: int) -> None:
    table = order * torch.linspace(-1, 1, 700, device=DEVICE).unsqueeze(1) * torch.ones(1, 4, device=DEVICE)
    queries = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 0.0, 0.0]], device=DEVICE)
    assert torch.equal(found(queries, table, 8, (), 128), best(queries, table, 8))


def test_equal_scores_are_filled_with_different_rows() -> None:
    rows = found(torch.zeros(3, 4, device=DEVICE), torch.ones(300, 4, device=DEVICE), 50, (5,), 64)
    assert all(len(set(row)) == 50 and 5 not in row for row in rows.tolist())
    assert 0 <= int(rows.min()) <= int(rows.max()) < 300


def test_excluded_rows_never_win() -> None:
    queries, table = randn(7, 16), randn(400, 16, seed=1)
    table[[0, 70, 399]] = 1000 * queries[0]
    rows = found(queries, table, 4, (0, 70, 399), 128)
    assert torch.equal(rows, best(queries, table, 4, (0, 70, 399)))


def test_rows_that_are_no_numbers_are_found_before_excluded_ones() -> None:
    queries, table = randn(2, 16), randn(40, 16, seed=1)
    table[7] = torch.nan
    assert 7 not in found(queries, table, 38, (0,))
    assert torch.equal(found(queries, table, 39, (0,)), torch.arange(1, 40, device=DEVICE).expand(2, 39))
    rows = found(torch.full((2, 16), torch.nan, device=DEVICE), table, 39, (0,))
    assert torch.equal(rows, torch.arange(1, 40, device=DEVICE).expand(2, 39))


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("table_dtype", [torch.float32, torch.bfloat16])
def test_the_search_sums_in_float32(dtype: torch.dtype, table_dtype: torch.dtype) -> None:
    queries, table = randn(7, 16).to(dtype), randn(800, 16, seed=1).to(table_dtype)
    assert torch.equal(found(queries, table, 5), best(queries, table, 5))


def test_the_search_takes_any_strides() -> None:
    queries, table = randn(16, 7).T, randn(32, 300, seed=1).T[:, ::2]
    assert torch.equal(found(queries, table, 3), best(queries, table, 3))


def test_scores_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    # The maxima of a chunk fit into a workspace, whatever the number of rows.
    queries, table = randn(4, 8), randn(2000, 8, seed=1)
    monkeypatch.setattr(memory, "_CPU_WORKSPACE", 4 * 4 * 10)
    monkeypatch.setattr(memory, "_DEVICE_WORKSPACE", 4 * 4 * 10)
    sizes = []
    maxima = triton_kernels._block_maxima

    def recording(*arguments: Any) -> Tensor:
        sizes.append(maxima(*arguments).shape)
        return maxima(*arguments)

    monkeypatch.setattr(triton_kernels, "_block_maxima", recording)
    assert torch.equal(found(queries, table, 15), best(queries, table, 15))
    assert sizes == [(4, 10)] * 6 + [(4, 3)]


# The bucket loss.


def make(
    n: int, c: int, d: int, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden (n, d), item embeddings (c, d), both leaves, and targets (n,) other than 0."""
    hidden, items = (scale * randn(n, d)).to(dtype), (scale * randn(c, d, seed=1)).to(dtype)
    targets = torch.randint(1, c, (n,), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    return hidden.requires_grad_(), items.requires_grad_(), targets


def random_buckets(n: int, c: int, n_b: int, b_x: int, b_y: int) -> Buckets:
    """Return buckets that follow no scores at all."""
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randperm(n, generator=generator)[:b_x] for _ in range(n_b)]
    items = [torch.randperm(c, generator=generator)[:b_y] for _ in range(n_b)]
    return Buckets(torch.stack(rows).to(DEVICE), torch.stack(items).to(DEVICE))


def step(
    hidden: Tensor,
    items: Tensor,
    targets: Tensor,
    buckets: Buckets,
    sample: ItemSample | None = None,
    histories: Histories | None = None,
) -> list[Tensor]:
    """Return the loss and the gradients of those inputs that want one."""
    loss = scalable_cross_entropy(hidden, items, targets, buckets, sample, histories)
    inputs = [tensor for tensor in (hidden, items) if tensor.requires_grad]
    return [loss.detach(), *torch.autograd.grad(1.5 * loss, inputs)]


def both(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return what the kernels give, and what PyTorch operations give in float64."""
    called = spied(monkeypatch, "bucket_totals", "add_gradients")
    ours = step(*arguments)
    assert called == ["bucket_totals", "add_gradients"]
    hidden, items, *rest = arguments
    wide = [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in (hidden, items)]
    theirs = step(*wide, *rest)
    assert called == ["bucket_totals", "add_gradients"]
    return ours, theirs


def assert_agree(ours: list[Tensor], theirs: list[Tensor], rtol: float) -> None:
    """Compare, relative to the largest entry."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert one.shape == other.shape
        assert float((one.double() - other).abs().max()) <= rtol * float(other.abs().max())


@pytest.mark.parametrize(
    ("n", "c", "d", "n_b", "b_x", "b_y"),
    [
        (24, 40, 6, 5, 9, 12),
        (128, 200, 64, 2, 64, 64),  # nothing to mask
        (150, 200, 70, 3, 65, 130),  # one more than a tile of states, items, columns
        (24, 40, 1, 1, 24, 1),
        (24, 40, 16, 7, 1, 40),
    ],
)
def test_values_and_gradients_are_those_of_pytorch(
    n: int, c: int, d: int, n_b: int, b_x: int, b_y: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*make(n, c, d, scale=d**-0.25), random_buckets(n, c, n_b, b_x, b_y))
    assert_agree(*both(monkeypatch, *arguments), rtol=1e-5)


def test_a_sample_completes_what_the_kernels_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = random_buckets(24, 40, 3, 5, 12)
    assert len(buckets.rows.unique()) < 24  # some states are in no bucket
    sample = sample_items(40, 15, (0,), torch.Generator(DEVICE).manual_seed(4), torch.device(DEVICE))
    histories = Histories(torch.arange(1, 25).view(4, 6), torch.arange(24) // 6)
    assert_agree(*both(monkeypatch, *make(24, 40, 6), buckets, sample, histories), rtol=1e-5)


def test_equal_targets_in_and_out_of_their_buckets_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, items, _ = make(20, 12, 4)
    targets = torch.arange(20, device=DEVICE) % 2 + 5
    assert_agree(*both(monkeypatch, hidden, items, targets, random_buckets(20, 12, 4, 12, 5)), rtol=1e-5)


def test_large_logits_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*make(20, 200, 6, scale=60.0), random_buckets(20, 200, 4, 9, 100))
    ours, theirs = both(monkeypatch, *arguments)
    assert float(theirs[0]) > 1000
    assert_agree(ours, theirs, rtol=5e-3)  # rounding of logits beyond 10^4


def test_a_state_that_is_no_number_is_seen_and_stays_alone() -> None:
    hidden, items, targets = make(20, 30, 6)
    with torch.no_grad():
        hidden[3] = torch.nan
    with torch.autograd.set_detect_anomaly(False):
        loss, grad_hidden, _ = step(hidden, items, targets, random_buckets(20, 30, 1, 20, 9))
    assert math.isnan(float(loss))
    assert grad_hidden.isnan().any(1).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("half_items", [True, False])
def test_half_precision_sums_in_float32(
    dtype: torch.dtype, half_items: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, items, targets = make(40, 60, 16, dtype)
    if not half_items:
        items = randn(60, 16, seed=1).requires_grad_()
    ours, theirs = both(monkeypatch, hidden, items, targets, random_buckets(40, 60, 8, 16, 32))
    assert ours[0].dtype == torch.float32
    assert [tensor.dtype for tensor in ours[1:]] == [hidden.dtype, items.dtype]
    assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=1e-5)
    assert_agree(ours[1:], theirs[1:], rtol=torch.finfo(dtype).eps)  # rounded once


def test_inputs_need_not_be_contiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, items, targets = make(20, 30, 6)
    columns = [x.detach().T.contiguous().T.requires_grad_() for x in (hidden, items)]
    crossed = Buckets(*(part.T.contiguous().T for part in random_buckets(20, 30, 4, 9, 9)))
    strided = torch.stack([targets, targets], 1)[:, 0]
    assert_agree(*both(monkeypatch, *columns, strided, crossed), rtol=1e-5)


@pytest.mark.parametrize("frozen", [0, 1])
def test_nothing_is_computed_for_a_frozen_input(frozen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = list(make(20, 30, 6))
    inputs[frozen] = inputs[frozen].detach()
    unwanted = ("_grad_hidden_kernel", "_grad_items_kernel")[frozen]
    monkeypatch.setattr(triton_kernels, unwanted, None)
    assert_agree(*both(monkeypatch, *inputs, random_buckets(20, 30, 4, 9, 9)), rtol=1e-5)


def test_empty_buckets_give_what_pytorch_gives() -> None:
    hidden, items, targets = make(5, 7, 3)
    nothing = torch.empty(2, 0, dtype=torch.int64, device=DEVICE)
    some = torch.tensor([[0, 1], [2, 3]], device=DEVICE)
    for buckets in (Buckets(nothing, some), Buckets(some, nothing)):
        for one in step(hidden, items, targets, buckets):
            assert float(one.abs().max()) < 1e-6


def test_sparse_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, items, targets = make(60, 90, 8)
    loss_fn = ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=20)
    grads = []
    for loss_fn.sparse_grad in (True, False):
        generator = torch.Generator(DEVICE).manual_seed(0)
        grads += torch.autograd.grad(loss_fn(hidden, items, targets, generator), items)
    assert grads[0].is_sparse
    assert_agree([grads[0].to_dense()], [grads[1].double()], rtol=1e-5)


# The switch.


def test_without_the_switch_pytorch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    called = spied(monkeypatch, "top_rows", "bucket_totals", "add_gradients")
    hidden, items, targets = make(20, 30, 6)
    for value in ("0", None):
        monkeypatch.setenv(SWITCH, value) if value else monkeypatch.delenv(SWITCH)
        ScalableCrossEntropyLoss(complete_softmax=False)(hidden, items, targets).backward()
    assert called == []


def test_processors_and_float64_keep_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_for(torch.empty(1, device=DEVICE)) is triton_kernels
    assert kernels_for(torch.empty(1, device=DEVICE, dtype=torch.float64)) is None
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert kernels_for(torch.empty(1)) is None


def test_where_order_matters_pytorch_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    called = spied(monkeypatch, "bucket_totals", "add_gradients")
    torch.use_deterministic_algorithms(True)
    try:
        scalable_cross_entropy(*make(20, 30, 6), random_buckets(20, 30, 4, 9, 9)).backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert called == ["bucket_totals"]


@pytest.mark.parametrize(("setting", "expected"), [("highest", "ieee"), ("high", "tf32"), ("medium", "tf32")])
def test_float32_is_multiplied_as_torch_is_set(setting: str, expected: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        assert triton_kernels._precision() == expected
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="a setting of newer releases of torch"
)
@pytest.mark.parametrize("setting", ["ieee", "tf32"])
def test_the_newer_setting_of_precision_is_read(setting: str) -> None:
    # In a process of its own: once it is written, the older setting cannot be read.
    program = (
        f"import torch; torch.backends.cuda.matmul.fp32_precision = {setting!r}; "
        "from recbole_sce.loss.ops.triton_kernels import _precision; print(_precision())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.split()[-1:] == [setting], run.stderr[-2000:]
