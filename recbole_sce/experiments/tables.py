"""The summary of a comparison as Markdown and LaTeX, best values bold; all tables as files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_sce.experiments.comparison import Comparison
from recbole_sce.experiments.summary import (
    COSTS,
    LEVEL,
    best_labels,
    metric_names,
    recipes_in_words,
    runs_table,
    significance_table,
    summary_table,
)


@dataclass(frozen=True)
class Cell:
    """One figure of a table: its text, whether it is the best, and whether it is significantly worse."""

    text: str
    best: bool = False
    worse: bool = False


@dataclass(frozen=True)
class Table:
    """One part of the summary as text: what it tells, headings, and a row of cells for each candidate."""

    caption: str
    headings: list[str]
    rows: list[list[Cell]]


def write_tables(comparison: Comparison) -> list[Path]:
    """Write results.csv, summary.csv, .md, .tex and significance.csv into the comparison's folder."""
    summary, significance = summary_table(comparison), significance_table(comparison)
    quality, costs = quality_table(comparison, summary, significance), cost_table(comparison, summary)
    texts = {
        "results.csv": runs_table(comparison).to_csv(index=False),
        "summary.csv": summary.to_csv(index=False),
        "significance.csv": significance.to_csv(index=False),
        "summary.md": markdown(quality) + "\n" + markdown(costs),
        "summary.tex": latex(quality, "tab:quality") + "\n" + latex(costs, "tab:costs"),
    }
    for name, text in texts.items():
        (comparison.folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [comparison.folder / name for name in texts]


def quality_table(comparison: Comparison, summary: pd.DataFrame, significance: pd.DataFrame) -> Table:
    """Return the test metrics as text, the best of each marked, and what is significantly worse."""
    metrics = metric_names(comparison)
    significant = significance[significance["p_holm"] < LEVEL]  # not NaN
    worse = set(zip(significant["metric"], significant["other"]))
    best = {(metric, label) for metric in metrics for label in best_labels(summary, metric)}
    rows = []
    for row in summary.to_dict("records"):
        places = [(metric, row["label"]) for metric in metrics]
        figures = [Cell(_spread(row, at[0], 4), at in best, at in worse) for at in places]
        rows.append([Cell(_name(row)), *figures])
    note = "best of each metric bold"
    if not significance.empty:
        note += f"; * significantly worse than the best (paired t-test over users, Holm, p < {LEVEL})"
    recipes = recipes_in_words(comparison)
    note += f"; {recipes}" if recipes else ""
    return Table(
        f"Test results on {comparison.dataset}: {_over_seeds(comparison)}{note}.", ["model", *metrics], rows
    )


def cost_table(comparison: Comparison, summary: pd.DataFrame) -> Table:
    """Return seconds, memory and sizes as text; without costs that no run has (device memory on a CPU)."""
    costs = [cost for cost in COSTS if summary[cost[0]].notna().any()]
    headings = ["model", *(f"{name} [{unit}]" if unit else name for _, _, name, unit in costs)]
    rows = [
        [Cell(_name(row)), *(Cell(_spread(row, column, 2 * (unit == "s"))) for column, _, _, unit in costs)]
        for row in summary.to_dict("records")
    ]
    note = "seconds of training alone, memory of the whole process"
    return Table(f"Costs on {comparison.dataset}: {_over_seeds(comparison)}{note}.", headings, rows)


def _over_seeds(comparison: Comparison) -> str:
    seeds = len({record["seed"] for record in comparison.records})
    return f"mean ± standard deviation over {seeds} seeds; " if seeds > 1 else "one seed; "


def _name(row: Mapping[Hashable, Any]) -> str:
    failed = f" ({row['failed']} of {row['runs'] + row['failed']} runs failed)" if row["failed"] else ""
    return f"{row['label']}{failed}"


def _spread(row: Mapping[Hashable, Any], figure: str, decimals: int) -> str:
    mean, std = row[figure], row[f"{figure}_std"]
    if pd.isna(mean):
        return "-"
    if pd.isna(std) or figure in ("parameters", "epochs"):
        return f"{mean:,.{decimals}f}"
    return f"{mean:,.{decimals}f} ± {std:,.{decimals}f}"


def markdown(table: Table) -> str:
    """Return the table in Markdown, its numbers aligned to the right."""

    def text(cell: Cell) -> str:
        return (f"**{cell.text}**" if cell.best else cell.text) + (r"\*" if cell.worse else "")

    lines = ["| " + " | ".join(table.headings) + " |", "|" + "---|" + "---:|" * (len(table.headings) - 1)]
    lines += ["| " + " | ".join(text(cell).replace("|", r"\|") for cell in row) + " |" for row in table.rows]
    return "\n".join(lines) + f"\n\n{table.caption.replace('*', chr(92) + '*')}\n"


def latex(table: Table, reference: str) -> str:
    """Return the table in LaTeX (booktabs), in the manner of ``recbole.utils.list_to_latex``."""

    def text(cell: Cell) -> str:
        inner = _escaped(cell.text)
        return (rf"\bfseries {inner}" if cell.best else inner) + ("$^{*}$" if cell.worse else "")

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(table.caption)}}}",
            rf"\label{{{reference}}}",
            rf"\begin{{tabular}}{{l{'c' * (len(table.headings) - 1)}}}",
            r"\toprule",
            line([_escaped(heading) for heading in table.headings]),
            r"\midrule",
            *(line([text(cell) for cell in row]) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    replaced = {"\\": r"\textbackslash{}", "±": r"$\pm$", "<": "$<$", ">": "$>$"}
    return "".join(replaced.get(char, f"\\{char}" if char in "&%$#_{}" else char) for char in text)
