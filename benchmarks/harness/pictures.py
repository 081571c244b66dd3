"""Pictures for pages that cannot run scripts: points and curves as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from recbole_sce.experiments.plots import COLOURS

_ACROSS = 3  # panels side by side
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 330, 250, 64, 12, 34, 44
_LEGEND = 30
#: From this ratio of largest to smallest on, the horizontal axis is logarithmic.
_WIDE = 20
_INK = "#1c2733"
_GRID = "#e8ecf0"

#: Points (cost, quality): how a run went; one point: what became of it.
Curve = Sequence[tuple[float, float]]


def panels(curves: Mapping[str, Mapping[str, Sequence[Curve]]], x_heading: str, y_heading: str) -> str:
    """Return an SVG: a legend, and panels, three in a row, of curves with a mark at the end of each.

    Args:
        curves: by a panel's title, then by label, of which there are at most eight. A label has one colour in
            all panels; labels stand in their order in the legend, but for those without any curve, and the
            first is drawn on top.
        x_heading: of each panel's horizontal axis, which is logarithmic where its values are far apart.
        y_heading: of each panel's vertical axis, which begins with 0.
    """
    labels = dict.fromkeys(label for own in curves.values() for label in own)
    shown = [label for label in labels if any(own.get(label) for own in curves.values())]
    colours = dict(zip(shown, COLOURS))
    drawn = []
    for number, (title, own) in enumerate(curves.items()):
        down, across = divmod(number, _ACROSS)
        place = f"translate({across * _WIDTH} {_LEGEND + down * _HEIGHT})"
        drawn.append(f'<g transform="{place}">{_panel(title, own, colours, x_heading, y_heading)}</g>')
    width, height = _ACROSS * _WIDTH, _LEGEND + math.ceil(len(curves) / _ACROSS) * _HEIGHT
    each = (width - _LEFT) / max(len(colours), 1)
    legend = [
        _mark(_LEFT + number * each, 16, colour) + _say(_LEFT + number * each + 12, 20, label)
        for number, (label, colour) in enumerate(colours.items())
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *legend,
            *drawn,
            "</svg>\n",
        ]
    )


def _panel(
    title: str,
    curves: Mapping[str, Sequence[Curve]],
    colours: Mapping[str, str],
    x_heading: str,
    y_heading: str,
) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [_say(_LEFT, _TOP - 12, title, 'font-weight="600" font-size="14"')]
    points = [point for found in curves.values() for curve in found for point in curve]
    if points:
        xs = [x for x, _ in points]
        logarithmic = max(xs) > _WIDE * min(xs) > 0
        low, high = (min(xs) / 1.5, max(xs) * 1.5) if logarithmic else (0.0, max(xs) * 1.08 or 1.0)
        top = max(y for _, y in points) * 1.08 or 1.0

        def place(x: float, y: float) -> tuple[float, float]:
            share = math.log(x / low) / math.log(high / low) if logarithmic else (x - low) / (high - low)
            return _LEFT + share * (right - _LEFT), bottom - y / top * (bottom - _TOP)

        for x in _decades(low, high) if logarithmic else _ticks(high):
            foot = place(x, 0)
            parts.append(_line([foot, (foot[0], _TOP)], _GRID))
            parts.append(_say(foot[0], bottom + 16, f"{x:,.6g}", 'text-anchor="middle"'))
        for y in _ticks(top):
            height = place(high, y)[1]
            parts.append(_line([(_LEFT, height), (right, height)], _GRID))
            parts.append(_say(_LEFT - 6, height + 4, f"{y:.3g}", 'text-anchor="end"'))
        for label, found in reversed(list(curves.items())):
            for curve in found:
                places = [place(x, y) for x, y in curve]
                if len(places) > 1:
                    parts.append(_line(places, colours[label], 1.5))
                parts.append(_mark(*places[-1], colours[label]))
        x_heading += ", logarithmic" if logarithmic else ""
    parts += [_line([(_LEFT, _TOP), (_LEFT, bottom), (right, bottom)], _INK)]
    parts.append(_say((_LEFT + right) / 2, bottom + 36, x_heading, 'text-anchor="middle"'))
    turned = f'text-anchor="middle" transform="rotate(-90 16 {(_TOP + bottom) / 2})"'
    parts.append(_say(16, (_TOP + bottom) / 2, y_heading, turned))
    return "\n".join(parts)


def _ticks(top: float) -> list[float]:
    """Return three to six round numbers from 0 to ``top``."""
    step = 10 ** math.floor(math.log10(top))
    step *= next(share for share in (0.2, 0.5, 1, 2) if top / (step * share) < 6)
    return [number * step for number in range(int(top / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return the powers of ten between two numbers; where they are few, 2 and 5 times them, too."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(tens) > 2:
        return tens
    return [n * 10.0**power for power in powers for n in (1, 2, 5) if low <= n * 10.0**power <= high]


def _mark(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" stroke="#fff"/>'


def _line(points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _say(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{html.escape(text)}</text>'
