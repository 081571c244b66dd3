"""Published figures beside rows of ours, seen items left out: a page, and five lines for the README."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.pictures import Curve, levels, svg
from harness.quality import ERROR, Row, between, groups, mean, read_rows, spread

_ROOT = Path(__file__).parents[2]
PUBLISHED = _ROOT / "benchmarks" / "results" / "published.csv"
_ROWS = _ROOT / "benchmarks" / "results" / "quality.csv"
_PAGE = _ROOT / "docs" / "results" / "leave-one-out.md"
_README = _ROOT / "README.md"
#: Labels of rows that leave seen items out, and what the table calls them.
OURS = {
    "SCE-without-seen": "SASRecSCE, SCE",
    "CE-without-seen": "SASRecSCE, exact CE",
    "plain-without-seen": "SASRecSCE, SCE, recipe: plain",
    "base-without-seen": "SASRec of RecBole",
}
#: Standard errors to each side of a mean that 95 of 100 such intervals hold the truth within.
_NORMAL = 1.96


def published_table(rows: Sequence[Row], published: Path = PUBLISHED) -> str:
    """Return a table a data set: figures of papers and of rows that leave seen items out, the best first."""
    return "\n\n".join(_part(dataset, *both) for dataset, both in _beside(rows, published).items())


def overview(rows: Sequence[Row], published: Path = PUBLISHED) -> str:
    """Return one table of all data sets: a line a model of ours, and the best published figure of each."""
    both = _beside(rows, published)
    headings = "".join(f" {dataset} | processor s |" for dataset in both)
    lines = [f"| test NDCG@10 |{headings}", "|---|" + "---:|" * 2 * len(both)]
    for label, name in OURS.items():
        models = [own.get(label, []) for own, _ in both.values()]
        cells = [
            f"{spread(mean(kept, 'ndcg@10'), 4)} | {spread((mean(kept, 'training_cpu_seconds')[0], None), 0)}"
            for kept in models
        ]
        if any(models):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    best = [max(others, key=lambda entry: float(entry["ndcg@10"])) for _, others in both.values()]
    cells = [f"[{float(entry['ndcg@10']):.4f}]({entry['url']}) | " for entry in best]
    return "\n".join([*lines, f"| best published | {'| '.join(cells)}|"])


def picture(rows: Sequence[Row], published: Path = PUBLISHED) -> str:
    """Return test NDCG@10 against processor time as SVG: rows of ours, and figures of papers as lines."""
    curves: dict[str, dict[str, Sequence[Curve]]] = {}
    lines = {}
    for dataset, (own, others) in _beside(rows, published).items():
        curves[dataset] = {
            OURS[label]: [[(float(row["training_cpu_seconds"]), float(row["ndcg@10"]))] for row in kept]
            for label, kept in own.items()
        }
        lines[dataset] = {entry["model"]: float(entry["ndcg@10"]) for entry in others}
    return svg(levels(curves, lines, "processor time of training [s]", "test NDCG@10"))


def _beside(
    rows: Sequence[Row], published: Path
) -> dict[str, tuple[dict[str, list[Row]], list[dict[str, str]]]]:
    """Return, of each data set that has both, rows of ours by label, and those of papers."""
    with published.open(encoding="utf-8", newline="") as file:
        elsewhere = list(csv.DictReader(file))
    both = {}
    for dataset, labels in groups(rows).items():
        own = {label: labels[label] for label in OURS if label in labels}
        others = [entry for entry in elsewhere if entry["dataset"] == dataset]
        if own and others:
            both[dataset] = own, others
    return both


def _part(dataset: str, own: Mapping[str, Sequence[Row]], others: Sequence[Mapping[str, str]]) -> str:
    lines = [(float(entry["ndcg@10"]), _line_of_paper(entry)) for entry in others]
    lines += [(mean(kept, "ndcg@10")[0] or 0.0, _line_of_ours(label, kept)) for label, kept in own.items()]
    lines.sort(key=lambda line: -line[0])
    first = next(iter(own.values()))[0]
    commands = [f"{kept[0]['command']} {kept[0].get('chosen', '')}".strip() for kept in own.values()]
    return "\n".join(
        [
            f"## {dataset}",
            "",
            f"{int(first['users']):,} users, {int(first['items']):,} items.",
            "",
            "| model | test NDCG@10 | over users, 95 % | Recall@10 | seeds | epochs | processor s "
            "| peak MiB | source |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---|",
            *(line for _, line in lines),
            "",
            '??? example "The command of each row (other seeds: `--seed`)"',
            "",
            "    ```shell",
            *(f"    {command}" for command in commands),
            "    ```",
        ]
    )


def _line_of_paper(entry: Mapping[str, str]) -> str:
    score = f"{float(entry['ndcg@10']):.4f}"
    return f"| {entry['model']} | {score} | | | | | | | [{entry['source']}]({entry['url']}) |"


def _line_of_ours(label: str, kept: Sequence[Row]) -> str:
    scores = [spread(mean(kept, name), 4) for name in ("ndcg@10", "recall@10")]
    error = mean(kept, ERROR)[0]
    scores.insert(1, "" if error is None else f"± {_NORMAL * error:.4f}")
    costs = [
        spread((mean(kept, name)[0], None), 0) for name in ("epochs", "training_cpu_seconds", "resident_mib")
    ]
    cells = [f"**{OURS[label]}**", *scores, str(len(kept)), *costs, "this package"]
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Render the page; return the exit status."""
    parser = argparse.ArgumentParser(prog="published.py", description="Published figures beside ours.")
    parser.add_argument("--csv", type=Path, default=_ROWS, help="rows of ours; default: %(default)s")
    parser.add_argument("--page", type=Path, default=_PAGE, help="default: %(default)s")
    parser.add_argument("--readme", type=Path, default=_README, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    rows = read_rows(arguments.csv)
    drawing = arguments.page.with_suffix(".svg")
    figures = {
        arguments.page: f"![Test NDCG@10 against processor time]({drawing.name})\n\n{published_table(rows)}",
        arguments.readme: overview(rows),
    }
    texts = {
        page: between(page.read_text(encoding="utf-8"), "figures", figure, page)
        for page, figure in figures.items()
    }
    texts[drawing] = picture(rows)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    print(*texts, sep="\n")
    return 0
