"""Seconds and peak memory of a training step of every loss: ours, and what a user would take instead.

``recbole-sce bench loss`` measures the losses of the package in the same way. Run it with::

    python benchmarks/loss.py --help
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harness import common
from harness.pictures import growth, svg
from recbole_sce.cli import loss_steps
from recbole_sce.cli.loss_steps import Case, Contender, Measurement
from recbole_sce.loss import ScalableCrossEntropyLoss

#: What measures one case in a fresh process.
PROGRAM = (str(Path(__file__).parents[1] / "loss.py"), "--measure")


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


_OURS = {one.name: one for one in loss_steps.CONTENDERS}
CONTENDERS = (
    _OURS["SCE"],
    _OURS["SCE (paper)"],
    Contender(
        "SCE (paper), Triton kernels",
        lambda b_y: ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=b_y),
        available=lambda device: device.type == "cuda" and find_spec("triton") is not None,
        kernels=True,
    ),
    Contender(
        "SCE (paper), formula with autograd", lambda b_y: lambda h, w, y: sce_with_autograd(h, w, y, b_y)
    ),
    _OURS["CE-"],
    _OURS[loss_steps.EXACT],
    _OURS["CE, F.cross_entropy"],
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


#: What a picture shows, by loss and by column.
PICTURED = {
    "SCE": "SCE",
    loss_steps.EXACT: "exact CE, streamed",
    "CE, F.cross_entropy": "exact CE of RecBole",
}
_PANELS = {
    "processor_seconds": "processor time of a step [s]",
    "extra_mib": "memory of a step [MiB]",
}


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(repr(one.name) for one in CONTENDERS)
    parser = argparse.ArgumentParser(
        prog="loss.py",
        description="Measure a training step of each loss: median seconds, and peak memory beyond inputs and "
        "gradients. Each in a fresh process.",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        type=common.size,
        metavar="NxC",
        default=[common.size(text) for text in loss_steps.DEFAULT_CASES],
        help=f"hidden states x items (default: {' '.join(loss_steps.DEFAULT_CASES)})",
    )
    parser.add_argument("--losses", nargs="+", metavar="LOSS", help=f"some of {names} (default: all)")
    parser.add_argument("--width", type=int, default=64, help="width d of states and items (default: 64)")
    parser.add_argument(
        "--bucket-size-y", type=int, default=256, help="items per bucket, negatives of CE- (default: 256)"
    )
    parser.add_argument("--dtype", choices=loss_steps.DTYPES, default="float32")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5, help="timed steps (default: 5)")
    parser.add_argument(
        "--max-logits",
        type=float,
        default=loss_steps.DEFAULT_MAX_LOGITS,
        help=f"leave out losses of N x C work beyond this (default: {loss_steps.DEFAULT_MAX_LOGITS:g})",
    )
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a process may take (600)")
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="SVG",
        help="draw what --csv holds of the first case's N, and measure nothing",
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    common.add_outputs(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark with command-line arguments; return the exit status."""
    argv = common.arguments_of(argv)
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.measure:
        loss_steps.main(arguments.measure, CONTENDERS)
        return 0
    if arguments.picture:
        if not arguments.csv:
            parser.error("--picture needs --csv, the file to draw")
        states = arguments.cases[0][0]
        arguments.picture.write_text(picture(arguments.csv, states), encoding="utf-8", newline="\n")
        return 0
    known = [one.name for one in CONTENDERS]
    unknown = set(arguments.losses or ()) - set(known)
    if unknown:
        parser.error(f"--losses must be some of {known}, got {sorted(unknown)}")
    base: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("width", "bucket_size_y", "dtype", "device", "threads", "repeats")
    }
    rows = loss_steps.run(
        arguments.cases,
        Case(**base),
        contenders=[one for one in CONTENDERS if one.name in (arguments.losses or known)],
        program=PROGRAM,
        max_logits=arguments.max_logits,
        timeout=arguments.timeout,
    )
    result = f"{common.machine(arguments.device, arguments.threads)}\n\n{loss_steps.table(rows)}"
    print(result)
    if arguments.csv:
        columns = [*(field.name for field in (*fields(Case), *fields(Measurement))), "times_exact"]
        common.write_csv(arguments.csv, columns, _csv_rows(rows))
    common.write_markdown(arguments.markdown, "loss.py", argv, result)
    return 0


def _csv_rows(rows: Sequence[loss_steps.Row]) -> Iterator[dict[str, Any]]:
    """Yield all that was measured; ``times_exact`` is processor time over that of exact CE."""
    exact = {
        (case.states, case.items): measured.processor_seconds
        for case, measured in rows
        if case.loss == loss_steps.EXACT and measured is not None
    }
    for case, measured in rows:
        row = {**asdict(case), **(asdict(measured) if measured else {})}
        of_exact = exact.get((case.states, case.items))
        if measured is not None and of_exact is not None:
            row["times_exact"] = round(measured.processor_seconds / of_exact, 3)
        yield row


def picture(path: Path, states: int) -> str:
    """Return what a step of three losses costs by the number of items, as SVG.

    A curve ends where the loss does not fit into memory.

    Args:
        path: of a CSV that :func:`main` wrote.
        states: N, of the cases to show.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {heading: {} for heading in _PANELS.values()}
    for row in common.read_csv(path):
        if int(row["states"]) == states and row["loss"] in PICTURED and row["seconds"]:
            for column, heading in _PANELS.items():
                point = float(row["items"]), float(row[column])
                curves[heading].setdefault(PICTURED[row["loss"]], []).append(point)
    return svg(growth(curves, "items"))
