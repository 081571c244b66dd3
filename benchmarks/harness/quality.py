"""Quality beside time and memory on real data: seeded runs, resumable, kept as a CSV, rendered into a page.

``run`` trains the models of the benchmark one after the other; ``collect`` takes what ``recbole-sce compare``
has run, a study of settings for instance; both write one row a run, with the command that repeats it.
``render`` makes tables and pictures of the rows.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.common import read_csv
from harness.pictures import panels, svg
from recbole_sce.experiments.comparison import Event, compare
from recbole_sce.experiments.spec import WITHOUT_EFFECT, Candidate, ExperimentError
from recbole_sce.utils.files import whole_file

DATASETS = ("ml-100k", "ml-1m", "amazon-beauty", "s3rec-yelp", "ciao")
LOSSES = ("SCE", "CE", "CE-", "gBCE", "BCE")
_OURS, _EXACT = "SASRecSCE", "SASRecSCE, exact CE"
_RECBOLES = ("SASRec", "GRU4Rec", "BERT4Rec")
_PLAIN = "SASRecSCE, recipe: plain"
#: Rows under RecBole's protocol: with the recipe of today, and of the day of batches of 64 rows.
_OF_TODAY = {_OURS: "SCE-recipe", _PLAIN: "SCE-plain"}
_OF_64_ROWS = {f"{_OURS}, 64 rows": "SCE-64-rows", f"{_EXACT}, 64 rows": "CE-64-rows"}
_PICTURED = (*_OF_TODAY, *_OF_64_ROWS, *_RECBOLES)
#: The column of the standard error over users of the test NDCG@10.
ERROR = "ndcg@10_error"
MODELS = (
    *(f"{loss}=SASRecSCE:{loss}" for loss in LOSSES),
    *(f"GRU4RecSCE:{loss}" for loss in LOSSES),
    *_RECBOLES,
)
#: What is computed of every run.
SETTINGS = {
    "metrics": ["NDCG", "Recall", "MRR", "ItemCoverage"],
    "topk": [10],
    "valid_metric": "NDCG@10",
}
_COLUMNS = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
#: How long all models train, and what a data set needs; the rest is as the models and data sets come.
SETTINGS_OF: dict[str, dict[str, Any]] = {
    "ml-100k": {"epochs": 80, "eval_step": 2, "stopping_step": 10},
    "ml-1m": {"epochs": 15, "eval_step": 3},
    "amazon-beauty": {"epochs": 60, "eval_step": 3, "stopping_step": 4, "MAX_ITEM_LIST_LENGTH": 20},
    "s3rec-yelp": {"epochs": 24, "eval_step": 3, "MAX_ITEM_LIST_LENGTH": 20, **_COLUMNS},
    "ciao": {
        "epochs": 12,
        "eval_step": 1,
        "stopping_step": 4,
        **_COLUMNS,
        "user_inter_num_interval": "[5,inf)",
        "item_inter_num_interval": "[2,inf)",  # an item seen once is either never trained or never tested
    },
}
#: The same of RecBole's own models, whose epochs go through every prefix of every history: minutes each.
#: On amazon-beauty SASRec comes near its end, in an hour of one core.
SETTINGS_OF_RECBOLES: dict[str, dict[str, Any]] = {
    "ml-1m": {"epochs": 1, "eval_step": 1},
    "amazon-beauty": {"epochs": 30},
    "s3rec-yelp": {"epochs": 3},
    "ciao": {"epochs": 1},
}
#: The share of its own best validation score at which a run counts as nearly there.
NEARLY = 0.95
#: Processor seconds of training after which learning curves are compared.
TIMES = (60, 120, 240, 480, 960, 1920, 3600)
#: Seeds from which on a mean may be called the best of a table; where no row has as many, the most there are.
_ENOUGH_SEEDS = 3
#: What decides about no figure, or is said elsewhere in a command.
_NOT_IN_COMMAND = (
    "data_path",
    "show_progress",
    "state",
    "checkpoint_dir",
    *WITHOUT_EFFECT,
)
_CSV = Path("benchmarks/results/quality.csv")
_PAGE = Path("docs/results/quality.md")

Row = dict[str, str]


class QualityError(ValueError):
    """Rows that cannot stand in one table, or a page that has no place for them; the message says why."""


def row_of(dataset: str, record: Mapping[str, Any]) -> Row:
    """Return the row of a finished run.

    Args:
        dataset: the data set's name.
        record: what :func:`recbole_sce.experiments.compare` keeps of a run.
    """
    curve, machine, memory = record["curve"], record["machine"], record["memory_mib"]
    test, valid = record["metrics"]["test"], record["metrics"]["valid"]
    nearly = nearly_there(curve, record["valid_metric_bigger"]) or {}
    values = {
        "dataset": dataset,
        "label": record["label"],
        "model": record["model"],
        "loss": record["loss_type"],
        "seed": record["seed"],
        **{name: test.get(name) for name in ("ndcg@10", "recall@10", "mrr@10", "itemcoverage@10")},
        "valid_ndcg@10": valid.get("ndcg@10"),
        "epochs": record["epochs"],
        "best_epoch": record["best_epoch"],
        "epochs_allowed": record["epochs_allowed"],
        "training_seconds": record["seconds"]["training"],
        "training_cpu_seconds": record["seconds"].get("training_cpu"),
        "seconds_to_95": nearly.get("training_seconds"),
        "cpu_seconds_to_95": nearly.get("training_cpu_seconds"),
        "resident_mib": memory["resident"],
        "resident_before_training_mib": memory["resident_before_training"],
        "device_mib": memory["device"],
        "bucket_coverage": curve[-1].get("coverage") if curve else None,
        "parameters": record["parameters"],
        **{name: record["data"][name] for name in ("users", "items", "test_users")},
        **{name: machine[name] for name in ("processor", "gpu", "cores", "threads", "python", "torch")},
        **{name: machine[name] for name in ("recbole", "recbole_sce")},
        "command": command_of(dataset, record),
        "chosen": shlex.join(_as_options(record.get("chosen_settings", {}))),
        "curve": " ".join(
            f"{entry['training_cpu_seconds']:.0f}:{entry['score']:.6g}"
            for entry in curve
            if "training_cpu_seconds" in entry
        ),
    }
    return {key: _text(value) for key, value in values.items()}


def nearly_there(curve: Sequence[Mapping[str, Any]], bigger: bool) -> Mapping[str, Any] | None:
    """Return the first entry of a learning curve with 95 % of its best score; None if there is none."""
    if not curve or not bigger:
        return None
    best = max(entry["score"] for entry in curve)
    return next(entry for entry in curve if entry["score"] >= NEARLY * best)


def best_within(row: Row, seconds: float) -> float | None:
    """Return the best validation score of a run up to ``seconds`` of processor time.

    0.0 where it had none yet; None where it was not trained that long (and did not stop early by itself),
    and where the row has no learning curve.
    """
    points = _curve(row)
    if not points or (points[-1][0] < seconds and row["epochs"] == row["epochs_allowed"]):
        return None
    return max((score for at, score in points if at <= seconds), default=0.0)


def command_of(dataset: str, record: Mapping[str, Any]) -> str:
    """Return the command of a run; with the row's ``chosen`` behind it, later versions repeat the run too.

    It has what the run was given, and the values that the package's own property files had for the model.
    """
    given = _settings(record["spec"])
    chosen = record.get("chosen_settings", {})  # by the recipe, once the data are read
    of_package = {
        key: value
        for key, value in record["package_settings"].items()
        if value is not None and key not in chosen
    }
    settings = {**of_package, **given}
    if {**of_package, **chosen}.get("train_batch_positions") and "train_batch_size" not in given:
        settings.pop("train_batch_size", None)  # in force only without these
    words = ["recbole-sce", "run", "--model", record["model"], "--dataset", dataset, "--data_path=DATA_PATH"]
    words += _as_options({key: value for key, value in settings.items() if key not in _NOT_IN_COMMAND})
    return shlex.join(words)  # which puts it into single quotes


def _as_options(settings: Mapping[str, Any]) -> list[str]:
    words = []
    for key, value in sorted(settings.items()):
        text = str(value)
        words.append(f"--{key}={text}" if '"' in text else f"--{key}={text}".replace("'", '"'))
    return words


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a run, as numbers where they were given as text."""
    given = {**spec["config_files"], **spec["settings"]}
    return {key: _number(value) if isinstance(value, str) else value for key, value in given.items()}


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# The file


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV; none if it is not there yet."""
    return read_csv(path)


def merged(rows: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Return ``rows`` with ``new`` ones in the place of those of the same data set, label and seed.

    Raises:
        QualityError: rows of one label on one data set have other settings than the seed, given or, of a run
            that has ended, chosen.
    """
    by_run = {(row["dataset"], row["label"], int(row["seed"])): row for row in (*rows, *new)}
    settings: dict[tuple[str, str, str], str] = {}
    for (dataset, label, seed), row in by_run.items():
        words = shlex.split(row["command"])
        words.remove(f"--seed={seed}")
        for kind, text in (("command", shlex.join(words)), ("chosen", row.get("chosen"))):
            if text is not None and settings.setdefault((dataset, label, kind), text) != text:
                raise QualityError(
                    f"{label} on {dataset} would stand for two settings; give one of them another label:\n"
                    f"  {settings[dataset, label, kind]}\n  {text}"
                )
    return [by_run[key] for key in sorted(by_run, key=lambda key: (_place(key[0]), key))]


def _place(dataset: str) -> int:
    return DATASETS.index(dataset) if dataset in DATASETS else len(DATASETS)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a CSV so that ``path`` holds either what it held before or all rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = dict.fromkeys(column for row in rows for column in row)
    with whole_file(path) as stream:
        file = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.DictWriter(file, list(columns), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
        file.detach()


def collect(folders: Iterable[Path]) -> list[Row]:
    """Return the rows of all finished runs in folders of ``recbole-sce compare``.

    Raises:
        QualityError: a folder has no ``runs``.
    """
    rows = []
    for folder in folders:
        if not (folder / "runs").is_dir():
            raise QualityError(f"{folder} is no folder of recbole-sce compare: it has no runs")
        for path in sorted((folder / "runs").glob("*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["status"] == "done":
                by_user = path.with_suffix(".npz")
                error = standard_error(by_user, "ndcg@10") if by_user.exists() else None
                rows.append({**row_of(record["spec"]["dataset"], record), ERROR: _text(error)})
    return rows


def standard_error(by_user: Path, metric: str) -> float | None:
    """Return the standard error over users of a run's mean; None where the file has no such metric."""
    with np.load(by_user) as metrics:
        if metric not in metrics:
            return None
        values = metrics[metric]
    return float(values.std(ddof=1) / math.sqrt(len(values)))


# The page


def render(rows: Sequence[Row], page: Path) -> list[Path]:
    """Put tables of the rows and pictures of the defaults into a page; return what was written.

    Figures go between two marks of the page, all else in it stays; a page that is not there is begun.

    Raises:
        QualityError: there are no rows, or the page has no such marks.
    """
    if not rows:
        raise QualityError("there are no rows to make tables of")
    pictures = {name: page.with_name(f"{page.stem}-{name}.svg") for name in ("memory", "time")}
    images = [f"![Quality against {name}]({path.name})" for name, path in pictures.items()]
    parts = [_dataset_part(dataset, labels) for dataset, labels in groups(rows).items()]
    begun = "# Quality\n\n<!-- figures: begin -->\n<!-- figures: end -->\n"
    text = page.read_text(encoding="utf-8") if page.exists() else begun
    texts = {page: between(text, "figures", "\n\n".join([*images, *parts]), page)}
    defaults = _defaults(rows)
    ends, curves = (
        {name: {model: of(own.get(model, [])) for model in _PICTURED} for name, own in defaults.items()}
        for of in (_end, _curves)
    )
    texts[pictures["memory"]] = svg(panels(ends, "peak resident memory [MiB]", "test NDCG@10"))
    texts[pictures["time"]] = svg(panels(curves, "processor time of training [s]", "validation NDCG@10"))
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    return list(texts)


def _end(own: Sequence[Row]) -> list[list[tuple[float, float]]]:
    """Return peak memory and test score of a group of rows as a curve of one point; none where unknown."""
    memory, score = mean(own, "resident_mib")[0], mean(own, "ndcg@10")[0]
    return [] if memory is None or score is None else [[(memory, score)]]


def _curves(own: Sequence[Row]) -> list[list[tuple[float, float]]]:
    """Return the learning curves that were kept of a group of rows."""
    return [curve for curve in map(_curve, own) if curve]


def _curve(row: Row) -> list[tuple[float, float]]:
    """Return a run's validation scores: (processor seconds, score) each; nothing where none was kept."""
    points = [point.split(":") for point in row.get("curve", "").split()]
    return [(float(seconds), float(score)) for seconds, score in points]


def _defaults(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Return, by data set and model, the rows of models with their defaults; those of no row are left out.

    RecBole's models may have been allowed different numbers of epochs, as their labels say: the most count.
    """
    defaults: dict[str, dict[str, list[Row]]] = {}
    for dataset, labels in groups(rows).items():
        pictured = _OF_TODAY if labels.keys() >= set(_OF_TODAY.values()) else _OF_64_ROWS
        trained = {name: labels.get(label, []) for name, label in pictured.items()}
        for model in _RECBOLES:
            own = [kept for label, kept in labels.items() if re.fullmatch(rf"{model}(-\d+-epochs)?", label)]
            trained[model] = max(own, key=lambda kept: int(kept[0]["epochs_allowed"]), default=[])
        defaults[dataset] = {model: kept for model, kept in trained.items() if kept}
    return defaults


def between(text: str, name: str, figures: str, page: Path) -> str:
    """Return the text of a page with figures between its marks of that name."""
    marks = [f"<!-- {name}: {end} -->" for end in ("begin", "end")]
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise QualityError(f"{page} has no lines {' and '.join(marks)}, between which figures would go")
    return before + "\n\n".join([begin, figures, end]) + after


def groups(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Return the rows by data set and label."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row["dataset"], {}).setdefault(row["label"], []).append(row)
    return groups


_HEADINGS = {
    "ndcg@10": ("NDCG@10", 4),
    "recall@10": ("Recall@10", 4),
    "itemcoverage@10": ("coverage@10", 3),
    "epochs": ("epochs", 0),
    "training_seconds": ("training [s]", 0),
    "training_cpu_seconds": ("processor [s]", 0),
    "cpu_seconds_to_95": ("to 95 % [processor s]", 0),
    "resident_mib": ("peak [MiB]", 0),
    "resident_before_training_mib": ("before training [MiB]", 0),
    "bucket_coverage": ("states in buckets", 3),
}


def _dataset_part(dataset: str, labels: Mapping[str, Sequence[Row]]) -> str:
    first = next(iter(labels.values()))[0]
    means = {label: mean(own, "ndcg@10")[0] for label, own in labels.items()}
    enough = min(_ENOUGH_SEEDS, max(len(own) for own in labels.values()))
    best = max(means[label] or 0.0 for label, own in labels.items() if len(own) >= enough)
    lines = [
        f"### {dataset}",
        "",
        f"{int(first['users']):,} users, {int(first['items']):,} items, {int(first['test_users']):,} tested.",
        "",
        "| | seeds | " + " | ".join(heading for heading, _ in _HEADINGS.values()) + " |",
        "|---|---|" + "---:|" * len(_HEADINGS),
    ]
    for label, own in labels.items():
        cells = [spread(mean(own, column), decimals) for column, (_, decimals) in _HEADINGS.items()]
        if len(own) >= enough and means[label] == best:
            cells[0] = f"**{cells[0]}**"
        if any(row["epochs"] == row["epochs_allowed"] for row in own):
            cells[3] += " (all)"
        seeds = ", ".join(row["seed"] for row in own)
        lines.append(f"| {label} | {seeds} | " + " | ".join(cells) + " |")
    lines += _at_equal_time(labels)
    commands = [f"{own[0]['command']} {own[0].get('chosen', '')}".strip() for own in labels.values()]
    lines += ["", "<details><summary>The command of each row (other seeds: <code>--seed</code>)</summary>"]
    lines += ["", "```", *commands, "```", "", "</details>", ""]
    lines += _machines(row for own in labels.values() for row in own)
    return "\n".join(lines)


def _at_equal_time(labels: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return the lines of a table of the best validation scores within equal processor times."""
    lines = []
    for label, own in labels.items():
        kept = [row for row in own if row.get("curve")]
        cells = []
        for seconds in TIMES:
            scores = [score for score in (best_within(row, seconds) for row in kept) if score is not None]
            cells.append(f"{statistics.fmean(scores):.4f}" if scores and len(scores) == len(kept) else "-")
        if set(cells) != {"-"}:
            lines.append(f"| {label} | {', '.join(row['seed'] for row in kept)} | {' | '.join(cells)} |")
    if not lines:
        return []
    head = "| validation NDCG@10 within processor seconds | seeds | " + " | ".join(map(str, TIMES)) + " |"
    return ["", head, "|---|---|" + "---:|" * len(TIMES), *lines]


def _machines(rows: Iterable[Row]) -> list[str]:
    sentences = dict.fromkeys(
        f"{row['gpu'] or row['processor']}, {row['threads']} of {row['cores']} cores; "
        f"Python {row['python']}, torch {row['torch']}, recbole {row['recbole']}, "
        f"recbole_sce {row['recbole_sce']}."
        for row in rows
    )
    return list(sentences)


def mean(rows: Sequence[Row], column: str) -> tuple[float | None, float | None]:
    """Return mean (None of nothing) and sample standard deviation (None of less than two) over rows."""
    values = [float(row[column]) for row in rows if row.get(column)]
    center = statistics.fmean(values) if values else None
    return center, statistics.stdev(values) if len(values) > 1 else None


def spread(pair: tuple[float | None, float | None], decimals: int) -> str:
    value, deviation = pair
    if value is None:
        return "-"
    text = f"{value:,.{decimals}f}"
    return text if deviation is None else f"{text} ± {deviation:,.{decimals}f}"


# The command


def _run(arguments: argparse.Namespace, overrides: Mapping[str, str]) -> int:
    failed = 0

    def listen(dataset: str, event: Event) -> None:
        nonlocal failed
        name = f"[{event.number}/{event.of}] {dataset}, {event.label}, seed {event.seed}"
        if event.kind == "started":  # a row that could not be kept is refused before it is trained
            planned = {"dataset": dataset, "label": event.label, "seed": str(event.seed)}
            planned["command"] = command_of(dataset, event.detail)
            merged(read_rows(arguments.csv), [planned])
        elif event.kind in ("done", "skipped"):
            rows = merged(read_rows(arguments.csv), [row_of(dataset, event.detail)])
            write_rows(arguments.csv, rows)
            print(f"{name}: {event.kind}, ndcg@10 {event.detail['metrics']['test']['ndcg@10']:.4f}")
        elif event.kind == "failed":
            failed += 1
            print(f"{name}: failed: {event.detail['error']}", file=sys.stderr)

    for dataset in arguments.datasets:
        settings: dict[str, Any] = {**SETTINGS, **SETTINGS_OF.get(dataset, {}), **overrides}
        if arguments.data_path is not None:
            settings["data_path"] = str(arguments.data_path)
        compare(
            [candidate(text, dataset, overrides) for text in arguments.models],
            dataset,
            seeds=arguments.seeds,
            settings=settings,
            out=arguments.out / dataset,
            listener=partial(listen, dataset),
        )
    return 1 if failed else 0


def candidate(text: str, dataset: str, overrides: Mapping[str, str]) -> Candidate:
    """Read ``[label=]Model[:loss]``, with settings of its own, all but those that are overridden.

    Models of recbole_sce get their default recipe, and RecBole's own what :data:`SETTINGS_OF_RECBOLES` says.
    """
    from recbole_sce.plugin import registered_models

    parsed = Candidate.parse(text)
    own = SETTINGS_OF_RECBOLES.get(dataset, {})
    if parsed.model in registered_models():
        own = {"recipe": "auto"} if parsed.model == _OURS else {}
    return replace(parsed, settings={key: own[key] for key in own if key not in overrides})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quality.py",
        description="Quality, time and memory of models and losses on real data: one row of a CSV a run.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="train and test; the same command goes on where it was interrupted",
        description="Train and test every model on every data set with every seed. --key=value is a setting "
        "for all of them, as in recbole-sce run.",
    )
    run.add_argument("--data-path", type=Path, help="folder of the data sets (default: RecBole's)")
    run.add_argument("--datasets", nargs="+", default=list(DATASETS), help="default: %(default)s")
    run.add_argument(
        "--models", nargs="+", default=list(MODELS), metavar="[LABEL=]MODEL[:LOSS]", help="default: all"
    )
    run.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: %(default)s")
    run.add_argument("--out", type=Path, default=Path("quality-runs"), help="default: %(default)s")
    of_compare = commands.add_parser("collect", help="take the finished runs of recbole-sce compare")
    of_compare.add_argument("folders", nargs="+", type=Path)
    page = commands.add_parser("render", help="put tables and pictures into the page")
    page.add_argument("--page", type=Path, default=_PAGE, help="default: %(default)s")
    for command in (run, of_compare, page):
        command.add_argument("--csv", type=Path, default=_CSV, help="default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark with command-line arguments; return the exit status."""
    parser = _parser()
    arguments, further = parser.parse_known_args(argv)
    overrides = {}
    for text in further:
        key, equals, value = text[2:].partition("=")
        if arguments.command != "run" or not text.startswith("--") or not equals:
            parser.error(f"{text!r} is neither an option nor a setting of the form --key=value")
        overrides[key] = value
    try:
        if arguments.command == "run":
            return _run(arguments, overrides)
        rows = read_rows(arguments.csv)
        if arguments.command == "collect":
            rows = merged(rows, collect(arguments.folders))
            write_rows(arguments.csv, rows)
            print(f"{arguments.csv}: {len(rows)} rows")
        else:
            print(*render(rows, arguments.page), sep="\n")
    except (QualityError, ExperimentError) as error:
        parser.error(str(error))
    return 0
