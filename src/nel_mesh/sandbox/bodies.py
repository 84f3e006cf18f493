"""Bodies between network and disk, in blocks, so that memory does not grow with a message."""

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
    """Write a request's body to disk as it comes.

    Raises RequestTooLarge for more than `max_bytes`, before reading if the announced length says so, and
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
    """A response with a body in blocks.

    Args:
        blocks: the body; read in a thread if `slow`.
        headers: the headers, with the content type.
        length: the length of the body, if it is known beforehand.
        slow: whether a block takes much processor time.
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
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            if self._slow:
                async for block in iterate_in_threadpool(self._blocks):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            else:
                for block in self._blocks:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        except (zlib.error, EOFError):
            # The stored body is damaged. Without the end of the response the server drops the connection.
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def plain(path: Path) -> Iterator[bytes]:
    """Read a file in blocks."""
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def gzipped(path: Path) -> Iterator[bytes]:
    """Read a file in blocks, compressed into one gzip member."""
    compressor = zlib.compressobj(level=1, wbits=_GZIP)
    for block in plain(path):
        if compressed := compressor.compress(block):
            yield compressed
    yield compressor.flush()


def gunzipped(path: Path) -> Iterator[bytes]:
    """Read a gzip file of any number of members in decompressed blocks.

    Raises zlib.error if it is damaged and EOFError if it ends early.
    """
    decompressor = zlib.decompressobj(_GZIP)
    begun = False
    for block in plain(path):
        data = block
        while data:
            if decompressor.eof:
                decompressor = zlib.decompressobj(_GZIP)
            begun = True
            # Bounded: a block can expand a thousandfold.
            if content := decompressor.decompress(data, BLOCK_BYTES):
                yield content
            data = decompressor.unconsumed_tail or decompressor.unused_data
    if begun and not decompressor.eof:
        while content := decompressor.decompress(decompressor.unconsumed_tail, BLOCK_BYTES):
            yield content
        if not decompressor.eof:
            raise EOFError("the gzip body ends early")
