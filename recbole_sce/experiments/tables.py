"""The summary of a comparison as Markdown and LaTeX, best values bold; all tables as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recbole_sce.experiments.compare import Comparison
from recbole_sce.experiments.summary import (
    COSTS,
    LEVEL,
    best_labels,
    metric_names,
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
    """The summary as text: headings, and a row of cells for each candidate."""

    headings: list[str]
    rows: list[list[Cell]]


def write_tables(comparison: Comparison) -> list[Path]:
    """Write results.csv, summary.csv, .md, .tex and significance.csv into the comparison's folder."""
    summary, significance = summary_table(comparison), significance_table(comparison)
    table = formatted(comparison, summary, significance)
    texts = {
        "results.csv": runs_table(comparison).to_csv(index=False),
        "summary.csv": summary.to_csv(index=False),
        "significance.csv": significance.to_csv(index=False),
        "summary.md": markdown(table, caption(comparison)),
        "summary.tex": latex(table, caption(comparison)),
    }
    for name, text in texts.items():
        (comparison.folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [comparison.folder / name for name in texts]


def caption(comparison: Comparison) -> str:
    """Return what the reader of the table has to know."""
    seeds = len({record["seed"] for record in comparison.records})
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"Test results on {comparison.dataset}: {spread}; best metric bold; * significantly worse than the "
        f"best (paired t-test over users, Holm-corrected, p < {LEVEL})."
    )


def formatted(comparison: Comparison, summary: pd.DataFrame, significance: pd.DataFrame) -> Table:
    """Return the summary as text; costs that no run has (device memory on a CPU) are left out."""
    metrics = metric_names(comparison)
    costs = [cost for cost in COSTS if summary[cost[0]].notna().any()]
    headings = ["model", *metrics, *(f"{name} [{unit}]" if unit else name for _, _, name, unit in costs)]
    worse = {
        (row["metric"], row["other"])
        for row in significance.to_dict("records")
        if row["p_holm"] < LEVEL  # False for NaN
    }
    rows = []
    for position in range(len(summary)):
        row = summary.iloc[position]
        label = str(row["label"])
        failed = f" ({row['failed']} of {row['runs'] + row['failed']} runs failed)" if row["failed"] else ""
        cells = [Cell(label + failed)]
        for metric in metrics:
            best = label in best_labels(summary, metric)
            cells.append(Cell(_spread(row, metric, 4), best, (metric, label) in worse))
        for column, _, _, unit in costs:
            cells.append(Cell(_spread(row, column, 2 if unit == "s" else 0)))
        rows.append(cells)
    return Table(headings, rows)


def _spread(row: pd.Series, figure: str, decimals: int) -> str:
    mean, std = row[figure], row[f"{figure}_std"]
    if pd.isna(mean):
        return "-"
    if pd.isna(std) or figure in ("parameters", "epochs"):
        return f"{mean:,.{decimals}f}"
    return f"{mean:,.{decimals}f} ± {std:,.{decimals}f}"


def markdown(table: Table, caption: str) -> str:
    """Return the table in Markdown, its numbers aligned to the right."""

    def text(cell: Cell) -> str:
        return (f"**{cell.text}**" if cell.best else cell.text) + (r"\*" if cell.worse else "")

    lines = ["| " + " | ".join(table.headings) + " |", "|" + "---|" + "---:|" * (len(table.headings) - 1)]
    lines += ["| " + " | ".join(text(cell).replace("|", r"\|") for cell in row) + " |" for row in table.rows]
    return "\n".join(lines) + f"\n\n{caption.replace('*', chr(92) + '*')}\n"


def latex(table: Table, caption: str) -> str:
    """Return the table in LaTeX (booktabs), in the manner of ``recbole.utils.list_to_latex``."""

    def text(cell: Cell) -> str:
        inner = _escaped(cell.text)
        return (rf"\bfseries {inner}" if cell.best else inner) + ("$^{*}$" if cell.worse else "")

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(caption)}}}",
            r"\label{tab:comparison}",
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
