"""Line charts as SVG, by hand: a few axes and lines are not worth a plotting package and all that it brings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

COLOURS = ("#005eb8", "#41b6e6", "#8a1538", "#6a737b", "#007f3b")
_WIDTH, _HEIGHT = 470, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 30, 34, 46
_STYLE = "font-family:system-ui,sans-serif;font-size:12px;fill:#212b32"


@dataclasses.dataclass(frozen=True)
class Panel:
    """One chart. Both axes are logarithmic: what grows in proportion is a straight line, what does not grow is level.

    Attributes:
        title: above it.
        x_name: what goes to the right.
        x_ticks: where, and what it is called there.
        y_name: what goes up, with its unit.
        series: points for each line's name; the same name has the same colour in every panel.
        y_floor: what is less counts as this; a logarithm has no zero.
    """

    title: str
    x_name: str
    x_ticks: Sequence[tuple[float, str]]
    y_name: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    y_floor: float = 0.01


def figure(panels: Sequence[Panel], columns: int = 2) -> str:
    """The panels side by side, with one legend."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    colours = dict(zip(names, COLOURS, strict=False))
    rows = math.ceil(len(panels) / columns)
    width, height = columns * _WIDTH, rows * _HEIGHT + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" style="{_STYLE}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        x, y = number % columns * _WIDTH, number // columns * _HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, colours), "</g>"]
    for number, name in enumerate(names):
        x, y = _LEFT + number * 200, rows * _HEIGHT + 16
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 22}" y2="{y - 4}" {_stroke(colours[name])}/>')
        parts.append(f'<text x="{x + 28}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    xs = [x for x, _ in panel.x_ticks]
    ys = [max(y, panel.y_floor) for points in panel.series.values() for _, y in points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)

    def across(x: float) -> float:
        share = (math.log10(x) - math.log10(xs[0])) / (math.log10(xs[-1]) - math.log10(xs[0]))
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        share = (math.log10(max(y, panel.y_floor)) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{_LEFT}" y="18" font-weight="600">{escape(panel.title)}</text>']
    for power in range(low, high + 1):
        y = up(10**power)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#d8dde0"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_plain(10.0**power)}</text>')
    for value, name in panel.x_ticks:
        x = across(value)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 12}">{escape(panel.x_name)}</text>')
    turned = f'transform="rotate(-90 14 {middle})" x="14" y="{middle}" text-anchor="middle"'
    parts.append(f"<text {turned}>{escape(panel.y_name)}</text>")
    for name, points in panel.series.items():
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" {_stroke(colours[name])}/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colours[name]}"/>' for x, y in points]
    return parts


def _stroke(colour: str) -> str:
    return f'fill="none" stroke="{colour}" stroke-width="2"'


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
