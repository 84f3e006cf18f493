"""Sizes and times as text for people."""

from __future__ import annotations

from datetime import datetime


def local_time(moment: datetime) -> str:
    """A moment in local time, with the time zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}".rstrip()


def size(number: int) -> str:
    """A number of bytes for people."""
    if number < 1000:
        return f"{number} byte{'' if number == 1 else 's'}"
    amount = float(number)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000 or unit == "GB":
            break
    return f"{amount:.1f} {unit}"
