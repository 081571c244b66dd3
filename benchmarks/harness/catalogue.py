"""SASRecSCE with each loss in a large catalogue, for the same processor time.

``run`` trains with ``recipe: plain``, so that the loss alone differs, until an epoch more would pass
``--seconds`` or validation has not become better for a while; the epoch that validates best is tested. It
adds a row to the CSV for each loss. ``render`` makes tables and a picture of the rows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.common import at_least, read_csv, source_commit, write_csv
from harness.pictures import Curve, panels, svg
from harness.variants import SETTINGS, measured
from recbole_sce.data.synthetic import LogSpec, generate_log, write_inter

_ROOT = Path(__file__).parents[2]
CSV = _ROOT / "benchmarks" / "results" / "catalogue-cpu.csv"
MARKDOWN = _ROOT / "benchmarks" / "results" / "catalogue-cpu.md"
MODEL = "SASRecSCE"
#: The losses by their names in tables.
LOSSES: dict[str, dict[str, Any]] = {
    "SCE": {"loss_type": "SCE"},
    "CE": {"loss_type": "CE"},
    "SCE (paper)": {"loss_type": "SCE", "complete_softmax": False},
    "CE-": {"loss_type": "CE-"},
    "gBCE": {"loss_type": "gBCE"},
}
#: The log that is generated where no data set is named.
GENERATED = "generated"
#: What describes rankings beside their quality, as RecBole calls it, and in a table's heading.
METRICS = {
    "ndcg@10": "test NDCG@10",
    "recall@10": "Recall@10",
    "itemcoverage@10": "catalogue coverage",
    "averagepopularity@10": "mean popularity",
    "tailpercentage@10": "share of the tail",
}

Row = dict[str, str]


def settings_of(loss: str, arguments: argparse.Namespace, data_path: Path) -> dict[str, Any]:
    """Return the settings of a training."""
    return {
        **SETTINGS,
        "metrics": ["NDCG", "Recall", "ItemCoverage", "AveragePopularity", "TailPercentage"],
        "recipe": "plain",
        "exclude_seen": True,
        "stopping_step": arguments.patience,
        "seed": arguments.seed,
        "data_path": str(data_path),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        **LOSSES[loss],
    }


def row_of(dataset: str, loss: str, seed: int, record: Mapping[str, Any]) -> Row:
    """Return what the CSV keeps of a training."""
    machine, data = record["machine"], record["data"]
    row = {
        "dataset": dataset,
        "users": data["users"],
        "items": data["items"],
        "loss": loss,
        "seed": seed,
        "epochs": record["epochs"],
        "best_epoch": record["best_epoch"],
        "training_cpu_seconds": f"{record['seconds']['training_cpu']:.1f}",
        "valid_ndcg@10": f"{record['best_valid_score']:.4f}",
        **{name: f"{record['metrics']['test'][name]:.4f}" for name in METRICS},
        "resident_mib": f"{record['memory_mib']['resident']:.0f}",
        **{name: machine[name] for name in ("processor", "threads", "python", "torch", "recbole")},
        "commit": source_commit(_ROOT),
        "curve": " ".join(
            f"{entry['training_cpu_seconds']:.0f}:{entry['score']:.4f}" for entry in record["curve"]
        ),
    }
    return {key: "" if value is None else str(value) for key, value in row.items()}


def run(arguments: argparse.Namespace) -> None:
    """Train what has no rows yet."""
    rows = read_csv(arguments.csv)
    done = {(row["dataset"], row["loss"], row["seed"]) for row in rows}
    generated = arguments.dataset == GENERATED
    with tempfile.TemporaryDirectory() as folder:
        data_path = Path(folder) if generated else arguments.data_path
        if generated:
            log = generate_log(LogSpec(arguments.interactions, arguments.items, mean_length=30))
            write_inter(log, data_path, GENERATED)
        for loss in arguments.losses:
            if (arguments.dataset, loss, str(arguments.seed)) in done:
                continue
            settings = settings_of(loss, arguments, data_path)
            limit = f"most:{arguments.seconds}"
            record = measured(MODEL, arguments.dataset, settings, limit, Path(folder) / loss)
            rows.append(row_of(arguments.dataset, loss, arguments.seed, record))
            write_csv(arguments.csv, list(rows[0]), rows)
            print(_line(loss, rows[-1:]), flush=True)


def _line(loss: str, rows: Sequence[Row]) -> str:
    """Return a loss's line of a table: means over its seeds."""

    def mean(column: str) -> float:
        return statistics.fmean(float(row[column]) for row in rows)

    cells = [loss, str(len(rows)), f"{mean('best_epoch'):.0f} of {mean('epochs'):.0f}"]
    cells += [f"{mean('training_cpu_seconds'):,.0f}", f"{mean('resident_mib'):,.0f}"]
    cells.append(f"{mean('valid_ndcg@10'):.4f}")
    cells += [f"{mean(name):.{1 if 'popularity' in name else 4}f}" for name in METRICS]
    return f"| {' | '.join(cells)} |"


def tables(rows: Sequence[Row]) -> str:
    """Return the tables of rows, a data set each, as Markdown."""
    heading = ["loss", "seeds", "best epoch", "s of training", "peak MiB", "validation NDCG@10"]
    heading += METRICS.values()
    parts = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        here = [row for row in rows if row["dataset"] == dataset]
        first = here[0]
        machines = {f"{row['processor']}, {row['threads']} thread, torch {row['torch']}" for row in here}
        losses = [loss for loss in LOSSES if any(row["loss"] == loss for row in here)]
        parts += [
            f"**{dataset}**: {int(first['users']):,} users, {int(first['items']):,} items",
            "\n".join(
                [
                    f"| {' | '.join(heading)} |",
                    "|---|" + "---:|" * (len(heading) - 1),
                    *(_line(loss, [row for row in here if row["loss"] == loss]) for loss in losses),
                ]
            ),
            f"{'; '.join(sorted(machines))}.",
        ]
    return "\n\n".join(parts) + "\n"


def picture(rows: Sequence[Row]) -> str:
    """Return validation against processor time of training as SVG, a panel a data set."""
    curves: dict[str, dict[str, list[Curve]]] = {}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        curves[dataset] = {
            loss: [
                [(float(second), float(score)) for second, score in pairs]
                for row in rows
                if (row["dataset"], row["loss"]) == (dataset, loss)
                and (pairs := [pair.split(":") for pair in row["curve"].split()])
            ]
            for loss in LOSSES
        }
    return svg(panels(curves, "processor time of training [s]", "validation NDCG@10"))


def render(arguments: argparse.Namespace) -> None:
    """Write the tables and the picture beside them."""
    rows = read_csv(arguments.csv)
    drawing = arguments.markdown.with_suffix(".svg")
    drawing.write_text(picture(rows), encoding="utf-8")
    text = f"{tables(rows)}\n![Validation against processor time]({drawing.name})\n"
    arguments.markdown.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, default=CSV)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run", help="train and add rows")
    runs.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS")
    runs.add_argument("--dataset", default=GENERATED, help="a data set, or a generated log (%(default)s)")
    runs.add_argument("--data-path", type=Path, default=Path("dataset"), help="default: %(default)s")
    runs.add_argument("--interactions", type=at_least(1), default=200_000, help="of the generated log")
    runs.add_argument("--items", type=at_least(1), default=100_000, help="of the generated log")
    runs.add_argument("--seconds", type=float, default=450, help="most processor seconds of training")
    runs.add_argument("--patience", type=at_least(0), default=5, help="validations without a better one")
    runs.add_argument("--seed", type=int, default=1)
    runs.set_defaults(does=run)
    renders = commands.add_parser("render", help="write tables and picture")
    renders.add_argument("--markdown", type=Path, default=MARKDOWN)
    renders.set_defaults(does=render)
    chosen = parser.parse_args(arguments)
    chosen.does(chosen)
