"""From a raw log to lists of recommendations: processor time and peak memory of each stage, two ways.

A log is generated: items and users follow power laws, and the order of items can be learnt. Each side then
goes through all stages in a process of its own (:mod:`harness.stages`): convert the log to an atomic file,
parse it, make loaders, train, evaluate, export. Run it with::

    python benchmarks/scale.py --help

RecBole's side is its own model, data set and trainer, with the patches of recbole_sce in force.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]
import torch

from harness import common
from harness.stages import CPU, SIDES, Case, Stage
from recbole_sce.utils.memory import can_measure

#: The script of a process that goes through the stages.
STAGES = Path(__file__).with_name("stages.py")
#: (interactions, items) of the default table.
DEFAULT_CASES = ("1e6x1e5", "1e7x1e6")
#: Of the memory that is free at the start, what each process may allocate.
_SHARE_OF_FREE = 0.85
#: Of (N, C) numbers, how many cross-entropy with autograd holds at its peak (benchmarks/results/loss-cpu.md).
_COPIES_OF_LOGITS = 3


class Outcome(NamedTuple):
    """A stage of a case."""

    case: Case
    stage: Stage


def run(arguments: argparse.Namespace) -> list[Outcome]:
    """Generate each log and take every side through its stages, one after the other."""
    outcomes: list[Outcome] = []
    for interactions, items in arguments.cases:
        print(f"{interactions:,} interactions, {items:,} items", file=sys.stderr)
        with _folder(arguments.folder) as folder:
            for side in ("generate", *arguments.sides):
                ours = side == "recbole_sce"
                case = Case(
                    side=side,
                    folder=str(folder),
                    interactions=interactions,
                    items=items,
                    width=arguments.width,
                    max_length=arguments.max_length,
                    train_positions=arguments.train_positions,
                    train_batch_size=arguments.train_batch_size if ours else arguments.recbole_batch_size,
                    eval_batch_size=arguments.eval_batch_size,
                    steps=arguments.steps,
                    eval_users=arguments.eval_users,
                    export_users=arguments.export_users,
                    k=arguments.k,
                    threads=arguments.threads,
                    timeout=arguments.timeout,
                    memory_gib=arguments.memory_gib,
                    seed=arguments.seed,
                )
                for stage in run_apart(case):
                    outcomes.append(Outcome(case, stage))
                    print(f"  {side}, {stage.name}: {_said(stage)}", file=sys.stderr)
                if side == "generate" and outcomes[-1].stage.failure:
                    break
                # A side's files are not needed again; a log of 10^7 interactions is 0.3 GB.
                shutil.rmtree(folder / side, ignore_errors=True)
    return outcomes


@contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent, prefix="recbole-sce-scale-") as folder:
        yield Path(folder)


def run_apart(case: Case) -> Iterator[Stage]:
    """Run a case in a fresh process and yield its stages; of one in which it died, how."""
    command = [sys.executable, str(STAGES), json.dumps(asdict(case))]
    stage = "start"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:  # some library's own output
                continue
            if "began" in event:
                stage = event["began"]
            else:
                stage = f"after {event['name']}"
                yield Stage(**event)
        errors = process.stderr.read().strip().splitlines()
    if process.returncode:
        yield Stage(stage, failure=_end_of(process.returncode, errors, case.timeout))


def _end_of(code: int, errors: Sequence[str], timeout: int) -> str:
    """Return why a process ended with an exit code other than 0."""
    if code == -signal.SIGALRM:
        return f"not finished after {timeout} s"
    if code == -signal.SIGKILL:
        return "killed by the system, which it does where memory runs out"
    return errors[-1] if errors else f"ended with exit code {code}"


def _said(stage: Stage) -> str:
    measured = f"{stage.seconds:.2f} s, peak {stage.peak_mib:,.0f} MiB (+{max(stage.extra_mib, 0):,.0f})"
    if not stage.failure:
        return measured
    return stage.failure if stage.seconds != stage.seconds else f"{stage.failure} after {measured}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the stages as a Markdown table, the sides side by side."""
    lines = [
        "| interactions | items | stage | RecBole | recbole_sce | times the seconds | times the memory |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    stages: dict[tuple[int, int, str], dict[str, Stage]] = {}
    # By our stages, of which there are more.
    for case, stage in sorted(outcomes, key=lambda one: one.case.side == "RecBole"):
        if case.side in SIDES:
            stages.setdefault((case.interactions, case.items, stage.name), {})[case.side] = stage
    for (interactions, items, name), sides in sorted(stages.items(), key=lambda one: one[0][:2]):
        theirs, ours = sides.get("RecBole"), sides.get("recbole_sce")
        cells = [f"{interactions:,}", f"{items:,}", name, _cell(theirs), _cell(ours)]
        if theirs and ours and not theirs.failure and not ours.failure:
            cells.append(f"{theirs.seconds / ours.seconds:.1f}")
            cells.append(f"{theirs.extra_mib / max(ours.extra_mib, 1.0):.1f}")
        else:
            cells += ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(stage: Stage | None) -> str:
    if stage is None:
        return ""
    if stage.failure:
        return stage.failure
    return f"{stage.seconds:.2f} s, {stage.peak_mib:,.0f} MiB (+{max(stage.extra_mib, 0):,.0f})"


def step_table(outcomes: Sequence[Outcome]) -> str:
    """Return where the time of a training step goes, and its memory beside that of dense logits."""
    lines = [
        "| interactions | items | step of | targets | data | forward | backward | optimiser "
        "| working MiB | dense logits, MiB | ratio |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case, stage in outcomes:
        details = stage.details
        if "forward" not in details:
            continue
        name = case.side + stage.name.partition("more steps")[2]
        cells = [f"{case.interactions:,}", f"{case.items:,}", name, f"{details['targets']:,.0f}"]
        cells += [f"{details[part]:.4f} s" for part in ("data", "forward", "backward", "optimiser")]
        working = stage.extra_mib - max(stage.kept_mib, 0.0)
        dense = _COPIES_OF_LOGITS * details["dense_logits_mib"]
        cells += [f"{working:,.0f}", f"{dense:,.0f}", f"{dense / max(working, 1.0):.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(outcomes: Sequence[Outcome], arguments: argparse.Namespace) -> str:
    """Return machine, tables and what they mean as Markdown."""
    generated = [
        f"- {case.interactions:,} interactions, {case.items:,} items: generated in {stage.seconds:.1f} s"
        for case, stage in outcomes
        if case.side == "generate"
    ]
    served = [
        f"- {case.side}, {case.items:,} items: {stage.name}: {stage.details['users']:,.0f} users"
        for case, stage in outcomes
        if "users" in stage.details
    ]
    return "\n\n".join(
        [
            common.machine("cpu", arguments.threads),
            table(outcomes),
            "A cell: processor seconds of all threads, peak resident memory of the process, and in brackets "
            "how much of it is beyond what the stage began with, to which the last column refers. "
            f"Each process may allocate {arguments.memory_gib:.1f} GiB. RecBole trains SASRec with exact "
            f"cross-entropy on {arguments.recbole_batch_size:,} rows a batch, recbole_sce SASRecSCE on "
            f"{arguments.train_batch_size:,} (train_positions: {arguments.train_positions}); "
            f"MAX_ITEM_LIST_LENGTH {arguments.max_length}, d = {arguments.width}, eval_batch_size "
            f"{arguments.eval_batch_size:,}.",
            step_table(outcomes),
            "Processor seconds of a step after the first, by what they are spent on (backward: with all "
            "checks). Working memory: the peak of these steps less what is there before or after them, which "
            "is parameters, gradients and optimiser state. Dense logits: three times targets x items x 4 "
            "bytes (the logits, their softmax, their gradient: what benchmarks/loss.py measures of "
            "F.cross_entropy).",
            "\n".join(generated + served),
        ]
    )


def _parser() -> argparse.ArgumentParser:
    free = psutil.virtual_memory().available / 2**30
    parser = argparse.ArgumentParser(
        prog="scale.py",
        description="Measure processor time and peak resident memory of each stage from a raw log to lists "
        "of recommendations, with RecBole alone and with recbole_sce, each in a process of its own.",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        type=common.size,
        metavar="NxC",
        default=[common.size(text) for text in DEFAULT_CASES],
        help=f"interactions x items of generated logs (default: {' '.join(DEFAULT_CASES)})",
    )
    parser.add_argument("--sides", nargs="+", choices=tuple(SIDES), default=list(SIDES))
    numbers = {
        "max-length": (50, "MAX_ITEM_LIST_LENGTH"),
        "width": (64, "width d of states and items"),
        "train-batch-size": (64, "rows a batch of recbole_sce"),
        "recbole-batch-size": (2048, "rows a batch of RecBole"),
        "eval-batch-size": (4096, "eval_batch_size of both"),
        "eval-users": (10_000, "users to evaluate"),
        "export-users": (100_000, "users to write top items of"),
        "k": (10, "length of the lists"),
        "timeout": (600, "seconds that a stage may take"),
        "threads": (torch.get_num_threads(), "of torch"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(
            f"--{name}",
            type=common.at_least(1),
            default=default,
            metavar="N",
            help=f"{meaning} (default: {default})",
        )
    parser.add_argument(
        "--steps", type=common.at_least(2), default=50, metavar="N", help="training steps (default: 50)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--train-positions", choices=("all", "last"), default="all", help="of recbole_sce")
    parser.add_argument(
        "--memory-gib",
        type=float,
        default=round(_SHARE_OF_FREE * free, 1),
        metavar="GIB",
        help="what each process may allocate (default: 85 %% of what is free)",
    )
    parser.add_argument("--folder", type=Path, help="where to keep logs meanwhile (default: temporary files)")
    common.add_outputs(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark with command-line arguments; return the exit status."""
    argv = common.arguments_of(argv)
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not can_measure(CPU):
        parser.error("peak memory of a process is read from Linux's /proc, which is not here")
    outcomes = run(arguments)
    result = report(outcomes, arguments)
    print(result)
    if arguments.csv:
        columns = [key for key in Case.__dataclass_fields__ if key != "folder"]
        columns += Stage.__dataclass_fields__
        measured = (
            {**asdict(case), **asdict(stage), "details": json.dumps(stage.details)}
            for case, stage in outcomes
        )
        common.write_csv(arguments.csv, columns, measured)
    common.write_markdown(arguments.markdown, "scale.py", argv, result)
    return 0
