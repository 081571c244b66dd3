"""Seconds and peak memory of a training step of each loss, each measured in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.nn import functional

from recbole_sce.loss import CrossEntropyLoss, Histories, SampledCrossEntropyLoss, ScalableCrossEntropyLoss
from recbole_sce.loss.ops.kernels import SWITCH
from recbole_sce.utils.memory import WorkMemory, can_measure

#: (N, C) of the default table: the catalogue grows at a fixed batch, the batch at a fixed catalogue.
DEFAULT_CASES = ("2048x1e4", "2048x1e5", "2048x1e6", "2048x1e7", "12800x1e5", "51200x1e5")
#: Losses whose work is N x C are left out where that is more.
DEFAULT_MAX_LOGITS = 5e8
DTYPES = ("float32", "float64", "bfloat16", "float16")
#: States per history, of the completed loss: as many as RecBole's default MAX_ITEM_LIST_LENGTH.
_HISTORY = 50
#: The name of the loss beside which others are put.
EXACT = "CE"

#: What measures one case in a fresh process, which needs neither RecBole nor the plugin.
PROGRAM = """
import sys, recbole_sce_command
recbole_sce_command.bare_package()
from recbole_sce.cli.loss_steps import main
main(sys.argv[1])
"""

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Contender:
    """One loss of the table.

    Attributes:
        name: the loss and who computes it.
        build: makes the loss from the items per bucket, which is also the number of sampled negatives.
        dense: whether its work is N x C.
        holds_logits: whether it holds (N, C) numbers, several times.
        available: whether it can run on a device.
        kernels: whether the Triton kernels are switched on in its process.
    """

    name: str
    build: Callable[[int], LossFunction]
    dense: bool = False
    holds_logits: bool = False
    available: Callable[[torch.device], bool] = lambda device: True
    kernels: bool = False


def _sce(b_y: int) -> LossFunction:
    """Return the loss of ``loss_type: SCE``; each ``_HISTORY`` states are those of one history."""

    def loss(hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
        loss_fn = ScalableCrossEntropyLoss(bucket_size_y=b_y)
        items = functional.pad(targets, (0, -len(targets) % _HISTORY), value=-1).view(-1, _HISTORY)
        owner = torch.arange(len(targets), device=targets.device) // _HISTORY
        value: Tensor = loss_fn(hidden, item_embeddings, targets, histories=Histories(items, owner))
        return value

    return loss


CONTENDERS = (
    Contender("SCE", _sce),
    Contender("SCE (paper)", lambda b_y: ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=b_y)),
    Contender("CE-", lambda b_y: SampledCrossEntropyLoss(n_negatives=b_y)),
    Contender(EXACT, lambda b_y: CrossEntropyLoss(), dense=True),
    Contender(
        "CE, F.cross_entropy",
        lambda b_y: lambda h, w, y: functional.cross_entropy(h @ w.T, y),
        dense=True,
        holds_logits=True,
    ),
)


@dataclass(frozen=True)
class Case:
    """What one fresh process measures."""

    loss: str = ""
    states: int = 0
    items: int = 0
    width: int = 64
    bucket_size_y: int = 256
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    repeats: int = 5


@dataclass(frozen=True)
class Measurement:
    """Median and extremes in seconds, memory in MiB (None where it cannot be measured), and the loss.

    ``seconds`` are of the clock, ``processor_seconds`` the median of all threads of the process.
    """

    seconds: float
    fastest: float
    slowest: float
    processor_seconds: float
    extra_mib: float | None
    gradients_mib: float | None
    value: float


Row = tuple[Case, Measurement | None]


def parse_size(text: str) -> tuple[int, int]:
    """Read ``A x B`` such as ``2048x1e6``.

    Raises:
        ValueError: ``text`` is not of that form, A is less than 1 or B less than 2.
    """
    first, _, second = text.lower().partition("x")
    try:
        sizes = int(float(first)), int(float(second))
    except (ValueError, OverflowError):
        sizes = (0, 0)
    if sizes[0] < 1 or sizes[1] < 2:
        raise ValueError(f"must be two numbers such as 2048x1e6, got {text!r}")
    return sizes


def measure(case: Case, contenders: Sequence[Contender] = CONTENDERS) -> Measurement:
    """Measure one loss in this process: a step that warms up, one for memory, and several for time."""
    torch.set_num_threads(case.threads)
    torch.autograd.set_detect_anomaly(False)  # importing RecBole may have turned it on
    torch.manual_seed(0)
    device, dtype = torch.device(case.device), getattr(torch, case.dtype)
    loss_fn = next(one for one in contenders if one.name == case.loss).build(case.bucket_size_y)
    hidden = torch.randn(case.states, case.width, device=device).to(dtype).requires_grad_()
    table = torch.randn(case.items, case.width, device=device).mul_(case.width**-0.5).to(dtype)
    items = table.requires_grad_()
    targets = torch.randint(1, case.items, (case.states,), device=device)

    def step() -> float:
        hidden.grad = items.grad = None
        loss = loss_fn(hidden, items, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    step()
    hidden.grad = items.grad = None
    extra = gradients = None
    if can_measure(device):
        memory = WorkMemory(device)
        memory.start()
        step()
        peak, held = memory.peak(), memory.held()
        hidden.grad = items.grad = None
        gradients = held - memory.held()
        extra = peak - gradients
    seconds, processor = [], []
    for _ in range(case.repeats):
        began, of_processor = time.perf_counter(), time.process_time()
        value = step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - of_processor)
    fastest, slowest = min(seconds), max(seconds)
    return Measurement(median(seconds), fastest, slowest, median(processor), extra, gradients, value)


def measure_apart(
    case: Case, timeout: float, program: Sequence[str], kernels: bool = False
) -> Measurement | None:
    """Measure one loss in a fresh process; None, with the reason on stderr, where that fails.

    Args:
        case: what to measure.
        timeout: seconds that the process may take.
        program: arguments of Python that start :func:`main`; the case follows as JSON.
        kernels: whether the Triton kernels are switched on.
    """
    command = [sys.executable, *program, json.dumps(asdict(case))]
    environment = {**os.environ, SWITCH: str(int(kernels))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=True, env=environment
        )
        return Measurement(**json.loads(done.stdout.strip().splitlines()[-1]))
    except subprocess.TimeoutExpired:
        reason = f"not finished after {timeout:g} s"
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or "killed").strip().splitlines()[-1]
    print(f"  {case.loss}: {reason}", file=sys.stderr)
    return None


def run(
    sizes: Sequence[tuple[int, int]],
    base: Case,
    *,
    contenders: Sequence[Contender] = CONTENDERS,
    program: Sequence[str] = ("-c", PROGRAM),
    max_logits: float = DEFAULT_MAX_LOGITS,
    timeout: float = 600.0,
) -> list[Row]:
    """Measure every loss at every size (N states, C items), one process after the other.

    Args:
        sizes: (N, C) each.
        base: all else of the cases.
        contenders: the losses.
        program: as in :func:`measure_apart`.
        max_logits: dense losses are left out where N x C is more.
        timeout: seconds per loss.
    """
    device = torch.device(base.device)
    rows: list[Row] = []
    for states, items in sizes:
        print(f"N = {states}, C = {items}", file=sys.stderr)
        for contender in contenders:
            if not contender.available(device) or (contender.dense and states * items > max_logits):
                continue
            case = replace(base, loss=contender.name, states=states, items=items)
            if contender.holds_logits and 3.5 * 4 * states * items > _free_bytes(device):
                print(f"  {contender.name}: does not fit into memory", file=sys.stderr)
                rows.append((case, None))
                continue
            measurement = measure_apart(case, timeout, program, contender.kernels)
            if measurement is not None:
                print(f"  {contender.name}: {measurement.seconds:.4f} s", file=sys.stderr)
            rows.append((case, measurement))
    return rows


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, each loss beside the first one of its size."""
    lines = [
        "| N | C | loss | seconds | extra MiB | times the seconds | times the memory |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    first: dict[tuple[int, int], Measurement | None] = {}
    for case, measured in rows:
        base = first.setdefault((case.states, case.items), measured)
        cells = [f"{case.states}", f"{case.items:,}", case.loss, "-", "-", "-", "-"]
        if measured is not None:
            cells[3] = f"{measured.seconds:.4f}"
            if measured.extra_mib is not None:
                cells[4] = f"{measured.extra_mib:.1f}"
            if base is not None:
                cells[5] = f"{measured.seconds / base.seconds:.1f}"
                if measured.extra_mib is not None and base.extra_mib is not None:
                    cells[6] = f"{measured.extra_mib / max(base.extra_mib, 0.1):.1f}"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argument: str, contenders: Sequence[Contender] = CONTENDERS) -> None:
    """Measure a case given as JSON, and print the measurement as JSON."""
    print(json.dumps(asdict(measure(Case(**json.loads(argument)), contenders))))
