"""A comparison as one self-contained HTML page: table, plots, learning curves, settings; needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_sce.experiments.comparison import Comparison
from recbole_sce.experiments.plots import COLOURS, SHAPES, division, layout, menu, new_figure, page
from recbole_sce.experiments.summary import (
    LEVEL,
    main_metric,
    metric_names,
    runs_table,
    significance_table,
    summary_table,
)
from recbole_sce.experiments.tables import cost_table, quality_table, write_tables

#: From this ratio of largest to smallest on, an axis of seconds is logarithmic.
_WIDE = 20


def write_report(comparison: Comparison) -> Path:
    """Write all tables and ``report.html`` into the comparison's folder; return the page's path."""
    write_tables(comparison)
    path = comparison.folder / "report.html"
    path.write_text(report(comparison), encoding="utf-8", newline="\n")
    return path


def report(comparison: Comparison) -> str:
    """Return the page."""
    done, records = comparison.done(), comparison.records
    content: dict[str, Any] = {
        "comparison": comparison,
        "labels": list(dict.fromkeys(record["label"] for record in records)),
        "seeds": sorted({record["seed"] for record in records}),
        "settings": {record["label"]: _settings(comparison, record) or "none" for record in records},
        "machines": _machines(done),
    }
    if done:
        summary, significance = summary_table(comparison), significance_table(comparison)
        content |= {
            "quality": quality_table(comparison, summary, significance),
            "costs": cost_table(comparison, summary),
            "memory": division(_against_memory(comparison, summary), "memory"),
            "seconds": division(_against_seconds(comparison, summary), "seconds"),
            "curves": division(_learning_curves(comparison), "curves"),
            "significance": significance.to_dict("records"),
            "level": LEVEL,
        }
    return page("comparison.html", f"Comparison on {comparison.dataset}", **content)


def _settings(comparison: Comparison, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that were asked for, without those of the protocol."""
    asked = {**record["spec"]["config_files"], **record["spec"]["settings"]}
    return {key: value for key, value in asked.items() if key not in comparison.protocol and key != "seed"}


def _machines(done: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the machines that the runs were trained on, each once."""
    distinct = {json.dumps(record["machine"], sort_keys=True): record["machine"] for record in done}
    return [{key: value for key, value in one.items() if value is not None} for one in distinct.values()]


def _against_memory(comparison: Comparison, summary: pd.DataFrame) -> Any:
    place = "device" if summary["device_mib"].notna().any() else "resident"
    figure = _scatter(comparison, summary, f"{place}_mib", f"peak memory, {place} [MiB]", False)
    if place == "resident":
        before = [r["memory_mib"]["resident_before_training"] for r in comparison.done()]
        start, end = sum(before) / len(before), max(r["memory_mib"]["resident"] for r in comparison.done())
        figure.update_xaxes(range=[start - 0.06 * (end - start), end + 0.1 * (end - start)])
        figure.add_vline(
            x=start,
            line={"dash": "dot", "width": 1, "color": "#5b6875"},
            annotation={"text": "before training", "font": {"size": 11, "color": "#5b6875"}},
            annotation_position="bottom right",
        )
    return figure


def _against_seconds(comparison: Comparison, summary: pd.DataFrame) -> Any:
    means = summary["training_seconds"].dropna()
    wide = bool(means.max() > _WIDE * means.min() > 0)
    heading = "training time [s, logarithmic]" if wide else "training time [s]"
    return _scatter(comparison, summary, "training_seconds", heading, wide)


def _scatter(comparison: Comparison, summary: pd.DataFrame, column: str, heading: str, log: bool) -> Any:
    """Return test quality against a cost: each candidate's runs, and their mean with its spread."""
    runs, metrics, chosen = runs_table(comparison), metric_names(comparison), main_metric(comparison)
    figure = new_figure()
    plotted: list[tuple[dict[Hashable, Any], pd.DataFrame]] = []
    spreads = [name for name in summary.columns if name.endswith("_std")]
    for number, row in enumerate(summary.fillna(dict.fromkeys(spreads, 0)).to_dict("records")):
        if not row["runs"]:
            continue
        label, own = str(row["label"]), runs[(runs["label"] == row["label"]) & (runs["status"] == "done")]
        plotted.append((row, own))
        style = {"color": COLOURS[number % len(COLOURS)], "symbol": SHAPES[number % len(SHAPES)]}
        figure.add_scatter(
            x=[row[column]],
            y=[row[chosen]],
            error_x=_bar([row[f"{column}_std"]]),
            error_y=_bar([row[f"{chosen}_std"]]),
            mode="markers",
            name=label,
            legendgroup=label,
            marker={**style, "size": 13, "line": {"width": 1, "color": "#fff"}},
            hovertemplate=f"<b>{html.escape(label)}</b><br>%{{y:.4f}}<br>%{{x:,.1f}}<extra></extra>",
        )
        figure.add_scatter(
            x=own[column].tolist(),
            y=own[chosen].tolist(),
            customdata=own["seed"].tolist(),
            mode="markers",
            legendgroup=label,
            showlegend=False,
            marker={**style, "size": 6, "opacity": 0.45},
            hovertemplate=f"{html.escape(label)}, seed %{{customdata}}<br>%{{y:.4f}}<br>%{{x:,.1f}}"
            "<extra></extra>",
        )
    changes = {}
    for metric in metrics:
        y = [values for row, own in plotted for values in ([row[metric]], own[metric].tolist())]
        bars = [_bar(spread) for row, _ in plotted for spread in ([row[f"{metric}_std"]], [])]
        changes[metric] = ({"y": y, "error_y": bars}, {"yaxis.title.text": f"test {metric}"})
    figure.update_layout(**layout(heading, f"test {chosen}", height=430))
    figure.update_layout(**menu(changes, chosen))
    figure.update_xaxes(type="log" if log else "linear", rangemode="normal" if log else "tozero")
    if log:
        figure.update_xaxes(dtick="D2" if summary[column].max() < 500 * summary[column].min() else 1)
    figure.update_yaxes(rangemode="tozero", tickformat=".3~f")
    return figure


def _bar(spread: list[Any]) -> dict[str, Any]:
    return {"array": spread, "thickness": 1.2}


def _learning_curves(comparison: Comparison) -> Any:
    """Return the validation score after each epoch, against training seconds or epochs."""
    figure, validated = new_figure(), [record for record in comparison.done() if record["curve"]]
    by_seconds = [[entry["training_seconds"] for entry in record["curve"]] for record in validated]
    by_epoch = [[entry["epoch"] for entry in record["curve"]] for record in validated]
    numbers = {label: n for n, label in enumerate(dict.fromkeys(r["label"] for r in comparison.records))}
    for record, seconds, epochs in zip(validated, by_seconds, by_epoch):
        label = record["label"]
        figure.add_scatter(
            x=seconds,
            y=[entry["score"] for entry in record["curve"]],
            mode="lines+markers",
            name=label,
            legendgroup=label,
            showlegend=all(trace.name != label for trace in figure.data),
            line={"color": COLOURS[numbers[label] % len(COLOURS)], "width": 1.8},
            marker={"symbol": SHAPES[numbers[label] % len(SHAPES)], "size": 6},
            customdata=epochs,
            hovertemplate=f"{html.escape(label)}, seed {record['seed']}<br>epoch %{{customdata}}"
            "<br>%{y:.4f}<extra></extra>",
        )
    metric = str(comparison.done()[0]["valid_metric"]).lower()
    figure.update_layout(**layout("training time [s]", f"validation {metric}", height=460))
    everything = [x for line in by_seconds for x in line if x > 0]
    wide = bool(everything) and max(everything) > _WIDE * min(everything)
    logarithmic = "training time [s, logarithmic]"
    choices = {
        "against seconds": (by_seconds, "training time [s]", "linear"),
        "against seconds, logarithmic": (by_seconds, logarithmic, "log"),
        "against epochs": (by_epoch, "epoch", "linear"),
    }
    changes = {
        label: ({"x": x}, {"xaxis.title.text": heading, "xaxis.type": kind, "xaxis.autorange": True})
        for label, (x, heading, kind) in choices.items()
    }
    figure.update_layout(**menu(changes, "against seconds, logarithmic" if wide else "against seconds"))
    if wide:
        figure.update_xaxes(type="log", title={"text": logarithmic})
    figure.update_yaxes(rangemode="tozero", tickformat=".3~f")
    return figure
