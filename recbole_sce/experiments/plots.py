"""What the pages of comparisons and searches share: colours, axes, and a page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

#: Colours that stay apart for the colour-blind (Okabe and Ito), and shapes for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#8C564B")
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "hexagon")

_BUTTONS = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def page(template: str, title: str, **content: Any) -> str:
    """Return the HTML page that a template of the folder ``pages`` makes of ``content``; plotly is in it."""
    from jinja2 import Environment, FileSystemLoader
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    loader = FileSystemLoader(Path(__file__).parent / "pages")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, keep_trailing_newline=True)
    return environment.get_template(template).render(title=title, plotly=Markup(get_plotlyjs()), **content)


def new_figure() -> Any:
    """Return an empty plotly figure."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    return go.Figure()


def division(figure: Any, name: str) -> Markup:
    """Return a figure as a part of a page; its element's id is ``plot-<name>``."""
    from plotly.io import to_html  # type: ignore[import-untyped]

    return Markup(
        to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"plot-{name}",
            config={"displaylogo": False, "responsive": True, "modeBarButtons": _BUTTONS},
        )
    )


def layout(x: str, y: str, height: int) -> dict[str, Any]:
    """Return the look of a figure with these headings of its axes."""
    grid = {"showgrid": True, "gridcolor": "#e8ecf0", "zeroline": False}
    axis = {**grid, "showline": True, "linecolor": "#1c2733", "ticks": "outside"}
    return {
        "height": height,
        "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"family": _FONT, "size": 13, "color": "#1c2733"},
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, "title": {"text": y}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.24, "yanchor": "top"},
        "hoverlabel": {"bgcolor": "#fff"},
    }


def menu(changes: Mapping[str, tuple[dict[str, Any], dict[str, Any]]], active: str) -> dict[str, Any]:
    """Return the layout of a menu above a figure: what each choice changes of the traces and the layout."""
    buttons = [{"label": label, "method": "update", "args": args} for label, args in changes.items()]
    place = {"x": 0, "xanchor": "left", "y": 1.16, "yanchor": "top"}
    return {"updatemenus": [{"buttons": buttons, "active": list(changes).index(active), **place}]}
