"""Pictures for pages that cannot run scripts: scatter plots as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from recbole_sce.experiments.plots import COLOURS

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 300, 70, 210, 34, 46
#: The height of a label's row; a panel is as high as its rows need, all are as high as the highest.
_ROW = 17
#: From this ratio of largest to smallest on, the horizontal axis is logarithmic.
_WIDE = 20
_INK = "#1c2733"


class Point(NamedTuple):
    """A mark: what it is, its cost, its quality and the standard deviation of that; None where unknown."""

    label: str
    x: Optional[float]
    y: Optional[float]
    deviation: Optional[float]


def panels(points: Mapping[str, Sequence[Point]], x_heading: str, y_heading: str) -> str:
    """Return an SVG with one panel a key, from top to bottom; one look a label in all of them."""
    labels = list(dict.fromkeys(point.label for own in points.values() for point in own))
    looks = {label: number for number, label in enumerate(labels)}
    known = {title: [p for p in own if p.x is not None and p.y is not None] for title, own in points.items()}
    each = max([_HEIGHT, *(_TOP + _ROW * len(own) for own in known.values())])
    drawn = [
        f'<g transform="translate(0 {number * each})">'
        + _panel(title, own, looks, x_heading, y_heading, each)
        + "</g>"
        for number, (title, own) in enumerate(known.items())
    ]
    height = each * max(len(drawn), 1)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">',
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _panel(
    title: str,
    points: Sequence[Point],
    looks: Mapping[str, int],
    x_heading: str,
    y_heading: str,
    height: int,
) -> str:
    right, bottom = _WIDTH - _RIGHT, height - _BOTTOM
    parts = [_say(_LEFT, _TOP - 14, title, 'font-weight="600" font-size="14"')]
    if points:
        xs = [float(point.x or 0) for point in points]
        tops = [float(point.y or 0) + (point.deviation or 0) for point in points]
        logarithmic = max(xs) > _WIDE * min(xs) > 0
        low, high = (min(xs) / 1.5, max(xs) * 1.5) if logarithmic else (0.0, max(xs) * 1.08 or 1.0)
        top = max(tops) * 1.08 or 1.0

        def across(x: float) -> float:
            share = math.log(x / low) / math.log(high / low) if logarithmic else (x - low) / (high - low)
            return _LEFT + share * (right - _LEFT)

        def up(y: float) -> float:
            return bottom - y / top * (bottom - _TOP)

        for x in _decades(low, high) if logarithmic else _ticks(high):
            parts.append(_line(across(x), _TOP, across(x), bottom, "#e8ecf0"))
            parts.append(_say(across(x), bottom + 16, f"{x:,.6g}", 'text-anchor="middle"'))
        for y in _ticks(top):
            parts.append(_line(_LEFT, up(y), right, up(y), "#e8ecf0"))
            parts.append(_say(_LEFT - 6, up(y) + 4, f"{y:.3g}", 'text-anchor="end"'))
        for number, point in enumerate(points):
            x, y, look = across(float(point.x or 0)), float(point.y or 0), looks[point.label]
            if point.deviation:
                parts.append(_line(x, up(y - point.deviation), x, up(y + point.deviation), _colour(look)))
            parts.append(_mark(x, up(y), look))
            where = _TOP + 8 + _ROW * number
            parts.append(_mark(right + 18, where - 4, look))
            parts.append(_say(right + 28, where, point.label))
    parts += [_line(_LEFT, bottom, right, bottom, _INK), _line(_LEFT, _TOP, _LEFT, bottom, _INK)]
    parts.append(_say((_LEFT + right) / 2, bottom + 36, x_heading, 'text-anchor="middle"'))
    turned = f'text-anchor="middle" transform="rotate(-90 16 {(_TOP + bottom) / 2})"'
    parts.append(_say(16, (_TOP + bottom) / 2, y_heading, turned))
    return "\n".join(parts)


def _ticks(top: float) -> list[float]:
    """Return four to nine round numbers from 0 to ``top``."""
    step = 10 ** math.floor(math.log10(top))
    step *= next(share for share in (0.2, 0.5, 1, 2) if top / (step * share) < 9)
    return [number * step for number in range(int(top / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [n * 10.0**power for power in powers for n in (1, 2, 5) if low <= n * 10.0**power <= high]


def _colour(look: int) -> str:
    return COLOURS[look % len(COLOURS)]


def _mark(x: float, y: float, look: int) -> str:
    """Return a disc; where the colours have been used up a ring, then a square, full or hollow."""
    turn = look // len(COLOURS) % 4
    style = f'fill="{"#fff" if turn % 2 else _colour(look)}" stroke="{_colour(look)}" stroke-width="2"'
    if turn < 2:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {style}/>'
    return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" {style}/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _say(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{html.escape(text)}</text>'
