"""The folders of the Java client: `IN`, `OUT`, `SENT`, `FAILED` and `TEMP` of a mailbox, in any case."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from nel_mesh.io.files import make_folder, sync_folder, translate_storage_errors, write_all

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


def write_control_file(path: Path, content: bytes, *, temp: Path | None = None) -> None:
    """Write a control file, whole and durable before it has its name, in place of one of that name.

    The umask says who may read it, as with the Java client: other programs of the site take these files.

    Args:
        path: the file.
        content: what goes into it.
        temp: a folder on the same disk where it is written first; default: its own, under a hidden name.

    Raises:
        StorageError: it cannot be stored.
    """
    partial = (temp or path.parent) / f".{path.name.lstrip('.')}.part"
    with translate_storage_errors(path.parent):
        make_folder(path.parent)
        make_folder(partial.parent)
        partial.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with FileIO(os.open(partial, flags, 0o666), "w") as file:
            write_all(file, content)
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)


class SignalFile:
    """`mexclient.sig` in SignalPath: who writes it asks the client to end. One left from before asks nothing.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = self._stamp()

    def is_given(self) -> bool:
        """Whether the file was written since this object was made."""
        stamp = self._stamp()
        if stamp is None:
            self._before = None
        return stamp is not None and stamp != self._before

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
