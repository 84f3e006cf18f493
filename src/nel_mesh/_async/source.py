"""What `send_file` sends, in the forms in which callers give it."""

from __future__ import annotations

import os
from pathlib import Path

from nel_mesh.errors import InvalidArgument, Outcome, add_context
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.content import RemoteSource
from nel_mesh.sources.urls import source_of


async def async_named_source(given: object) -> Path | RemoteSource:
    """Return the file of a path, or the object of a URL. Raises InvalidArgument for anything else."""
    with add_context(operation="send_file", outcome=Outcome.NOT_SENT):
        found = await in_thread(source_of, given)
        if found is not None:
            return found
        if isinstance(given, (str, os.PathLike)):
            return Path(given)
        is_content = isinstance(given, (bytes, bytearray, memoryview)) or hasattr(given, "read")
        cure = "; for content, call send_message" if is_content else ""
        raise InvalidArgument(f"path: expected the path of a file, not {type(given).__name__}{cure}")
