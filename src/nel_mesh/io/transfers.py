"""The records of unfinished transfers: small files, each with a lock of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nel_mesh.io.files import StrPath, translate_storage_errors, write_file
from nel_mesh.io.locks import FileLock


class TransferRecord:
    """The record of one unfinished transfer, a file. After any interruption it is the old one or the new one.

    Args:
        path: the file.
    """

    def __init__(self, path: StrPath) -> None:
        self._path = os.fspath(path)
        self._folder = os.path.dirname(self._path) or os.curdir

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._path)

    @property
    def place(self) -> str:
        """The file, for error texts."""
        return self._path

    def lock(self) -> FileLock:
        """Return the lock to be acquired before work under this record."""
        return FileLock(f"{self._path}.lock")

    def read(self) -> bytes | None:
        """Read the record; None if there is none, or no such folder, or one that this user cannot enter."""
        with translate_storage_errors(self._folder):
            try:
                with open(self._path, "rb") as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError):
                return None
            except PermissionError:
                if self.exists():
                    raise
                return None

    def exists(self) -> bool:
        """Whether there is a record, as far as this user can see."""
        return os.path.lexists(self._path)

    def write(self, content: bytes) -> None:
        """Replace the record, durably."""
        write_file(self._path, content)

    def forget(self) -> None:
        """Remove the record, if it is there."""
        with translate_storage_errors(self._folder), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


class TransferRecords:
    """The records in a folder, each as `PREFIXkey.json`.

    Args:
        folder: where they are kept; made when the first is written.
        prefix: what the names begin with; a dot hides them.
    """

    def __init__(self, folder: Path, *, prefix: str = "") -> None:
        self.folder = folder
        self._prefix = prefix

    def record(self, key: str) -> TransferRecord:
        """Return the record of a key, whether or not there is one yet."""
        return TransferRecord(os.path.join(self.folder, f"{self._prefix}{key}.json"))

    def keys(self) -> Iterator[str]:
        """List the keys of all records, in the order of their names."""
        with translate_storage_errors(self.folder):
            names = sorted(path.name for path in self.folder.glob(f"{self._prefix}*.json"))
        for name in names:
            yield name.removeprefix(self._prefix).removesuffix(".json")
