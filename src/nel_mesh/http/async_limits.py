"""Limits of time for tasks of asyncio or trio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import anyio

from nel_mesh.http.limits import Wait


@contextlib.contextmanager
def time_limit(wait: Wait) -> Iterator[None]:
    """Cancel the block after a time. Raise TimeoutError then."""
    with anyio.move_on_after(wait.seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimeoutError(wait.message)


def running_asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs, if it is one of asyncio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
