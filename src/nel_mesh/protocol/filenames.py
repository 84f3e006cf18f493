"""What to call a file that arrived: a name out of a message is a wish, never a path."""

from __future__ import annotations

import re

_LONGEST = 150
"""In characters, which are ASCII here; leaves room for a message id within the 255 bytes of most file systems."""

_UNSAFE = re.compile(r"[^A-Za-z0-9 ._()+,=@~\-]+")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|com[0-9]|lpt[0-9])", re.IGNORECASE)


def safe_name(wish: str | None, message_id: str) -> str:
    """A name for a file, from the name that a message gives for it, or from the message id if it gives none.

    Never with a folder in it, never hidden, never a device's name on any system, never too long.
    """
    # The last part, whichever system's path it is.
    name = re.split(r"[/\\:]", wish or "")[-1]
    name = _UNSAFE.sub("_", name)[:_LONGEST].strip(" .~-")
    if not name.strip("_"):
        return f"{message_id}.dat"
    if _DEVICE.fullmatch(name.partition(".")[0].strip()):
        name = f"_{name}"
    return name


def another_name(name: str, message_id: str, attempt: int) -> str:
    """A further name where there is a file of that name: the message id makes it unique, and a number if it must."""
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if stem else (name, "")
    number = "" if attempt < 2 else f".{attempt}"
    return f"{stem}.{message_id}{number}{ending}"
