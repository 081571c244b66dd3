"""Each variant beside its base, after the same processor time of training.

``run`` trains a base until its first epoch that ends past ``--seconds``, and then the variant, with ``recipe:
plain``, for no longer; both keep the epoch that validates best. It adds two rows to the CSV. ``render`` makes
tables of the rows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import budget
from harness.common import read_csv, source_commit, write_csv
from recbole_sce.experiments.process import run_in_process
from recbole_sce.experiments.spec import make_spec

_ROOT = Path(__file__).parents[2]
CSV = _ROOT / "benchmarks" / "results" / "variants-cpu.csv"
MARKDOWN = _ROOT / "benchmarks" / "results" / "variants-cpu.md"
#: More epochs than any training here takes.
_EPOCHS = 10_000
SETTINGS: dict[str, Any] = {
    "epochs": _EPOCHS,
    "eval_step": 1,
    "metrics": ["NDCG", "Recall"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "use_gpu": False,
    "show_progress": False,
    "state": "WARNING",
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
}
_COLUMNS = {"inter": ["user_id", "item_id", "timestamp"]}
#: Models that read the features of items.
_WITH_FEATURES = ("FDSASCE", "GRU4RecFSCE", "SASRecFSCE")

Row = dict[str, str]


def settings_of(model: str, dataset: str, data_path: Path | None, seed: int) -> dict[str, Any]:
    """Return what a variant and its base have in common."""
    columns: dict[str, Any] = dict(_COLUMNS)
    if model in _WITH_FEATURES:
        columns["item"] = ["item_id", "class"]
    settings = {**SETTINGS, "seed": seed, "load_col": columns}
    return settings if data_path is None else {**settings, "data_path": str(data_path)}


def measured(
    model: str, dataset: str, settings: Mapping[str, Any], limit: str, folder: Path
) -> dict[str, Any]:
    """Return the record of a training in a process of its own that ends by ``limit``.

    Raises:
        RuntimeError: it failed.
    """
    spec, _ = make_spec(model, dataset, settings)
    spec = replace(
        spec,
        modules=(*spec.modules, budget.__name__),
        paths=(*spec.paths, str(Path(__file__).parents[1])),
    )
    os.environ[budget.VARIABLE] = limit
    record = run_in_process(spec, folder)
    if record["status"] != "done":
        raise RuntimeError(f"{model} on {dataset}: {record['error']}")
    return record


def row_of(model: str, base: str, dataset: str, seed: int, record: Mapping[str, Any]) -> Row:
    """Return what the CSV keeps of a training."""
    test, machine = record["metrics"]["test"], record["machine"]
    row = {
        "dataset": dataset,
        "variant": base + "SCE",
        "model": model,
        "loss": record["loss_type"],
        "seed": seed,
        "epochs": record["epochs"],
        "best_epoch": record["best_epoch"],
        "training_cpu_seconds": f"{record['seconds']['training_cpu']:.1f}",
        "valid_ndcg@10": f"{record['best_valid_score']:.4f}",
        **{name: f"{test[name]:.4f}" for name in ("ndcg@10", "recall@10")},
        "resident_mib": f"{record['memory_mib']['resident']:.0f}",
        **{name: machine[name] for name in ("processor", "threads", "python", "torch", "recbole")},
        "commit": source_commit(_ROOT),
    }
    return {key: "" if value is None else str(value) for key, value in row.items()}


def run(arguments: argparse.Namespace) -> None:
    """Train what has no rows yet."""
    rows = read_csv(arguments.csv)
    done = {(row["dataset"], row["variant"], row["seed"]) for row in rows}
    for model in arguments.models:
        if (arguments.dataset, model, str(arguments.seed)) in done:
            continue
        base = model.removesuffix("SCE")
        settings = settings_of(model, arguments.dataset, arguments.data_path, arguments.seed)
        with tempfile.TemporaryDirectory() as folder:
            limit = f"least:{arguments.seconds}"
            theirs = measured(base, arguments.dataset, settings, limit, Path(folder) / base)
            limit = f"most:{theirs['seconds']['training_cpu']}"
            own = {**settings, "recipe": "plain"}
            ours = measured(model, arguments.dataset, own, limit, Path(folder) / model)
        rows += [
            row_of(name, base, arguments.dataset, arguments.seed, record)
            for name, record in ((base, theirs), (model, ours))
        ]
        write_csv(arguments.csv, list(rows[0]), rows)
        print(" | ".join(line_of(rows, arguments.dataset, model)), flush=True)


def line_of(rows: Sequence[Row], dataset: str, variant: str) -> list[str]:
    """Return the cells of a variant's line: means over the seeds that both models have."""
    here = [row for row in rows if (row["dataset"], row["variant"]) == (dataset, variant)]
    of = {
        name: [row for row in here if row["model"] == name] for name in (variant.removesuffix("SCE"), variant)
    }
    theirs, ours = of.values()

    def mean(rows: Sequence[Row], column: str) -> float:
        return statistics.fmean(float(row[column]) for row in rows)

    def epoch(rows: Sequence[Row]) -> float:
        return mean(rows, "training_cpu_seconds") / mean(rows, "epochs")

    base, variant_ndcg = mean(theirs, "ndcg@10"), mean(ours, "ndcg@10")
    return [
        variant,
        str(len(ours)),
        f"{mean(theirs, 'training_cpu_seconds'):.0f}",
        *(f"{epoch(rows):.1f}" for rows in (theirs, ours)),
        *(f"{mean(rows, 'resident_mib'):.0f}" for rows in (theirs, ours)),
        f"{base:.4f}",
        f"{variant_ndcg:.4f}",
        f"{variant_ndcg / base:.2f}" if base else "",
    ]


_HEADER = (
    "| variant | seeds | s of training | s an epoch, base | variant | peak MiB, base | variant "
    "| test NDCG@10, base | variant | ratio |"
)


def render(arguments: argparse.Namespace) -> None:
    """Write the tables, a data set each, the greatest gain first."""
    arguments.markdown.write_text(tables(read_csv(arguments.csv)), encoding="utf-8")


def tables(rows: Sequence[Row]) -> str:
    """Return the tables of rows, as Markdown."""
    parts = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        here = [row for row in rows if row["dataset"] == dataset]
        cells = [line_of(here, dataset, variant) for variant in dict.fromkeys(row["variant"] for row in here)]
        cells.sort(key=lambda line: -float(line[-1] or 0))
        lines = ["| " + " | ".join(line) + " |" for line in cells]
        machines = sorted(
            {f"{row['processor']}, {row['threads']} thread, torch {row['torch']}" for row in here}
        )
        parts.append("\n".join([f"**{dataset}**", "", _HEADER, "|---|" + "---:|" * 9, *lines, ""]))
        parts.append("; ".join(machines) + ".\n")
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, default=CSV)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run", help="train and add rows")
    runs.add_argument("--models", nargs="+", required=True, metavar="VARIANT")
    runs.add_argument("--dataset", default="ml-100k")
    runs.add_argument("--data-path", type=Path)
    runs.add_argument(
        "--seconds", type=float, default=150, help="processor seconds that a base trains at least"
    )
    runs.add_argument("--seed", type=int, default=1)
    runs.set_defaults(does=run)
    renders = commands.add_parser("render", help="write the tables")
    renders.add_argument("--markdown", type=Path, default=MARKDOWN)
    renders.set_defaults(does=render)
    options = parser.parse_args(arguments)
    options.does(options)
