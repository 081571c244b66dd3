"""Processor time of training steps, of an epoch and of an evaluation of SASRecSCE with its defaults.

With ``--against`` another checkout, the state before a change for instance, is measured in the same run:
each repetition is a process of each of them, in turn, so that what else the machine does meets both. One
thread, processor time, medians over repetitions. A run that was cut off goes on with the rows of ``--csv``.
Run it with::

    python benchmarks/steps.py --help
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import common
from recbole_sce.data.synthetic import LogSpec, generate_log, write_inter

#: The script that measures one case in a fresh process.
PROGRAM = Path(__file__).with_name("step_times.py")
HERE = Path(__file__).resolve().parents[2]
#: What the results call this checkout, and the other one.
THIS, OTHER = "this", "other"
#: 19,400 users, 11,900 items, 8.6 interactions per user, of which 5.6 are targets of training: the size of
#: Amazon Toys, 5-core. Leave-one-out takes two, and the first has nothing before it.
TOYS_LIKE = LogSpec(167_600, 12_000, mean_length=9.13, min_length=5, popularity_exponent=0.55)
#: 3 * 10^5 items in 9 * 10^5 interactions of short histories.
LARGE = LogSpec(900_000, 380_000, mean_length=7.0, min_length=4, popularity_exponent=0.45)


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        name: of the row.
        dataset: a key of ``GENERATED``, or a data set in ``--data-path``.
        kind: ``steps``, the first steps of an epoch; ``epoch``, all of them; or ``evaluation``, all items
            ranked for each test row.
        settings: of RecBole, beside the defaults.
    """

    name: str
    dataset: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)


GENERATED = {"toys-like": TOYS_LIKE, "large-catalogue": LARGE}
CASES = (
    Case("toys-like, L = 50", "toys-like", "steps", {"MAX_ITEM_LIST_LENGTH": 50}),
    Case("toys-like, L = 200", "toys-like", "steps", {"MAX_ITEM_LIST_LENGTH": 200}),
    Case("amazon-beauty, L = 50", "amazon-beauty", "steps", {"MAX_ITEM_LIST_LENGTH": 50}),
    Case("amazon-beauty, L = 200", "amazon-beauty", "steps", {"MAX_ITEM_LIST_LENGTH": 200}),
    Case("ml-1m, L = 50", "ml-1m", "steps", {"MAX_ITEM_LIST_LENGTH": 50}),
    Case("ml-1m, L = 200, an epoch", "ml-1m", "epoch", {"MAX_ITEM_LIST_LENGTH": 200}),
    Case("3 * 10^5 items, L = 50", "large-catalogue", "steps", {"MAX_ITEM_LIST_LENGTH": 50}),
    Case("amazon-beauty, L = 50, evaluation", "amazon-beauty", "evaluation", {"MAX_ITEM_LIST_LENGTH": 50}),
)
#: What every case sets.
_SETTINGS = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "topk": [10],
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
    "seed": 1,
}
COLUMNS = (
    "case",
    "checkout",
    "commit",
    "repetition",
    "kind",
    "users",
    "items",
    "steps",
    "milliseconds_per_step",
    "targets_per_step",
    "microseconds_per_target",
    "epoch_seconds",
    "evaluation_seconds",
    "peak_mib",
)
_TEXTS = {"case", "checkout", "commit", "kind"}
_FRACTIONS = {
    "milliseconds_per_step",
    "targets_per_step",
    "microseconds_per_target",
    "epoch_seconds",
    "evaluation_seconds",
}
Row = dict[str, Any]


def run(arguments: argparse.Namespace, there: Iterable[Row]) -> Iterator[Row]:
    """Measure each case ``--repetitions`` times with each checkout, and yield a row of each measurement.

    What one of the rows that are ``there`` has measured is left out.
    """
    done = {(row["case"], row["checkout"], row["repetition"]) for row in there}
    checkouts = {THIS: HERE} | ({OTHER: arguments.against.resolve()} if arguments.against else {})
    commits = {name: common.source_commit(folder) for name, folder in checkouts.items()}
    with tempfile.TemporaryDirectory(prefix="recbole-sce-steps-") as folder:
        for case in arguments.cases:
            data_path = arguments.data_path
            if case.dataset in GENERATED:
                data_path = Path(folder)
                if not (data_path / case.dataset).exists():
                    write_inter(generate_log(GENERATED[case.dataset]), data_path, case.dataset)
            versions = {}
            for repetition in range(arguments.repetitions):
                for name, checkout in checkouts.items():
                    if (case.name, name, repetition) in done:
                        continue
                    measured = _measure_apart(case, checkout, data_path, Path(folder), arguments.steps)
                    versions[name] = measured["torch"]
                    if len(set(versions.values())) > 1:
                        raise SystemExit(
                            f"both checkouts must have the same torch, got {versions}; install one into "
                            f"{arguments.against / '.venv'}"
                        )
                    row = row_of(measured)
                    row |= {"case": case.name, "checkout": name, "commit": commits[name]}
                    row |= {"repetition": repetition, "kind": case.kind}
                    print(f"  {case.name}, {name}: {_text(row)}", file=sys.stderr)
                    yield row


def _measure_apart(case: Case, checkout: Path, data_path: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Measure a case with a checkout, in a process of its own.

    Raises:
        RuntimeError: the process failed; the message ends with its last words.
    """
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if checkout != HERE and own.exists() else sys.executable
    settings = {**_SETTINGS, **case.settings, "data_path": str(data_path.resolve())}
    request = {
        "checkout": str(checkout),
        "dataset": case.dataset,
        "kind": case.kind,
        "steps": steps,
        "settings": settings,
        "folder": str(folder),
    }
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONWARNINGS": "ignore"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [python, str(PROGRAM), json.dumps(request)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{case.name} with {checkout} failed: {done.stderr.strip()[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def row_of(measured: Mapping[str, Any]) -> Row:
    """Return the figures of a measurement: the median step, and the time of a target over all steps."""
    row: Row = {key: measured[key] for key in ("users", "items")}
    if "evaluation_seconds" in measured:
        return {**row, "evaluation_seconds": round(measured["evaluation_seconds"], 3)}
    seconds, targets = measured["step_seconds"], measured["step_targets"]
    row |= {
        "steps": len(seconds),
        "milliseconds_per_step": round(1e3 * statistics.median(seconds), 2),
        "targets_per_step": round(statistics.mean(targets), 1),
        "microseconds_per_target": round(1e6 * sum(seconds) / sum(targets), 2),
        "peak_mib": round(measured["peak_mib"]),
    }
    if measured["epoch_seconds"] is not None:
        row["epoch_seconds"] = round(measured["epoch_seconds"], 2)
    return row


def read_rows(path: Path) -> list[Row]:
    """Return the rows that are there, numbers as numbers."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return [{key: _value(key, text) for key, text in line.items() if text} for line in lines]


def _value(column: str, text: str) -> Any:
    if column in _TEXTS:
        return text
    return float(text) if column in _FRACTIONS else int(text)


def _text(row: Row) -> str:
    if row["kind"] == "evaluation":
        return f"{row['evaluation_seconds']:.2f} s"
    text = (
        f"{row['milliseconds_per_step']:.1f} ms, {row['microseconds_per_target']:.1f} microseconds per target"
    )
    return f"{row['epoch_seconds']:.1f} s, {text}" if row["kind"] == "epoch" else text


#: The column that decides about a case of a kind.
_DECIDING = {
    "steps": "microseconds_per_target",
    "epoch": "epoch_seconds",
    "evaluation": "evaluation_seconds",
}


def table(rows: Sequence[Row]) -> str:
    """Return medians over repetitions as a Markdown table, a line a case, with ratios of both checkouts.

    A ratio is of the time of a target where steps are measured, since a step may have more targets in one
    checkout than in the other; of the time of all where an epoch or an evaluation is.
    """
    lines = [
        "| case | items | targets per step | ms per step | µs per target | s in all | "
        "other: targets per step | ms per step | µs per target | s in all | times faster |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["case"] for row in rows):
        of_case = [row for row in rows if row["case"] == name]
        cells = [name, f"{of_case[0]['items']:,}"]
        for checkout in (THIS, OTHER):
            cells += _cells([row for row in of_case if row["checkout"] == checkout])
        ratios = _ratios(of_case, _DECIDING[of_case[0]["kind"]])
        if ratios:
            cells.append(f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})")
        else:
            cells.append("")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(rows: Sequence[Row]) -> list[str]:
    whole = _median(rows, "epoch_seconds") or _median(rows, "evaluation_seconds")
    shown = (
        (_median(rows, "targets_per_step"), ",.0f"),
        (_median(rows, "milliseconds_per_step"), ",.1f"),
        (_median(rows, "microseconds_per_target"), ",.1f"),
        (whole, ",.2f"),
    )
    return ["" if value is None else format(value, form) for value, form in shown]


def _median(rows: Iterable[Row], column: str) -> float | None:
    values = [row[column] for row in rows if column in row]
    return statistics.median(values) if values else None


def _ratios(rows: Sequence[Row], column: str) -> list[float]:
    """Return how many times faster this checkout was in each repetition that both have."""
    by = {(row["checkout"], row["repetition"]): row[column] for row in rows}
    return [value / by[THIS, n] for (name, n), value in by.items() if name == OTHER and (THIS, n) in by]


def growth(rows: Sequence[Row]) -> str:
    """Return how the time of a target grows from L = 50 to L = 200, a line a data set that has both."""
    lines = []
    for short in dict.fromkeys(row["case"] for row in rows if "L = 50" in row["case"]):
        longer = short.replace("L = 50", "L = 200")
        for checkout in (THIS, OTHER):
            times = [
                _median(
                    [row for row in rows if row["case"] == name and row["checkout"] == checkout],
                    "microseconds_per_target",
                )
                for name in (short, longer)
            ]
            if None not in times:
                data = short.partition(",")[0]
                lines.append(f"- {data}, {checkout}: {times[1] / times[0]:.2f} times")  # type: ignore[operator]
    return "\n".join(lines)


def report(rows: Sequence[Row]) -> str:
    """Return machine, table and what it means as Markdown."""
    commits = {
        name: ", ".join(dict.fromkeys(row["commit"] for row in rows if row["checkout"] == name))
        for name in dict.fromkeys(row["checkout"] for row in rows)
    }
    return "\n\n".join(
        part
        for part in (
            common.machine("cpu", 1),
            "; ".join(f"{name}: commit {commit}" for name, commit in commits.items()),
            table(rows),
            "Processor time of one thread, SASRecSCE with its defaults, medians over repetitions of a "
            "process each. A step includes the making of its batch and all that the trainer does between "
            "two steps; the first three do not count. The time of a target is that of all measured steps "
            "by their targets. Ratios are of the other checkout's time of a target, epoch or evaluation to "
            "this one's, in the same repetition: their median, least and most.",
            growth(rows) and "Time of a target, L = 200 against L = 50:\n\n" + growth(rows),
        )
        if part
    )


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(repr(case.name) for case in CASES)
    parser = argparse.ArgumentParser(
        prog="steps.py",
        description="Measure processor time of training steps, an epoch and an evaluation of SASRecSCE, one "
        "thread, each time in a fresh process.",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        default=[""],
        help=f"beginnings of {names} (default: all of them)",
    )
    parser.add_argument(
        "--data-path", type=Path, default=Path("dataset"), help="where ml-1m and amazon-beauty are (dataset)"
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to measure, too")
    parser.add_argument("--steps", type=common.at_least(2), default=30, metavar="N", help="per process (30)")
    parser.add_argument(
        "--repetitions", type=common.at_least(1), default=3, metavar="N", help="processes of each (3)"
    )
    common.add_outputs(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark with command-line arguments; return the exit status."""
    argv = common.arguments_of(argv)
    parser = _parser()
    arguments = parser.parse_args(argv)
    for text in arguments.cases:
        if not any(case.name.startswith(text) for case in CASES):
            names = ", ".join(case.name for case in CASES)
            parser.error(f"--cases must be beginnings of {names}, got {text}")
    arguments.cases = [case for case in CASES if case.name.startswith(tuple(arguments.cases))]
    if arguments.against and not (arguments.against / "recbole_sce").is_dir():
        parser.error(f"--against must be a checkout of this project, got {arguments.against}")
    for case in arguments.cases:
        file = arguments.data_path / case.dataset / f"{case.dataset}.inter"
        if case.dataset not in GENERATED and not file.exists():
            parser.error(f"--data-path must have {case.dataset}, got no {file}; or choose other --cases")
    rows = read_rows(arguments.csv) if arguments.csv else []
    for row in run(arguments, list(rows)):
        rows.append(row)
        if arguments.csv:
            common.write_csv(arguments.csv, COLUMNS, rows)
    result = report(rows)
    print(result)
    common.write_markdown(arguments.markdown, "steps.py", argv, result)
    return 0
