"""The sidecar of a file in a folder: the metadata of its message, as JSON, in `NAME.json`.

It is there, durably, before the file is: a program that waits for files finds each with its sidecar. Like a file it has
a temporary name first, and gets its own only where that is free, so it replaces nothing. If something else has its
name, the file gets another one. So a file is one message's if and only if its sidecar is beside it.
"""

from __future__ import annotations

import os
import stat
import time
from io import FileIO
from pathlib import Path

from nel_mesh.io.files import open_in_folder, sync_folder, translate_storage_errors, write_all
from nel_mesh.io.locks import FileLock

ENDING = ".json"
"""What is added to the name of the file."""

_NAMES_LOCK_INTERVAL_SECONDS = 0.002
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class FolderSidecar:
    """The sidecar of one message in a folder.

    Args:
        path: its temporary name.
        mode: the permissions of the file.
    """

    def __init__(self, path: Path, *, mode: int) -> None:
        self._path = path
        self._folder = path.parent
        self._mode = mode

    def publish(self, name: str, content: bytes, *, is_resumed: bool) -> bool:
        """Make it durable, and give it its name, durably; False if something else has that name.

        Args:
            name: the name of the file that it belongs to.
            content: what is in it.
            is_resumed: whether an earlier process may have given it the name.
        """
        final = self._final(name)
        with translate_storage_errors(self._folder):
            if not self._has_name(final) and not (is_resumed and self._was_renamed(final, content)):
                self._write(content)
                try:
                    os.link(self._path, final)
                except OSError as error:
                    # On NFS a link can have been made although the answer said otherwise.
                    if not self._has_name(final):
                        return not isinstance(error, FileExistsError) and rename_if_free(self._path, final)
            sync_folder(self._folder)
        return True

    def withdraw(self, name: str) -> None:
        """Take the name back: the file could not get the one that belongs to it."""
        final = self._final(name)
        with translate_storage_errors(self._folder):
            if not self._path.exists() or self._has_name(final):
                final.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove its temporary name."""
        with translate_storage_errors(self._folder):
            self._path.unlink(missing_ok=True)

    def _final(self, name: str) -> Path:
        return self._folder / f"{name}{ENDING}"

    def _write(self, content: bytes) -> None:
        # Made again, not emptied: what an earlier process left may be half of it, or have another name too.
        self._path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY
        with FileIO(open_in_folder(self._path, flags, self._mode), "w") as file:
            write_all(file, content)
            os.fsync(file.fileno())

    def _has_name(self, final: Path) -> bool:
        """Whether the file of the temporary name, which was whole and durable then, has its name as well."""
        try:
            return os.path.samestat(os.lstat(self._path), os.lstat(final))
        except FileNotFoundError:
            return False

    def _was_renamed(self, final: Path, content: bytes) -> bool:
        """Whether an earlier process has renamed it, where there are no hard links: its content has the message id."""
        if os.path.lexists(self._path):
            return False
        try:
            with FileIO(os.open(final, os.O_RDONLY | _NO_FOLLOW | _BINARY), "r") as file:
                is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                return is_file and file.read(len(content) + 1) == content
        except OSError:
            return False


def rename_if_free(path: Path, final: Path) -> bool:
    """Name a file where there are no hard links (FAT, some shares): a look and a rename, under a lock.

    Return False if there is something of that name.
    """
    lock = FileLock(final.parent / ".nel-mesh-names.lock")
    while not lock.acquire():
        time.sleep(_NAMES_LOCK_INTERVAL_SECONDS)
    try:
        if os.path.lexists(final):
            return False
        path.rename(final)
        sync_folder(final.parent)
    finally:
        lock.release()
    return True
