"""Destinations and journals in the forms in which callers give them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeGuard

from nel_mesh.destinations.base import Destination
from nel_mesh.destinations.handler import HandlerDestination
from nel_mesh.destinations.urls import open_destination
from nel_mesh.errors import InvalidArgument
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.journal import Journal, SqliteJournal

from .inbox import AsyncHandler


@contextlib.asynccontextmanager
async def async_opened_destination(
    given: str | os.PathLike[str] | Destination | AsyncHandler,
) -> AsyncIterator[Destination | HandlerDestination]:
    """Open what a caller gave as a destination; what is opened here is closed here."""
    if isinstance(given, (str, os.PathLike)):
        opened = await in_thread(open_destination, given)
        try:
            yield opened
        finally:
            await in_thread(opened.close)
    elif isinstance(given, HandlerDestination) or _is_destination(given):
        yield given
    elif callable(given):
        yield HandlerDestination(given)
    else:
        raise InvalidArgument("destination: expected a folder's path, a URL, a destination, or a callable")


def _is_destination(given: object) -> TypeGuard[Destination]:
    return hasattr(given, "upload") and hasattr(given, "records")


def opened_journal(
    given: str | os.PathLike[str] | Journal | None, destination: Destination | HandlerDestination | None = None
) -> Journal:
    if given is None:
        if destination is None or isinstance(destination, HandlerDestination):
            return SqliteJournal(None)
        return destination.journal()
    return SqliteJournal(Path(given)) if isinstance(given, (str, os.PathLike)) else given
