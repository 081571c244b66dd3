"""A comparison as one self-contained HTML page: table, plots, learning curves, settings; needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
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
from recbole_sce.experiments.tables import Table, cost_table, quality_table, write_tables

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
    done = comparison.done()
    parts = [_lead(comparison)]
    if comparison.failed():
        parts.append(_failures(comparison.failed()))
    if done:
        summary, significance = summary_table(comparison), significance_table(comparison)
        parts += [
            "<h2>Results</h2>",
            _html_table(quality_table(comparison, summary, significance)),
            _html_table(cost_table(comparison, summary)),
            "<h2>Quality against memory and time</h2>",
            '<p class="soft">Large marks are means over seeds with their standard deviation, small ones '
            "single runs. Up and to the left is better. Memory is the peak of the whole process; seconds are "
            "of training alone, without validation and test.</p>",
            '<div class="pair">',
            division(_against_memory(comparison, summary), "memory"),
            division(_against_seconds(comparison, summary), "seconds"),
            "</div>",
            "<h2>Learning curves</h2>",
            '<p class="soft">The metric that chooses the model to test, on the validation data after each '
            "epoch; a line is a run. Click a name to hide it, twice to see it alone.</p>",
            division(_learning_curves(comparison), "curves"),
            _significance(significance),
        ]
    parts += _circumstances(comparison)
    return page(f"Comparison on {comparison.dataset}", parts)


def _lead(comparison: Comparison) -> str:
    done = comparison.done()
    seeds = sorted({record["seed"] for record in comparison.records})
    labels = list(dict.fromkeys(record["label"] for record in comparison.records))
    size = ""
    if done:
        data = done[0]["data"]
        size = f" {data['users']:,} users, {data['items']:,} items; {data['test_users']:,} users tested."
    return (
        f"<p>{html.escape(', '.join(labels))}; seeds {', '.join(map(str, seeds))}; "
        f"{len(done)} of {len(comparison.records)} runs finished.{size}</p>"
    )


def _failures(failed: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<p><b>{html.escape(record['label'])}</b>, seed {record['seed']}: {html.escape(record['error'])}</p>"
        for record in failed
    )
    return f'<h2>Failed runs</h2><div class="failed">{rows}</div>'


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(heading).replace(' [', '<br>[')}</th>" for heading in table.headings)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=best' if cell.best else ''}>{html.escape(cell.text)}{'*' * cell.worse}</td>"
            for cell in row
        )
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="soft">{html.escape(table.caption)}</p>'
    )


def _against_memory(comparison: Comparison, summary: pd.DataFrame) -> Any:
    on_device = summary["device_mib"].notna().any()
    column = "device_mib" if on_device else "resident_mib"
    figure = _scatter(
        comparison, summary, column, f"peak memory, {'device' if on_device else 'resident'} [MiB]", False
    )
    if not on_device:
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
    values: dict[str, list[dict[str, Any]]] = {metric: [] for metric in metrics}
    for number, row in enumerate(summary.to_dict("records")):
        if not row["runs"]:
            continue
        label, own = str(row["label"]), runs[(runs["label"] == row["label"]) & (runs["status"] == "done")]
        style = {"color": COLOURS[number % len(COLOURS)], "symbol": SHAPES[number % len(SHAPES)]}
        spread = [_number(row[f"{column}_std"])]
        figure.add_scatter(
            x=[row[column]],
            y=[row[chosen]],
            error_x={"array": spread, "thickness": 1.2},
            error_y={"array": [_number(row[f"{chosen}_std"])], "thickness": 1.2},
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
        for metric in metrics:
            values[metric] += [
                {"y": [row[metric]], "error_y": {"array": [_number(row[f"{metric}_std"])], "thickness": 1.2}},
                {"y": own[metric].tolist(), "error_y": {"array": [], "thickness": 1.2}},
            ]
    buttons = [
        {
            "label": metric,
            "method": "update",
            "args": [
                {key: [trace[key] for trace in values[metric]] for key in ("y", "error_y")},
                {"yaxis.title.text": f"test {metric}"},
            ],
        }
        for metric in metrics
    ]
    figure.update_layout(**layout(heading, f"test {chosen}", height=430))
    figure.update_layout(**menu(buttons, metrics.index(chosen)))
    figure.update_xaxes(type="log" if log else "linear", rangemode="normal" if log else "tozero")
    if log:
        figure.update_xaxes(dtick="D2" if summary[column].max() < 500 * summary[column].min() else 1)
    figure.update_yaxes(rangemode="tozero", tickformat=".3~f")
    return figure


def _learning_curves(comparison: Comparison) -> Any:
    """Return the validation score after each epoch, against training seconds or epochs."""
    figure, by_seconds, by_epoch = new_figure(), [], []
    numbers = {label: n for n, label in enumerate(dict.fromkeys(r["label"] for r in comparison.records))}
    shown: set[str] = set()
    for record in comparison.done():
        label, curve = record["label"], record["curve"]
        if not curve:
            continue
        by_seconds.append([entry["training_seconds"] for entry in curve])
        by_epoch.append([entry["epoch"] for entry in curve])
        figure.add_scatter(
            x=by_seconds[-1],
            y=[entry["score"] for entry in curve],
            mode="lines+markers",
            name=label,
            legendgroup=label,
            showlegend=label not in shown,
            line={"color": COLOURS[numbers[label] % len(COLOURS)], "width": 1.8},
            marker={"symbol": SHAPES[numbers[label] % len(SHAPES)], "size": 6},
            customdata=by_epoch[-1],
            hovertemplate=f"{html.escape(label)}, seed {record['seed']}<br>epoch %{{customdata}}"
            "<br>%{y:.4f}<extra></extra>",
        )
        shown.add(label)
    metric = str(comparison.done()[0]["valid_metric"]).lower()
    figure.update_layout(**layout("training time [s]", f"validation {metric}", height=460))
    everything = [x for line in by_seconds for x in line if x > 0]
    wide = bool(everything) and max(everything) > _WIDE * min(everything)
    choices = (
        ("seconds", by_seconds, "training time [s]", "linear"),
        ("seconds, logarithmic", by_seconds, "training time [s, logarithmic]", "log"),
        ("epochs", by_epoch, "epoch", "linear"),
    )
    buttons = [
        {
            "label": f"against {label}",
            "method": "update",
            "args": [{"x": x}, {"xaxis.title.text": heading, "xaxis.type": kind, "xaxis.autorange": True}],
        }
        for label, x, heading, kind in choices
    ]
    figure.update_layout(**menu(buttons, 1 if wide else 0))
    if wide:
        figure.update_xaxes(type="log", title={"text": choices[1][2]})
    figure.update_yaxes(rangemode="tozero", tickformat=".3~f")
    return figure


def _significance(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    head = "<tr><th>metric</th><th>best</th><th>other</th><th>users</th><th>difference</th>"
    head += "<th>95 % interval</th><th>p</th><th>p, Holm</th></tr>"
    body = "".join(
        f"<tr><td>{row['metric']}</td><td>{html.escape(row['best'])}</td><td>{html.escape(row['other'])}</td>"
        f"<td>{row['users']:,}</td><td>{row['difference']:+.4f}</td>"
        f"<td>{row['low_95']:+.4f} to {row['high_95']:+.4f}</td><td>{_p(row['p'])}</td>"
        f"<td{' class=best' if row['p_holm'] < LEVEL else ''}>{_p(row['p_holm'])}</td></tr>"
        for row in table.to_dict("records")
    )
    return (
        "<h2>Is the best one better?</h2>"
        '<p class="soft">Paired two-sided t-test, one pair a test user, values averaged over seeds; '
        f"Holm-corrected for the number of comparisons of each metric; below {LEVEL} marked. It tells "
        "whether the difference would hold for other users, not for other seeds.</p>"
        f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _circumstances(comparison: Comparison) -> list[str]:
    """Return protocol, settings that were asked for, machine and versions."""
    parts = ["<h2>Protocol</h2>", _pairs(comparison.protocol)]
    settings: dict[str, dict[str, Any]] = {}
    for record in comparison.records:
        asked = {**record["spec"]["config_files"], **record["spec"]["settings"]}
        settings[record["label"]] = {
            key: value for key, value in asked.items() if key not in comparison.protocol and key != "seed"
        }
    parts += ["<h2>Settings beyond each model's defaults</h2>"]
    parts.append(_pairs({label: own or "none" for label, own in settings.items()}))
    machines = {json.dumps(r["machine"], sort_keys=True): r["machine"] for r in comparison.done()}
    for machine in machines.values():
        known = {key: value for key, value in machine.items() if value is not None}
        parts += ["<h2>Machine and versions</h2>", _pairs(known)]
    return parts


def _pairs(content: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(key))}</td>"
        f"<td class=text><code>{html.escape(_plain(value))}</code></td></tr>"
        for key, value in content.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {inner}" for key, inner in value.items())
    return str(value)


def _number(value: Any) -> float:
    return 0.0 if pd.isna(value) else float(value)


def _p(p: float) -> str:
    return "-" if pd.isna(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}"
