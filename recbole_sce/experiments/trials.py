"""The trials of a search as files: CSV, Markdown, RecBole's result file, and a page with plots."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import pandas as pd

from recbole_sce.experiments.plots import COLOURS, axis, division, layout, new_figure, page
from recbole_sce.experiments.tuning import Tuning

#: Plots of single parameters beside each other.
_COLUMNS = 3
#: From this ratio of largest to smallest on, an axis of a parameter is logarithmic.
_WIDE = 20
#: Up to so many trials each has a tick of its own.
_EACH_TICK = 24


def write_trials(
    tuning: Tuning,
    output_file: Union[str, Path, None] = None,
    display_file: Union[str, Path, None] = None,
) -> dict[str, Path]:
    """Write ``trials.csv`` and ``trials.md`` into the search's folder, and a result file and a page.

    Args:
        tuning: the search.
        output_file: the result file, in the form of RecBole's ``HyperTuning.export_result``; None:
            ``hyper.result`` in the folder.
        display_file: the page; None: ``trials.html`` in the folder.

    Returns:
        What was written, by its ending (``result`` for the result file).
    """
    written = {
        "csv": tuning.folder / "trials.csv",
        "md": tuning.folder / "trials.md",
        "result": Path(output_file or tuning.folder / "hyper.result"),
        "html": Path(display_file or tuning.folder / "trials.html"),
    }
    table = trials_table(tuning)
    texts = {
        "csv": table.to_csv(index=False),
        "md": _markdown(tuning, table),
        "result": result_text(tuning),
        "html": trials_page(tuning, table),
    }
    for ending, text in texts.items():
        written[ending].write_text(text, encoding="utf-8", newline="\n")
    return written


def trials_table(tuning: Tuning) -> pd.DataFrame:
    """Return one row a trial: number, status, parameters, score, valid and test metrics, costs, error."""
    rows = []
    for trial in tuning.trials:
        row = {"trial": trial["trial"], "status": trial["status"]}
        row.update({name: _text(trial["params"][name]) for name in tuning.names})
        row["score"] = trial["score"]
        row.update({f"valid_{name}": value for name, value in trial["valid"].items()})
        row.update({f"test_{name}": value for name, value in trial["test"].items()})
        row.update({key: trial[key] for key in ("epochs", "seconds", "resident_mib", "error")})
        rows.append(row)
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def result_text(tuning: Tuning) -> str:
    """Return the finished trials in the form of RecBole's ``HyperTuning.export_result``."""
    parts = []
    for trial in tuning.trials:
        if trial["status"] == "done":
            metrics = [
                f"{title} result:\n" + "    ".join(f"{name} : {value}" for name, value in trial[key].items())
                for title, key in (("Valid", "valid"), ("Test", "test"))
            ]
            params = ", ".join(f"{name}:{_text(value)}" for name, value in trial["params"].items())
            parts.append("\n".join([params, *metrics]) + "\n\n")
    return "".join(parts)


def trials_page(tuning: Tuning, table: pd.DataFrame) -> str:
    """Return the page: the course of the search, the score against each parameter, and the table."""
    best = tuning.best()
    failed = int((table["status"] == "failed").sum())
    lead = f"{len(table)} trials, {failed} failed. Score: validation {tuning.valid_metric.lower()}."
    parts = [f"<p>{html.escape(lead)}</p>"]
    if best is not None:
        settings = ", ".join(f"{name} = {_text(value)}" for name, value in best["params"].items())
        parts += [
            f"<p>Best: trial {best['trial']}, score {best['score']:.4f}, with "
            f"<b>{html.escape(settings)}</b>.</p>",
            "<h2>Course of the search</h2>",
            division(_course(tuning), "course"),
            "<h2>Score against each parameter</h2>",
            division(_by_parameter(tuning), "parameters"),
        ]
    parts += ["<h2>Trials, best first</h2>", _html_table(tuning, table)]
    return page(f"Search for {tuning.model} on {tuning.dataset}", parts)


def _course(tuning: Tuning) -> Any:
    """Return the score of each trial and the best so far."""
    done = [trial for trial in tuning.trials if trial["status"] == "done"]
    failed = [trial for trial in tuning.trials if trial["status"] == "failed"]
    better = max if tuning.bigger else min
    scores = [trial["score"] for trial in done]
    numbers = [trial["trial"] for trial in done]
    figure = new_figure()
    figure.add_scatter(
        x=numbers,
        y=[better(scores[: position + 1]) for position in range(len(scores))],
        mode="lines",
        line={"shape": "hv", "color": "#5b6875", "width": 1.5},
        name="best so far",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=numbers,
        y=scores,
        mode="markers",
        marker={"color": COLOURS[0], "size": 9},
        name="trial",
        text=[_lines(trial) for trial in done],
        hovertemplate="trial %{x}<br>%{y:.4f}<br>%{text}<extra></extra>",
    )
    if failed:
        figure.add_scatter(
            x=[trial["trial"] for trial in failed],
            y=[min(scores)] * len(failed),
            mode="markers",
            marker={"color": COLOURS[1], "size": 9, "symbol": "x"},
            name="failed",
            text=[_lines(trial) for trial in failed],
            hovertemplate="trial %{x} failed<br>%{text}<extra></extra>",
        )
    figure.update_layout(**layout("trial", f"validation {tuning.valid_metric.lower()}", height=400))
    figure.update_xaxes(tickformat="d", dtick=1 if len(tuning.trials) <= _EACH_TICK else None)
    return figure


def _by_parameter(tuning: Tuning) -> Any:
    """Return a small plot a parameter: the score of each trial against its value."""
    from plotly.subplots import make_subplots  # type: ignore[import-untyped]

    done = [trial for trial in tuning.trials if trial["status"] == "done"]
    rows = -(-len(tuning.names) // _COLUMNS)
    figure = make_subplots(
        rows=rows, cols=min(_COLUMNS, len(tuning.names)), shared_yaxes=True, vertical_spacing=0.28 / rows
    )
    figure.update_layout(**{**layout("", "", height=60 + 270 * rows), "showlegend": False})
    for position, name in enumerate(tuning.names):
        where = {"row": position // _COLUMNS + 1, "col": position % _COLUMNS + 1}
        values = [trial["params"][name] for trial in done]
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        # a few values that come again are choices; others have their place on a scale
        few = len(set(map(_text, values))) <= min(6, len(values) - 1)
        wide = numbers and not few and bool(values) and max(values) > _WIDE * min(values) > 0
        figure.add_scatter(
            x=[_text(value) for value in values] if few or not numbers else values,
            y=[trial["score"] for trial in done],
            mode="markers",
            marker={"color": COLOURS[0], "size": 8, "opacity": 0.65},
            text=[_lines(trial) for trial in done],
            hovertemplate="%{y:.4f}<br>%{text}<extra></extra>",
            **where,
        )
        figure.update_xaxes(
            **axis(),
            type="log" if wide else None,
            title={"text": f"{name} [logarithmic]" if wide else name},
            **where,
        )
        if few or not numbers:
            order = sorted(
                set(map(_text, values)), key=lambda text: (_as_number(text) is None, _as_number(text), text)
            )
            figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, **where)
        figure.update_yaxes(**axis(), **where)
        if where["col"] == 1:
            figure.update_yaxes(title={"text": f"validation {tuning.valid_metric.lower()}"}, **where)
    return figure


def _sorted(tuning: Tuning, table: pd.DataFrame) -> pd.DataFrame:
    """Return the trials, the best first, the failed last."""
    found: pd.DataFrame = table.sort_values("score", ascending=not tuning.bigger, kind="stable")
    return found


def _shown(tuning: Tuning, table: pd.DataFrame) -> list[str]:
    tests = [column for column in table.columns if column.startswith("test_")]
    return ["trial", *tuning.names, "score", *tests, "epochs", "seconds"]


def _html_table(tuning: Tuning, table: pd.DataFrame) -> str:
    columns, best = _shown(tuning, table), tuning.best()
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = ""
    for row in _sorted(tuning, table).to_dict("records"):
        mark = " class=best" if best is not None and row["trial"] == best["trial"] else ""
        if row["status"] == "failed":
            cells = f"<td colspan={len(columns) - len(tuning.names) - 1} class=text>failed: "
            cells += f"{html.escape(str(row['error']))}</td>"
            shown = columns[: len(tuning.names) + 1]
        else:
            cells, shown = "", columns
        body += "<tr>" + "".join(f"<td{mark}>{html.escape(_figure_text(row[c]))}</td>" for c in shown) + cells
        body += "</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _markdown(tuning: Tuning, table: pd.DataFrame) -> str:
    columns, best = _shown(tuning, table), tuning.best()
    lines = ["| " + " | ".join(columns) + " |", "|" + "---:|" * len(columns)]
    for row in _sorted(tuning, table).to_dict("records"):
        cells = [_figure_text(row[column]) for column in columns]
        if row["status"] == "failed":
            cells[len(tuning.names) + 1] = "failed"
        if best is not None and row["trial"] == best["trial"]:
            cells = [f"**{cell}**" for cell in cells]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _lines(trial: Mapping[str, Any]) -> str:
    return "<br>".join(
        f"{html.escape(name)} = {html.escape(_text(v))}" for name, v in trial["params"].items()
    )


def _figure_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if not isinstance(value, float):
        return str(value)
    if value > 1 and value.is_integer():
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.4f}"  # seconds, and scores


def _as_number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    """Return a parameter's value as it would be written on a command line."""
    return (
        value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
    )
