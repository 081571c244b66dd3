"""Seconds and peak memory of one training step of a loss, ours and what a user would take instead.

Each cell of the table is measured in a fresh process: after one step that warms up, the extra peak memory of
a step (forward and backward) beyond its inputs and their gradients, then the median time of several more. Run
it with::

    python -m recbole_sce.bench.loss --help
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

from recbole_sce.bench.memory import PeakMemory, can_measure
from recbole_sce.loss import (
    CrossEntropyLoss,
    Histories,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
)
from recbole_sce.loss.ops.kernels import SWITCH

#: (N, C) of the default table: the catalogue grows at a fixed batch, the batch at a fixed catalogue.
DEFAULT_CASES = ("2048x1e4", "2048x1e5", "2048x1e6", "2048x1e7", "12800x1e5", "51200x1e5")
#: Losses whose work is N x C are left out where that is more.
DEFAULT_MAX_LOGITS = 5e8
#: States a history, of the completed loss: as many as RecBole's default MAX_ITEM_LIST_LENGTH.
_HISTORY = 50
#: Its name, and that of the loss beside which a CSV puts the processor time of others.
_EXACT = "CE"

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


def sce_with_autograd(hidden: Tensor, item_embeddings: Tensor, targets: Tensor, b_y: int) -> Tensor:
    """Scalable Cross-Entropy as its paper states it (arXiv 2409.18721), left to autograd.

    Args:
        hidden: (N, d).
        item_embeddings: (C, d); row 0 is no item.
        targets: (N,) int64.
        b_y: items a bucket.
    """
    n_b = b_x = max(1, int(2 * math.sqrt(len(hidden))))
    with torch.no_grad():
        mix = torch.randn(n_b, len(hidden), device=hidden.device, dtype=hidden.dtype)
        centers = mix @ hidden
        rows = (centers @ hidden.T).topk(b_x, 1).indices  # (n_b, b_x)
        scores = centers @ item_embeddings.T  # (n_b, C)
        scores[:, 0] = -torch.inf
        items = scores.topk(b_y, 1).indices  # (n_b, b_y)
        del scores
    states = hidden[rows]  # (n_b, b_x, d)
    negatives = states @ item_embeddings[items].mT  # (n_b, b_x, b_y)
    negatives = negatives.masked_fill(items.unsqueeze(1) == targets[rows].unsqueeze(2), -torch.inf)
    positive = (states * item_embeddings[targets[rows]]).sum(2, keepdim=True)
    logits = torch.cat([positive, negatives], 2).flatten(0, 1)  # (n_b * b_x, 1 + b_y)
    losses = functional.cross_entropy(
        logits, torch.zeros_like(logits[:, 0], dtype=torch.int64), reduction="none"
    )
    largest = torch.full_like(hidden[:, 0], -torch.inf).scatter_reduce(0, rows.flatten(), losses, "amax")
    return largest[largest > -torch.inf].mean()


def _linear_cross_entropy(hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    loss: Tensor = functional.linear_cross_entropy(hidden, item_embeddings, targets, options=options)
    return loss


def _cut_cross_entropy(hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
    from cut_cross_entropy import linear_cross_entropy  # type: ignore[import-not-found]

    loss: Tensor = linear_cross_entropy(hidden, item_embeddings, targets)
    return loss


def _liger(hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
    from liger_kernel.transformers import (  # type: ignore[import-not-found]
        LigerFusedLinearCrossEntropyLoss,
    )

    loss: Tensor = LigerFusedLinearCrossEntropyLoss()(item_embeddings, hidden, targets)
    return loss


def sce_with_histories(hidden: Tensor, item_embeddings: Tensor, targets: Tensor, b_y: int) -> Tensor:
    """Return the loss of ``loss_type: SCE``, with histories.

    Each ``_HISTORY`` states are those of one history, whose items their targets are.
    """
    loss_fn = ScalableCrossEntropyLoss(bucket_size_y=b_y)
    items = functional.pad(targets, (0, -len(targets) % _HISTORY), value=-1).view(-1, _HISTORY)
    owner = torch.arange(len(targets), device=targets.device) // _HISTORY
    loss: Tensor = loss_fn(hidden, item_embeddings, targets, histories=Histories(items, owner))
    return loss


@dataclass(frozen=True)
class Contender:
    """A loss of the table."""

    name: str
    build: Callable[[int], LossFunction]  # from b_y, which is also the number of sampled negatives
    dense: bool = False  # whether its work is N x C
    holds_logits: bool = False  # whether it holds (N, C) numbers, several times
    available: Callable[[torch.device], bool] = lambda device: True
    kernels: bool = False  # whether the Triton kernels are switched on in its process


CONTENDERS = (
    Contender("SCE", lambda b_y: lambda h, w, y: sce_with_histories(h, w, y, b_y)),
    Contender("SCE (paper)", lambda b_y: ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=b_y)),
    Contender(
        "SCE (paper), Triton kernels",
        lambda b_y: ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=b_y),
        available=lambda device: device.type == "cuda" and find_spec("triton") is not None,
        kernels=True,
    ),
    Contender(
        "SCE (paper), formula with autograd", lambda b_y: lambda h, w, y: sce_with_autograd(h, w, y, b_y)
    ),
    Contender("CE-", lambda b_y: SampledCrossEntropyLoss(n_negatives=b_y)),
    Contender(_EXACT, lambda b_y: CrossEntropyLoss(), dense=True),
    Contender(
        "CE, F.cross_entropy",
        lambda b_y: lambda h, w, y: functional.cross_entropy(h @ w.T, y),
        dense=True,
        holds_logits=True,
    ),
    Contender(
        "CE, F.linear_cross_entropy chunked",
        lambda b_y: _linear_cross_entropy,
        dense=True,
        available=lambda device: hasattr(torch.nn, "LinearCrossEntropyOptions"),
    ),
    Contender(
        "CE, cut-cross-entropy",
        lambda b_y: _cut_cross_entropy,
        dense=True,
        available=lambda device: device.type == "cuda" and find_spec("cut_cross_entropy") is not None,
    ),
    Contender(
        "CE, Liger",
        lambda b_y: _liger,
        dense=True,
        available=lambda device: device.type == "cuda" and find_spec("liger_kernel") is not None,
    ),
)


@dataclass(frozen=True)
class Case:
    """What one fresh process measures."""

    loss: str
    states: int
    items: int
    width: int
    bucket_size_y: int
    dtype: str
    device: str
    threads: int
    repeats: int


@dataclass(frozen=True)
class Measurement:
    """What it found: medians and extremes in seconds, memory in MiB (None where it cannot be measured).

    ``seconds`` are of the clock, ``processor_seconds`` of all threads of the process.
    """

    seconds: float
    fastest: float
    slowest: float
    processor_seconds: float
    extra_mib: Optional[float]
    gradients_mib: Optional[float]
    value: float


def measure(case: Case) -> Measurement:
    """Measure one loss in this process."""
    torch.set_num_threads(case.threads)
    torch.autograd.set_detect_anomaly(False)  # importing RecBole may have turned it on
    torch.manual_seed(0)
    device, dtype = torch.device(case.device), getattr(torch, case.dtype)
    contender = next(one for one in CONTENDERS if one.name == case.loss)
    loss_fn = contender.build(case.bucket_size_y)

    def tensors(n: int, c: int) -> tuple[Tensor, Tensor, Tensor]:
        hidden = torch.randn(n, case.width, device=device).to(dtype).requires_grad_()
        items = torch.randn(c, case.width, device=device).mul_(case.width**-0.5).to(dtype).requires_grad_()
        return hidden, items, torch.randint(1, c, (n,), device=device)

    def step(hidden: Tensor, items: Tensor, targets: Tensor) -> float:
        hidden.grad = items.grad = None
        loss = loss_fn(hidden, items, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    hidden, items, targets = tensors(case.states, case.items)
    step(hidden, items, targets)
    hidden.grad = items.grad = None
    extra = gradients = None
    if can_measure(device):
        memory = PeakMemory(device)
        memory.start()
        step(hidden, items, targets)
        peak, held = memory.peak(), memory.held()
        hidden.grad = items.grad = None
        gradients = held - memory.held()
        extra = peak - gradients
    seconds, processor = [], []
    for _ in range(case.repeats):
        began, of_processor = time.perf_counter(), time.process_time()
        value = step(hidden, items, targets)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - of_processor)
    return Measurement(
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        statistics.median(processor),
        extra,
        gradients,
        value,
    )


def measure_apart(case: Case, timeout: float) -> Optional[Measurement]:
    """Measure one loss in a fresh process; None where it failed or took too long, which is said."""
    command = [sys.executable, "-m", "recbole_sce.bench.loss", "--measure", json.dumps(asdict(case))]
    kernels = any(one.kernels for one in CONTENDERS if one.name == case.loss)
    environment = {**os.environ, SWITCH: str(int(kernels))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=True, env=environment
        )
    except subprocess.TimeoutExpired:
        print(f"  {case.loss}: not finished after {timeout:g} s", file=sys.stderr)
        return None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or "killed").strip().splitlines()[-1]
        print(f"  {case.loss}: {reason}", file=sys.stderr)
        return None
    return Measurement(**json.loads(done.stdout.strip().splitlines()[-1]))


Row = tuple[Case, Optional[Measurement]]


def run(arguments: argparse.Namespace) -> list[Row]:
    """Measure every loss in every case, one after the other."""
    device = torch.device(arguments.device)
    rows: list[Row] = []
    for states, items in arguments.cases:
        print(f"N = {states}, C = {items}", file=sys.stderr)
        for contender in CONTENDERS:
            if arguments.losses and contender.name not in arguments.losses:
                continue
            if not contender.available(device):
                continue
            if contender.dense and states * items > arguments.max_logits:
                continue
            case = Case(
                contender.name,
                states,
                items,
                arguments.width,
                arguments.bucket_size_y,
                arguments.dtype,
                arguments.device,
                arguments.threads,
                arguments.repeats,
            )
            if contender.holds_logits and 3.5 * 4 * states * items > _free_bytes(device):
                print(f"  {contender.name}: does not fit into memory", file=sys.stderr)
                rows.append((case, None))
                continue
            found = measure_apart(case, arguments.timeout)
            if found is not None:
                print(f"  {contender.name}: {found.seconds:.4f} s", file=sys.stderr)
            rows.append((case, found))
    return rows


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, each loss beside the first one of its case."""
    lines = [
        "| N | C | loss | seconds | extra MiB | times the seconds | times the memory |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    first: dict[tuple[int, int], Optional[Measurement]] = {}
    for case, found in rows:
        base = first.setdefault((case.states, case.items), found)
        cells = [f"{case.states}", f"{case.items:,}", case.loss]
        if found is None:
            cells += ["-"] * 4
        else:
            cells += [f"{found.seconds:.4f}", "-" if found.extra_mib is None else f"{found.extra_mib:.1f}"]
            cells.append(f"{found.seconds / base.seconds:.1f}" if base else "-")
            both = base is not None and base.extra_mib is not None and found.extra_mib is not None
            cells.append(f"{found.extra_mib / max(base.extra_mib, 0.1):.1f}" if both else "-")  # type: ignore[operator, type-var, union-attr]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows with all that was measured; a loss that did not finish has empty cells.

    ``times_exact`` is the processor time, in times that of exact CE in the same case, where it was measured.
    """
    names = [*(field.name for field in (*fields(Case), *fields(Measurement))), "times_exact"]
    exact = {
        (case.states, case.items): found.processor_seconds
        for case, found in rows
        if case.loss == _EXACT and found is not None
    }
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        for case, found in rows:
            row = {**asdict(case), **(asdict(found) if found else {})}
            beside = exact.get((case.states, case.items))
            if found is not None and beside is not None:
                row["times_exact"] = round(found.processor_seconds / beside, 3)
            writer.writerow(row)


def machine(device: str, threads: int) -> str:
    """Return the machine and the versions, in a line."""
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if device == "cpu" and cpu_info.exists():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
        if find_spec("triton") is not None:
            name += f", triton {version('triton')}"
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{name} ({capability}), {threads} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {platform.system()}"
    )


def _case(text: str) -> tuple[int, int]:
    try:
        states, items = (int(float(part)) for part in text.lower().split("x"))
    except ValueError:
        states = items = 0
    if states < 1 or items < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; N x C such as 2048x1e6 is")
    return states, items


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(repr(one.name) for one in CONTENDERS)
    parser = argparse.ArgumentParser(
        prog=os.path.basename(sys.argv[0]) if "bench" in sys.argv[0] else "python -m recbole_sce.bench.loss",
        description="Measure a training step of each loss: median seconds, and peak memory beyond inputs and "
        "gradients. Each in a fresh process.",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        type=_case,
        metavar="NxC",
        default=[_case(text) for text in DEFAULT_CASES],
        help=f"hidden states x items (default: {' '.join(DEFAULT_CASES)})",
    )
    parser.add_argument("--losses", nargs="+", metavar="LOSS", help=f"some of {names} (default: all)")
    parser.add_argument("--width", type=int, default=64, help="width d of states and items (default: 64)")
    parser.add_argument(
        "--bucket-size-y", type=int, default=256, help="items a bucket, and negatives of CE- (default: 256)"
    )
    parser.add_argument("--dtype", choices=("float32", "float64", "bfloat16", "float16"), default="float32")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5, help="timed steps (default: 5)")
    parser.add_argument(
        "--max-logits",
        type=float,
        default=DEFAULT_MAX_LOGITS,
        help=f"leave out losses of N x C work beyond this (default: {DEFAULT_MAX_LOGITS:g})",
    )
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a process may take (600)")
    parser.add_argument("--csv", type=Path, help="also write all that was measured here")
    parser.add_argument("--markdown", type=Path, help="also write table, machine, command here")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the benchmark with command-line arguments; return the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.measure:
        print(json.dumps(asdict(measure(Case(**json.loads(arguments.measure))))))
        return 0
    unknown = set(arguments.losses or ()) - {one.name for one in CONTENDERS}
    if unknown:
        parser.error(f"--losses: {sorted(unknown)} not allowed; {[one.name for one in CONTENDERS]} are")
    rows = run(arguments)
    result = table(rows)
    where = machine(arguments.device, arguments.threads)
    print(f"{where}\n\n{result}")
    if arguments.csv:
        write_csv(arguments.csv, rows)
    if arguments.markdown:
        command = f"python -m recbole_sce.bench.loss {shlex.join(argv)}".rstrip()
        arguments.markdown.write_text(f"{where}\n\n```\n{command}\n```\n\n{result}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
