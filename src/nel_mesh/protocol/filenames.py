"""Safe file names for received messages.

The sender chooses `Mex-FileName`, so it must not choose where the file is written: a path, a device
name or a hidden file would do harm.
The rules are those of Linux, macOS and Windows together, so that one message gets the same name
everywhere.
"""

from __future__ import annotations

import re

_MAX_CHARACTERS = 140
"""Leaves room for a message id of 100 characters, and for `.json`, within the 255 bytes of most file systems."""

_UNSAFE = re.compile(r"[^A-Za-z0-9 ._()+,=@~\-]+")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|com[0-9]|lpt[0-9])", re.IGNORECASE)


def safe_name(requested: str | None, message_id: str) -> str:
    """Make a file name from the name that the message gives, or from the message id if it gives none.

    The result has no folder, is not hidden, is not the name of a device, and is not too long.
    """
    # The last part of a path of any operating system.
    name = re.split(r"[/\\:]", requested or "")[-1]
    name = _UNSAFE.sub("_", name)[:_MAX_CHARACTERS].strip(" .~-")
    if not name.strip("_"):
        return f"{message_id}.dat"
    if _DEVICE.fullmatch(name.partition(".")[0].strip()):
        name = f"_{name}"
    return name


def is_safe(name: str) -> bool:
    """Whether a name out of a record can be a file's: a record lies in a folder that others may write to."""
    return bool(name) and not _UNSAFE.search(name) and not name.startswith(".")


def unique_name(name: str, message_id: str, attempt: int) -> str:
    """Add the message id to a name that is taken, and from the second attempt on a number."""
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if stem else (name, "")
    number = "" if attempt < 2 else f".{attempt}"
    return f"{stem}.{message_id}{number}{ending}"
