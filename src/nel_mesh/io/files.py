"""What brokers share of the operating system: its refusals in our words, durable folders, and threads to wait in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nel_mesh.errors import SourceError, StorageError


@contextlib.contextmanager
def translate_source_errors() -> Iterator[None]:
    """Content that cannot be read."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"content: it cannot be read: {error.strerror or type(error).__name__}") from error


@contextlib.contextmanager
def translate_storage_errors() -> Iterator[None]:
    """Something that cannot be stored."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"it cannot be stored here: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        # A null byte in a path.
        raise StorageError(f"it cannot be stored here: {error}") from error


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and makes their names as durable as what will be in them."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    # Windows cannot open a folder, and keeps names without being asked.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
