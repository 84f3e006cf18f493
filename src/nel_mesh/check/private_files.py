"""Files that hold secrets: written for their owner only, and never in place of another by accident."""

from __future__ import annotations

from pathlib import Path

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.files import make_folder, translate_storage_errors, write_file


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file for its owner only, durably; a folder that is missing is made for its owner only, too.

    Raises InvalidArgument if there is a file of that name, unless it is to be replaced, and StorageError if the file
    cannot be stored.
    """
    with translate_storage_errors(path.parent):
        make_folder(path.parent, 0o700)
    if not write_file(path, content, replace=replace):
        raise already_exists(path)


def already_exists(path: Path, or_else: str = "") -> InvalidArgument:
    """Return the error for a file that must not be replaced."""
    ways = "move it away, or give another place" + (f", {or_else}" if or_else else "")
    return InvalidArgument(f"{path} exists already, and is not replaced; {ways}")
