"""How the pages word things: times, sizes, states."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape

MASK = "\N{BULLET}" * 6
"""Shown in place of what can be a person's, until it is asked for."""


def local(moment: dt.datetime | None) -> str:
    """A time of this machine's zone, in words of the same length."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment is not None else ""


def when(moment: dt.datetime | None) -> Markup:
    """A time as an element, which a program can read."""
    if moment is None:
        return Markup("")
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(timespec="seconds"), local(moment))


def clock(moment: dt.datetime) -> Markup:
    """The time of a day as an element."""
    stamp = moment.astimezone()
    return Markup('<time datetime="{}">{}</time>').format(
        stamp.isoformat(timespec="seconds"), stamp.strftime("%H:%M:%S %Z")
    )


def age(time: dt.timedelta) -> str:
    """A span of time, in the unit that fits."""
    seconds = max(0, int(time.total_seconds()))
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {name}s"
    return f"{seconds} s"


def size(count: int | None) -> str:
    """A number of bytes, in the unit that fits."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return ""


def number(count: int) -> str:
    """A number with separators."""
    return f"{count:,}"


def shown(value: object) -> Any:
    """Any value of a table."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dt.datetime():
            return when(value)
        case int():
            return str(value)
        case _:
            return str(value)


def code(text: str) -> Markup:
    """A sentence in which what stands between two backticks is code, as in this program's own advice."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    marked = (Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts))
    return Markup("").join(marked)


def tone(state: str) -> str:
    """The class of a state's mark: how bad it is. The word stands beside it, so that colour alone says nothing."""
    if state in ("quarantined", "undelivered", "refused", "unknown", "failing"):
        return "bad"
    if state in ("retrying", "gone", "paused", "disabled", "silent", "works, drained"):
        return "warn"
    if state in ("acknowledged", "collected", "accepted", "well", "active", "works"):
        return "good"
    return "plain"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "when": when,
    "clock": clock,
    "age": age,
    "code": code,
    "size": size,
    "shown": shown,
    "tone": tone,
    "thousands": number,
}
