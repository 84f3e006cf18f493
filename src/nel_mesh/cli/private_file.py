"""A file for its owner's eyes only: whole or not at all, and never in place of another unless that is asked for."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from nel_mesh.errors import InvalidArgument, StorageError
from nel_mesh.io.files import sync_folder


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Writes a file that its owner alone may read and write (0600), durably.

    Raises:
        InvalidArgument: there is such a file already, and `replace` is not set.
        StorageError: it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _place(temporary, path, replace=replace)
            sync_folder(path.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    except FileExistsError:
        raise there_already(path) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a path"
        raise StorageError(f"{path} cannot be written: {why}") from error


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, for their owner only; those that are there stay as they are.

    Raises StorageError if that cannot be done.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a path"
        raise StorageError(f"{folder} cannot be made: {why}") from error


def is_open_to_others(path: Path) -> bool:
    """Whether anybody but the file's owner may read or change it. Windows does not say so in this way: False."""
    if os.name == "nt":
        return False
    try:
        return bool(path.stat().st_mode & 0o077)
    except (OSError, ValueError):
        return False


def there_already(path: Path, or_else: str = "") -> InvalidArgument:
    """The error for a file that must not be replaced."""
    ways = "move it away, or give another place" + (f", {or_else}" if or_else else "")
    return InvalidArgument(f"{path} is there already, and is not replaced; {ways}")


def _place(temporary: Path, path: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(path)
        return
    try:
        # Unlike a rename, a link never replaces what somebody else made meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (FAT, some shares).
        if path.exists():
            raise FileExistsError from None
        temporary.rename(path)
