"""What the operating system refuses, in our words; the one thing that brokers share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nel_mesh.errors import SourceError, StorageError


@contextlib.contextmanager
def as_source_error() -> Iterator[None]:
    """Content that cannot be read."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"content: it cannot be read: {error.strerror or type(error).__name__}") from error


@contextlib.contextmanager
def as_storage_error() -> Iterator[None]:
    """Something that cannot be stored."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"it cannot be stored here: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        # A null byte in a path.
        raise StorageError(f"it cannot be stored here: {error}") from error
