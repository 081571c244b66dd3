"""Pictures for pages that cannot run scripts: panels of learning curves and points, drawn by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from recbole_sce.experiments.plots import COLOURS

_ACROSS = 3  # panels side by side
_PANEL = (3.4, 2.6)  # inches
#: From this ratio of largest to smallest on, the horizontal axis is logarithmic.
_WIDE = 20
#: Texts stay texts, and the file depends on the figures alone.
_SVG: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recbole_sce",
    "font.size": 8,
    "font.family": "sans-serif",
}

#: Points (cost, quality): how a run went; one point: what became of it.
Curve = Sequence[tuple[float, float]]


@matplotlib.rc_context(_SVG)
def panels(curves: Mapping[str, Mapping[str, Sequence[Curve]]], x_heading: str, y_heading: str) -> Figure:
    """Return a figure: a legend, and panels, three in a row, of curves with a mark at the end of each.

    Args:
        curves: by a panel's title, then by label, of which there are at most eight. A label has one colour in
            all panels; labels without any curve are left out, and the first is drawn on top.
        x_heading: of each panel's horizontal axis, which is logarithmic where its values are far apart.
        y_heading: of each panel's vertical axis, which begins with 0.
    """
    labels = dict.fromkeys(label for own in curves.values() for label in own)
    drawn = [label for label in labels if any(own.get(label) for own in curves.values())]
    colours = dict(zip(drawn, COLOURS))
    rows = max(math.ceil(len(curves) / _ACROSS), 1)
    figure = Figure(figsize=(_ACROSS * _PANEL[0], rows * _PANEL[1] + 0.4), layout="constrained")
    handles = {}
    for number, (title, own) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(rows, _ACROSS, number)
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        axes.grid(color="#e8ecf0")
        axes.set_axisbelow(True)
        for order, (label, runs) in enumerate(reversed(list(own.items()))):
            for curve in runs:
                xs, ys = zip(*curve)
                style: dict[str, Any] = {
                    "color": colours[label],
                    "linewidth": 1.2,
                    "zorder": 2 + order,
                    "label": label,
                }
                (handles[label],) = axes.plot(xs, ys, marker="o", markersize=5, markevery=[-1], **style)
        points = [x for runs in own.values() for curve in runs for x, _ in curve]
        logarithmic = bool(points) and max(points) > _WIDE * min(points) > 0
        if logarithmic:
            axes.set_xscale("log")
            few = max(points) < 100 * min(points)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x_heading + (", logarithmic" if logarithmic else ""))
        axes.set_ylabel(y_heading)
    if handles:
        in_order = [label for label in drawn if label in handles]
        figure.legend(
            [handles[label] for label in in_order],
            in_order,
            loc="outside upper left",
            ncols=len(in_order),
            frameon=False,
        )
    return figure


@matplotlib.rc_context(_SVG)
def levels(
    curves: Mapping[str, Mapping[str, Sequence[Curve]]],
    lines: Mapping[str, Mapping[str, float]],
    x_heading: str,
    y_heading: str,
) -> Figure:
    """Return what :func:`panels` does, with a named line across a panel at each height of ``lines``.

    Lines that are so near each other that their names would cover each other share one name.
    """
    figure = panels(curves, x_heading, y_heading)
    for axes, points, own in zip(figure.axes, curves.values(), lines.values()):
        heights = [*own.values(), *(y for runs in points.values() for curve in runs for _, y in curve)]
        axes.set_ylim(0.9 * min(heights), 1.05 * max(heights))
        apart = (1.05 * max(heights) - 0.9 * min(heights)) / 20
        names: list[tuple[float, list[str]]] = []
        for name, height in sorted(own.items(), key=lambda pair: -pair[1]):
            axes.axhline(height, color="#9aa5b1", linewidth=0.6, zorder=1)
            if names and names[-1][0] - height < apart:
                names[-1][1].append(name)
            else:
                names.append((height, [name]))
        for height, together in names:
            axes.text(
                0.01,
                height,
                "; ".join(together),
                fontsize=6,
                va="bottom",
                transform=axes.get_yaxis_transform(),
            )
    return figure


@matplotlib.rc_context(_SVG)
def growth(curves: Mapping[str, Mapping[str, Curve]], x_heading: str) -> Figure:
    """Return a figure: a legend, and a panel a cost, side by side.

    Args:
        curves: by the heading of a panel, then by label; the labels of the first panel make the legend, and
            both axes are logarithmic.
        x_heading: of the horizontal axes.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, (heading, own) in zip(figure.subplots(1, len(curves)), curves.items()):
        axes.grid(color="#e8ecf0")
        axes.set_axisbelow(True)
        for (label, curve), colour in zip(own.items(), COLOURS):
            axes.loglog(*zip(*curve), color=colour, linewidth=1.2, marker="o", markersize=4, label=label)
        axes.set_xlabel(x_heading)
        axes.set_ylabel(heading)
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False)
    return figure


@matplotlib.rc_context(_SVG)
def svg(figure: Figure) -> str:
    """Return a figure as SVG."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
