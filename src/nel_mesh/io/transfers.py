"""The records of unfinished transfers: small files, each with a lock of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nel_mesh.io.files import translate_storage_errors, write_file
from nel_mesh.io.locks import FileLock


class TransferRecord:
    """The record of one unfinished transfer, a file. After any interruption it is the old one or the new one.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def place(self) -> str:
        """The file, for error texts."""
        return str(self.path)

    def lock(self) -> FileLock:
        """Return the lock to be acquired before work under this record."""
        return FileLock(self.path.with_name(f"{self.path.name}.lock"))

    def read(self) -> bytes | None:
        """Read the record; None if there is none, or no such folder, or one that this user cannot enter."""
        with translate_storage_errors(self.path.parent):
            try:
                return self.path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            except PermissionError:
                if self.exists():
                    raise
                return None

    def exists(self) -> bool:
        """Whether there is a record, as far as this user can see."""
        return os.path.lexists(self.path)

    def write(self, content: bytes) -> None:
        """Replace the record, durably."""
        write_file(self.path, content)

    def forget(self) -> None:
        """Remove the record, if it is there."""
        with translate_storage_errors(self.path.parent):
            self.path.unlink(missing_ok=True)


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
        return TransferRecord(self.folder / f"{self._prefix}{key}.json")

    def keys(self) -> Iterator[str]:
        """List the keys of all records, in the order of their names."""
        with translate_storage_errors(self.folder):
            names = sorted(path.name for path in self.folder.glob(f"{self._prefix}*.json"))
        for name in names:
            yield name.removeprefix(self._prefix).removesuffix(".json")
