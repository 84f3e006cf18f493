"""What brokers share of the operating system: its refusals in our words, durable folders, and threads to wait in."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from nel_mesh.errors import SourceError, StorageError

_T = TypeVar("_T")


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


async def in_thread(work: Callable[[], _T]) -> _T:
    """Waits for work in a worker thread; to its end even when the task is cancelled, as a thread cannot be stopped.

    A caller that went away while it was under way would let go of a lock, or of a file, that is still being used.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return await anyio.to_thread.run_sync(work)  # trio waits of itself
    # anyio's shield holds back anyio's cancellation, but not asyncio's own (`asyncio.timeout`, `Task.cancel`).
    task = asyncio.ensure_future(anyio.to_thread.run_sync(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            # Nobody asks any more how it ended; asyncio would say so, as an error.
            task.exception()
        raise
