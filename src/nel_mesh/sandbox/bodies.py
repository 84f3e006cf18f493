"""Bodies between the network and the disk, a block at a time, so that memory does not grow with a message."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nel_mesh.sandbox.errors import RequestTooLarge
from nel_mesh.sandbox.store import IncomingBody

BLOCK_BYTES = 1 << 18
_GZIP = 16 + zlib.MAX_WBITS


async def receive_body(request: Request, upload: IncomingBody, max_bytes: int) -> None:
    """Writes a request's body to disk as it comes.

    Raises RequestTooLarge once there are more than `max_bytes`, before reading if the request says so itself, and
    ClientDisconnect if the body breaks off.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise RequestTooLarge
    async for block in request.stream():
        if upload.size + len(block) > max_bytes:
            raise RequestTooLarge
        upload.write(block)
    upload.close()


class BodyResponse(Response):
    """An answer whose body comes from blocks.

    Args:
        blocks: the body; read in a thread if `slow`.
        headers: sent as they are, the content type among them.
        length: its bytes, if they are known beforehand.
        slow: making a block takes real work.
    """

    def __init__(
        self,
        blocks: Iterator[bytes],
        *,
        status: int,
        headers: dict[str, str],
        length: int | None,
        slow: bool,
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        del self.headers["content-length"]
        if length is not None:
            self.headers["content-length"] = str(length)
        self._blocks = blocks
        self._slow = slow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            if self._slow:
                async for block in iterate_in_threadpool(self._blocks):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            else:
                for block in self._blocks:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        except (zlib.error, EOFError):
            # What was sent is damaged. An answer without its end makes the server break the connection off.
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def plain(path: Path) -> Iterator[bytes]:
    """The blocks of a file."""
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def gzipped(path: Path) -> Iterator[bytes]:
    """The blocks of a file, compressed into one gzip member."""
    compressor = zlib.compressobj(level=1, wbits=_GZIP)
    for block in plain(path):
        if compressed := compressor.compress(block):
            yield compressed
    yield compressor.flush()


def gunzipped(path: Path) -> Iterator[bytes]:
    """The blocks of a gzip file of any number of members, decompressed.

    Raises zlib.error if it is damaged and EOFError if it is cut short.
    """
    decompressor = zlib.decompressobj(_GZIP)
    begun = False
    for block in plain(path):
        data = block
        while data:
            if decompressor.eof:
                decompressor = zlib.decompressobj(_GZIP)
            begun = True
            # Bounded, since a small block may hold a thousand times its size.
            if content := decompressor.decompress(data, BLOCK_BYTES):
                yield content
            data = decompressor.unconsumed_tail or decompressor.unused_data
    if begun and not decompressor.eof:
        while content := decompressor.decompress(decompressor.unconsumed_tail, BLOCK_BYTES):
            yield content
        if not decompressor.eof:
            raise EOFError("the gzip body is cut short")
