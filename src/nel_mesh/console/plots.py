"""Small plots as SVG, made here. Each is an image with a text that says the same, and a table says it in full."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from nel_mesh.console.wording import age
from nel_mesh.ledger.states import Direction, State
from nel_mesh.ledger.statistics import Hour

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 150, 44, 22
_BAD = (State.QUARANTINED, State.UNDELIVERED, State.REFUSED, State.UNKNOWN)


@dataclasses.dataclass(frozen=True, slots=True)
class Plot:
    """A plot.

    Attributes:
        title: what it shows.
        text: the same in words.
        svg: the drawing.
        head: the headings of the same as a table.
        rows: its rows.
    """

    title: str
    text: str
    svg: Markup
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def messages_an_hour(hours: Sequence[Hour]) -> Plot:
    """Draw how many messages came up in each hour: received above, sent beside, in a tone by their state."""
    counts = [_split(hour) for hour in hours]
    top = _round_up(max((good + bad for pair in counts for good, bad in pair), default=0))
    step = (_WIDTH - _LEFT) / max(1, len(hours))
    bars = []
    for place, pair in enumerate(counts):
        for way, (good, bad) in enumerate(pair):
            x, width = _LEFT + place * step + way * step * 0.45 + 2, step * 0.4
            kind = "in" if way == 0 else "out"
            bars.append(_bar(x, width, 0, good / top, f"bar-{kind}"))
            bars.append(_bar(x, width, good / top, bad / top, "bar-bad"))
    labels = [
        _text(_LEFT + place * step, _HEIGHT - 6, hour.start.astimezone().strftime("%H:%M"))
        for place, hour in enumerate(hours)
        if place % 4 == 0
    ]
    received, sent = (sum(hour.total(way) for hour in hours) for way in (Direction.IN, Direction.OUT))
    failed = sum(bad for pair in counts for _, bad in pair)
    title = f"Messages an hour, last {len(hours)} hours"
    text = f"{received:,} received, {sent:,} sent, {failed:,} of them in trouble. Most in an hour: {_most(counts):,}."
    rows = [
        (hour.start.astimezone().strftime("%Y-%m-%d %H:%M"), str(way), str(state), f"{count:,}")
        for hour in hours
        for (way, state), count in sorted(hour.counts.items())
    ]
    return Plot(title, text, _svg(title, text, [*_scale(top), *bars, *labels]), ("Hour", "Way", "State", "Count"), rows)


def ages(title: str, since: Sequence[tuple[str, datetime]], now: datetime) -> Plot:
    """Draw how old the oldest open message of each mailbox is."""
    spans = [(name, now - moment) for name, moment in since]
    longest = max((span for _, span in spans), default=timedelta(hours=1))
    lines = [(name, span / longest if longest else 0.0, age(span), span > timedelta(days=1)) for name, span in spans]
    text = "; ".join(f"{name}: {said}" for name, _, said, _ in lines) or "No message is open."
    return Plot(title, text, _rows(title, text, lines), ("Mailbox", "Age"), [(line[0], line[2]) for line in lines])


def days_left(title: str, days: Sequence[tuple[str, int]]) -> Plot:
    """Draw how many days each certificate is still valid; a year fills the width."""
    lines = [(name, min(1.0, max(0, left) / 365), f"{left} days", left < 30) for name, left in days]
    text = "; ".join(f"{name}: {said}" for name, _, said, _ in lines) or "No certificate is known yet."
    return Plot(title, text, _rows(title, text, lines), ("Mailbox", "Left"), [(line[0], line[2]) for line in lines])


def _split(hour: Hour) -> tuple[tuple[int, int], tuple[int, int]]:
    def of(direction: Direction) -> tuple[int, int]:
        bad = sum(count for (way, state), count in hour.counts.items() if way is direction and state in _BAD)
        return hour.total(direction) - bad, bad

    return of(Direction.IN), of(Direction.OUT)


def _most(counts: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> int:
    return max((sum(inward) + sum(outward) for inward, outward in counts), default=0)


def _round_up(count: int) -> int:
    """Return a round number that is no smaller: the top of the scale."""
    size = 1
    while size * 10 < count:
        size *= 10
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor >= count) if count else 1


def _bar(x: float, width: float, start: float, share: float, kind: str) -> Markup:
    room = _HEIGHT - _BOTTOM - 8
    y = 8 + room * (1 - start - share)
    bar = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>')
    return bar.format(kind, x, y, width, room * share) if share > 0 else Markup("")


def _scale(top: int) -> list[Markup]:
    room = _HEIGHT - _BOTTOM - 8
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    marks = []
    for share in (0.0, 0.5, 1.0) if top > 1 else (0.0, 1.0):
        y = 8 + room * (1 - share)
        marks += [line.format(_LEFT, _WIDTH, y, y), _text(0, y + 4, f"{top * share:,.0f}")]
    return marks


def _rows(title: str, text: str, lines: Sequence[tuple[str, float, str, bool]]) -> Markup:
    parts = []
    for place, (name, share, said, is_bad) in enumerate(lines[:40]):
        y = 4 + place * 24
        bar = Markup('<rect class="{}" x="150" y="{}" width="{:.1f}" height="14"/>')
        parts += [
            _text(0, y + 12, name),
            bar.format("bar-bad" if is_bad else "bar-in", y, max(2.0, share * 440)),
            _text(160 + max(2.0, share * 440), y + 12, said),
        ]
    return _svg(title, text, parts, height=8 + 24 * max(1, min(40, len(lines))))


def _text(x: float, y: float, text: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(x, y, text)


def _svg(title: str, text: str, parts: Sequence[Markup], height: int = _HEIGHT) -> Markup:
    head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        _WIDTH, height, f"{title}: {text}"
    )
    return head + Markup("").join(escape(part) for part in parts) + Markup("</svg>")
