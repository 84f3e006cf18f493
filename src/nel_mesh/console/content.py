"""The content of a message, for those who may see it: read where it lies, on this machine or in a store.

Each look is recorded. It is shown as text, in part, or sent as a stream: it never lies in memory as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import anyio
from starlette.responses import Response, StreamingResponse

from nel_mesh import InvalidArgument, MeshError
from nel_mesh.agent.stored_copies import copies_of, open_copy
from nel_mesh.console.message import note_look, shown
from nel_mesh.console.roles import Right
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import form
from nel_mesh.io.content import Content
from nel_mesh.ledger.messages import Copy, LedgerMessage

_MOST_SHOWN_BYTES = 100_000
_MOST_DOWNLOADS = 8
"""Each has a connection of its own to a store."""

_downloads = threading.BoundedSemaphore(_MOST_DOWNLOADS)


def _content(visit: Visit) -> Response:
    message, copies = _readable(visit)
    note_look(visit, message, "content shown")
    content, _ = _opened(copies)
    try:
        head = _read(content, min(content.length, _MOST_SHOWN_BYTES))
    finally:
        content.close()
    text = head.decode("utf-8", errors="replace")
    # As text, and never as HTML: the template escapes it, and control characters are made visible.
    text = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    if content.length > len(head):
        text += "\n... and more: download it"
    return shown(visit, names=True, content=text)


def _download(visit: Visit) -> Response:
    message, copies = _readable(visit)
    if not _downloads.acquire(blocking=False):
        raise InvalidArgument(f"{_MOST_DOWNLOADS} downloads are under way; try again in a minute")
    try:
        note_look(visit, message, "content downloaded")
        content, copy = _opened(copies)
        return _Download(content, message.file_name or copy.location or "")
    except BaseException:
        _downloads.release()
        raise


class _Download(StreamingResponse):
    """Content on its way to a browser; what was opened is closed when it is there, or the browser has gone.

    Its length is announced, so that one that breaks off is known to be incomplete.
    """

    def __init__(self, content: Content, name: str) -> None:
        self._content = content
        name = quote(PurePosixPath(name).name, safe="")
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{name}",
            "content-length": str(content.length),
        }
        super().__init__(self._blocks(), media_type="application/octet-stream", headers=headers)

    def _blocks(self) -> Iterator[bytes]:
        return self._content.blocks(0, self._content.length)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        try:
            self._content.close()
        finally:
            _downloads.release()


def _readable(visit: Visit) -> tuple[LedgerMessage, list[Copy]]:
    message = visit.ledger.messages.get(visit.path_number())
    copies = copies_of(visit.ledger, message)
    if not copies:
        raise InvalidArgument("its content is neither on this machine nor in a store; its page says where it lies")
    visit.reason()
    return message, copies


def _opened(copies: list[Copy]) -> tuple[Content, Copy]:
    """Open the first copy that can be opened."""
    reasons = []
    for copy in copies:
        try:
            return open_copy(copy), copy
        except MeshError as error:
            reasons.append(error.reason.removeprefix("content: "))
    raise InvalidArgument(f"its content cannot be read: {'; '.join(dict.fromkeys(reasons))}")


def _read(content: Content, size: int) -> bytes:
    try:
        return content.read(0, size)
    except MeshError as error:
        raise InvalidArgument(f"its content cannot be read: {error.reason.removeprefix('content: ')}") from None


PAGES = [
    form("/messages/{number:int}/content", _content, Right.CONTENT),
    form("/messages/{number:int}/download", _download, Right.CONTENT),
]
