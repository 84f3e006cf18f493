"""Line charts as SVG, without a plotting package."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

COLOURS = ("#005eb8", "#41b6e6", "#8a1538", "#6a737b", "#007f3b")
_WIDTH, _HEIGHT = 470, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 30, 34, 46
_STYLE = "font-family:system-ui,sans-serif;font-size:12px;fill:#212b32"


@dataclasses.dataclass(frozen=True)
class Panel:
    """One chart. Both axes are logarithmic: proportional growth is a straight line, no growth a level one.

    Attributes:
        title: above it.
        x_name: the name of the horizontal axis.
        x_ticks: places on it, with their names.
        y_name: the name of the vertical axis, with its unit.
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
    """Draw the panels side by side, with one legend."""
    names = dict.fromkeys(name for panel in panels for name in panel.series)
    strokes = {
        name: f'fill="none" stroke="{colour}" stroke-width="2"' for name, colour in zip(names, COLOURS, strict=False)
    }
    rows = math.ceil(len(panels) / columns)
    width, height = columns * _WIDTH, rows * _HEIGHT + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" style="{_STYLE}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        x, y = number % columns * _WIDTH, number // columns * _HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, strokes), "</g>"]
    for number, (name, stroke) in enumerate(strokes.items()):
        x, y = _LEFT + number * 200, rows * _HEIGHT + 16
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 22}" y2="{y - 4}" {stroke}/>')
        parts.append(f'<text x="{x + 28}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, strokes: Mapping[str, str]) -> Iterator[str]:
    xs = [math.log10(x) for x, _ in panel.x_ticks]
    ys = [math.log10(max(y, panel.y_floor)) for points in panel.series.values() for _, y in points]
    low = math.floor(min(ys))
    high = max(math.ceil(max(ys)), low + 1)

    def across(x: float) -> float:
        return _LEFT + (math.log10(x) - xs[0]) / (xs[-1] - xs[0]) * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        share = (math.log10(max(y, panel.y_floor)) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    yield f'<text x="{_LEFT}" y="18" font-weight="600">{escape(panel.title)}</text>'
    for value in (10.0**power for power in range(low, high + 1)):
        y, name = up(value), f"{value:,.0f}" if value >= 1 else f"{value:g}"
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#d8dde0"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
    for value, name in panel.x_ticks:
        yield f'<text x="{across(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>'
    yield f'<text x="{_LEFT}" y="{_HEIGHT - 12}">{escape(panel.x_name)}</text>'
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    turned = f'transform="rotate(-90 14 {middle})" x="14" y="{middle}" text-anchor="middle"'
    yield f"<text {turned}>{escape(panel.y_name)}</text>"
    for name, points in panel.series.items():
        places = [(f"{across(x):.1f}", f"{up(y):.1f}") for x, y in points]
        yield f'<polyline points="{" ".join(map(",".join, places))}" {strokes[name]}/>'
        # A circle in the colour of its line, but filled.
        yield from (f'<circle cx="{x}" cy="{y}" r="1" {strokes[name]}/>' for x, y in places)
