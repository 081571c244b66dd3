"""What the pages of comparisons and searches share: colours, axes, and a page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

#: Colours that stay apart for the colour-blind (Okabe and Ito), and shapes for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#8C564B")
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "hexagon")

#: What a page may load: what is in it. The browser refuses all else, so that a page asks no network.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_BUTTONS = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_STYLE = """
:root { --ink: #1c2733; --soft: #5b6875; --line: #d9dfe5; --best: #e4f2ec; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 28px 32px 60px; background: #fff; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 6px; }
p { margin: 4px 0 10px; max-width: 100ch; } .soft { color: var(--soft); font-size: 13.5px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 11px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { border-bottom: 2px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
td.best { background: var(--best); font-weight: 700; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px; }
@media (max-width: 900px) { .pair { grid-template-columns: minmax(0, 1fr); } }
.failed { border-left: 4px solid #b3261e; padding: 2px 14px; background: #fcefee; }
code { font-size: 13px; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return an HTML page with plotly inside."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
            f"<script>{get_plotlyjs()}</script></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def new_figure() -> Any:
    """Return an empty plotly figure."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    return go.Figure()


def division(figure: Any, name: str) -> str:
    """Return a figure as a part of a page; its element's id is ``plot-<name>``."""
    from plotly.io import to_html  # type: ignore[import-untyped]

    return str(
        to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"plot-{name}",
            config={"displaylogo": False, "responsive": True, "modeBarButtons": _BUTTONS},
        )
    )


def axis() -> dict[str, Any]:
    """Return the look of an axis."""
    return {
        "showgrid": True,
        "gridcolor": "#e8ecf0",
        "zeroline": False,
        "showline": True,
        "linecolor": "#1c2733",
        "ticks": "outside",
    }


def layout(x: str, y: str, height: int) -> dict[str, Any]:
    """Return the look of a figure with these headings of its axes."""
    return {
        "height": height,
        "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"family": _FONT, "size": 13, "color": "#1c2733"},
        "xaxis": {**axis(), "title": {"text": x}},
        "yaxis": {**axis(), "title": {"text": y}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.24, "yanchor": "top"},
        "hoverlabel": {"bgcolor": "#fff"},
    }


def menu(buttons: Sequence[dict[str, Any]], active: int) -> dict[str, Any]:
    """Return the layout of a menu above a figure."""
    place = {"x": 0, "xanchor": "left", "y": 1.16, "yanchor": "top"}
    return {"updatemenus": [{"buttons": list(buttons), "active": active, **place}]}
