"""Pictures for pages that cannot run scripts: points and curves as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from recbole_sce.experiments.plots import COLOURS

_ACROSS = 3  # panels side by side
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 330, 250, 64, 12, 34, 44
_LEGEND = 30
#: From this ratio of largest to smallest on, the horizontal axis is logarithmic.
_WIDE = 20
_INK = "#1c2733"
_GRID = "#e8ecf0"


class Series(NamedTuple):
    """What has one look: paths of points (cost, quality), and the standard deviation of their ends."""

    label: str
    paths: Sequence[Sequence[tuple[float, float]]]
    deviation: Optional[float] = None


def panels(series: Mapping[str, Sequence[Series]], x_heading: str, y_heading: str) -> str:
    """Return an SVG: a legend, and a panel a key, three in a row. A mark is at the end of each path."""
    labels = list(dict.fromkeys(one.label for own in series.values() for one in own))
    colours = {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(labels)}
    drawn = []
    for number, (title, own) in enumerate(series.items()):
        down, across = divmod(number, _ACROSS)
        place = f"translate({across * _WIDTH} {_LEGEND + down * _HEIGHT})"
        drawn.append(f'<g transform="{place}">{_panel(title, own, colours, x_heading, y_heading)}</g>')
    width, height = _ACROSS * _WIDTH, _LEGEND + math.ceil(len(series) / _ACROSS) * _HEIGHT
    each = min(180.0, (width - _LEFT) / max(len(labels), 1))
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
    title: str, series: Sequence[Series], colours: Mapping[str, str], x_heading: str, y_heading: str
) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [_say(_LEFT, _TOP - 12, title, 'font-weight="600" font-size="14"')]
    points = [point for one in series for path in one.paths for point in path]
    if points:
        xs = [x for x, _ in points]
        logarithmic = max(xs) > _WIDE * min(xs) > 0
        low, high = (min(xs) / 1.5, max(xs) * 1.5) if logarithmic else (0.0, max(xs) * 1.08 or 1.0)
        most = max(y for _, y in points) + max(one.deviation or 0.0 for one in series)
        top = most * 1.08 or 1.0

        def across(x: float) -> float:
            share = math.log(x / low) / math.log(high / low) if logarithmic else (x - low) / (high - low)
            return _LEFT + share * (right - _LEFT)

        def up(y: float) -> float:
            return bottom - y / top * (bottom - _TOP)

        for x in _decades(low, high) if logarithmic else _ticks(high):
            parts.append(_line([(across(x), _TOP), (across(x), bottom)], _GRID))
            parts.append(_say(across(x), bottom + 16, f"{x:,.6g}", 'text-anchor="middle"'))
        for y in _ticks(top):
            parts.append(_line([(_LEFT, up(y)), (right, up(y))], _GRID))
            parts.append(_say(_LEFT - 6, up(y) + 4, f"{y:.3g}", 'text-anchor="end"'))
        for one in series:
            for path in one.paths:
                parts.append(_line([(across(x), up(y)) for x, y in path], colours[one.label], 1.5))
                x, y = path[-1]
                if one.deviation:
                    ends = [(across(x), up(y - one.deviation)), (across(x), up(y + one.deviation))]
                    parts.append(_line(ends, colours[one.label]))
                parts.append(_mark(across(x), up(y), colours[one.label]))
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
    """Return the powers of ten between two numbers, and 2 and 5 times them where these are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    leading = (1, 2, 5) if len(powers) < 4 else (1,)
    return [n * 10.0**power for power in powers for n in leading if low <= n * 10.0**power <= high]


def _mark(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" stroke="#fff"/>'


def _line(points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _say(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{html.escape(text)}</text>'
