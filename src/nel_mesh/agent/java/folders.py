"""The folders of the Java client: `IN`, `OUT`, `SENT`, `FAILED` and `TEMP` of a mailbox, in any case."""

from __future__ import annotations

from pathlib import Path

from nel_mesh.io.files import make_folder, translate_storage_errors

NAMES = ("IN", "OUT", "SENT", "FAILED", "TEMP")


def find(root: Path, name: str) -> Path:
    """Return a folder of a mailbox: the one that is there, in whatever case, or else in upper case."""
    try:
        there = sorted(path for path in root.iterdir() if path.name.upper() == name and path.is_dir())
    except OSError:
        there = []
    return there[0] if there else root / name


def make_all(root: Path) -> None:
    """Make the folders that are missing. Raises StorageError."""
    for name in NAMES:
        folder = find(root, name)
        with translate_storage_errors(folder):
            make_folder(folder)


def sibling(path: Path, suffix: str) -> Path | None:
    """Return the file of the same name with another suffix, in any case; None if there is none."""
    for candidate in (suffix, suffix.upper(), suffix.capitalize()):
        other = path.with_suffix(candidate)
        if other.is_file():
            return other
    return None
