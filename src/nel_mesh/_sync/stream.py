# Generated from _async/stream.py by tools/unasync.py: edit that file, then run `make generate`.
"""The content of a message, chunk after chunk, checked to its end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from nel_mesh.blocks import Block
from nel_mesh.errors import ConnectionLost, IntegrityError, NotFound, StorageError
from nel_mesh.http.tls import BLOCK_BYTES
from nel_mesh.instrumentation.spans import Instrumentation, OperationSpan
from nel_mesh.io.buffers import MessageBuffer
from nel_mesh.io.concurrency import GATHER_BYTES
from nel_mesh.models import MessageMetadata, Report
from nel_mesh.protocol import checksum, gzip, wire
from nel_mesh.protocol.checksum import Checksum
from nel_mesh.protocol.chunks import ChunkSequence

from .http import Response
from .mailbox import MailboxOperations

_READ_BYTES = 1024 * 1024


class Chunk:
    """The content of one chunk, decompressed where it was gzipped in transit, and checked to its end.

    Args:
        response: the response that brings it.
        coded: whether to decompress it.
        memory: what chunks before it no longer need, for it to use again.
    """

    def __init__(self, response: Response, *, coded: bool = True, memory: list[memoryview] | None = None) -> None:
        self._response = response
        self._memory = [] if memory is None else memory
        self._decoder = gzip.decoder(response.headers.get(wire.CONTENT_ENCODING) if coded else None)
        self._decoded: Iterator[Block] = iter(())
        announced = response.announced_length
        self._gather_bytes = GATHER_BYTES if announced is None else min(GATHER_BYTES, announced)
        self._gathered = memoryview(b"")
        # Not even gzip tells that no further member was to follow.
        if not response.is_delimited:
            raise IntegrityError("the server did not say how long the body is, so a cut could not be told")

    def next_block(self) -> bytes | None:
        """Return the next block of content, None at the chunk's verified end. Raises IntegrityError for damage."""
        while True:
            for block in self._decoded:
                return bytes(block)
            raw = self._next_raw()
            if raw is None:
                self._finish()
                return None
            self._decoded = self._decoder.feed(raw)

    def next_blocks(self) -> Iterator[Block] | None:
        """Return the blocks of content that the next bytes on the wire become; None at the chunk's verified end.

        They are made as they are taken, and each is valid until the next is taken. This call, or the blocks, raise
        IntegrityError if the chunk is damaged.
        """
        raw = self._next_raw(self._gathered)
        if raw is None:
            self._finish()
            return None
        if len(raw) < self._gather_bytes:
            raw = self._gather(raw)
        return self._decoder.feed(raw)

    def _gather(self, raw: Block) -> memoryview:
        """Return that block and those after it, as many as are worth one call in a worker thread."""
        # To take a mebibyte from the system costs more than to copy one.
        while self._memory and len(self._gathered) < self._gather_bytes:
            self._gathered = self._memory.pop()
        if len(self._gathered) < self._gather_bytes:
            self._gathered = memoryview(bytearray(self._gather_bytes))
        length = 0
        following: Block | None = raw
        while following is not None:
            # Most of it was decrypted to where it belongs.
            if not isinstance(following, memoryview) or following.obj is not self._gathered.obj:
                self._gathered[length : length + len(following)] = following
            length += len(following)
            if length + BLOCK_BYTES > self._gather_bytes:
                break
            following = self._next_raw(self._gathered[length:])
        return self._gathered[:length]

    def _next_raw(self, into: memoryview | None = None) -> Block | None:
        """Return the next bytes on the wire, best in `into`; None after the last, however often it is called."""
        try:
            return self._response.next_block(into)
        except ConnectionLost as error:
            raise IntegrityError(f"the body ended early: {error.reason}") from error

    def _finish(self) -> None:
        self._decoder.finish()
        if self._gathered:
            self._memory.append(self._gathered)
            self._gathered = memoryview(b"")
        self._response.close()


def is_bare_report(metadata: MessageMetadata, response: Response) -> bool:
    """Whether it is a report as MESH sends them: without content, whatever coding and chunks (1:0) it names."""
    return isinstance(metadata, Report) and response.headers.get("content-length", "0") == "0"


def fetch_chunk(mailbox: MailboxOperations, message_id: str, number: int, total: int | None) -> Response:
    """Fetch a chunk. Raises IntegrityError if MESH has the message, and does not have the chunk."""
    try:
        return mailbox.retrieve_chunk(message_id, number)
    except NotFound as error:
        if number == 1:
            raise
        of = f" of {total}" if total else ""
        raise IntegrityError(f"chunk {number}{of} is missing", status=error.status) from error


def verify(
    instrumentation: Instrumentation,
    operation: str,
    expected: Checksum,
    digest: str,
    *,
    strict: bool,
    message_id: str,
) -> bool:
    """Compare a digest with the sender's checksum; return whether they are the same.

    A difference is an IntegrityError where the sender named the algorithm, or if `strict`; otherwise a warning.
    """
    if digest == expected.digest:
        return True
    if expected.is_named or strict:
        raise IntegrityError(f"the content does not have the sender's checksum ({expected.algorithm})")
    instrumentation.checksum_not_verified(operation, message_id, algorithm=expected.algorithm, differs=True)
    return False


class FetchedContent:
    """Content as it comes from MESH, chunk after chunk, checked to its end."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        response: Response,
        metadata: MessageMetadata,
        *,
        verify_checksum: bool,
        strict: bool,
        max_bytes: int,
        span: OperationSpan,
    ) -> None:
        self.verified: bool | None = None
        self._mailbox = mailbox
        self._response = response
        self._metadata = metadata
        self._message_id = metadata.message_id
        self._strict = strict
        self._max_bytes = max_bytes
        self._span = span
        self._sequence = ChunkSequence()
        self._more = False
        self._chunk: Chunk | None = None
        self._expected = checksum.recognise(metadata.checksum) if verify_checksum else None
        self._digest = self._new_digest()
        span.bytes, span.workflow_id = 0, metadata.workflow_id

    def next_block(self) -> bytes:
        """Return the next block of this chunk or of the next one; b"" after the last chunk's end."""
        while True:
            if self._chunk is None:
                self._more = self._open(self._sequence.received + 1)
            elif (block := self._chunk.next_block()) is not None:
                length = self._span.bytes = (self._span.bytes or 0) + len(block)
                if length > self._max_bytes:
                    raise StorageError(
                        f"the content is longer than {self._max_bytes:,} bytes (setting max_message_size_in_megabytes)"
                    )
                if self._digest is not None:
                    self._digest.update(block)
                return block
            elif self._more:
                self._chunk = None
            else:
                if self._expected is not None and self._digest is not None:
                    digest = self._digest.hexdigest()
                    self.verified = verify(
                        self._mailbox.instrumentation,
                        "retrieve_message",
                        self._expected,
                        digest,
                        strict=self._strict,
                        message_id=self._message_id,
                    )
                return b""

    def close(self) -> None:
        """Let the connection go."""
        self._response.close()

    def _new_digest(self) -> hashlib._Hash | None:
        """Return the hash object for the checksum; None without one, or if this machine refuses it (FIPS)."""
        if self._expected is None:
            return None
        algorithm = self._expected.algorithm
        try:
            return hashlib.new(algorithm, usedforsecurity=False)
        except ValueError:
            self._mailbox.instrumentation.checksum_not_verified(
                "retrieve_message", self._message_id, algorithm=algorithm, differs=False
            )
            return None

    def _open(self, number: int) -> bool:
        if number > 1:
            with self._span.current():
                self._response = fetch_chunk(self._mailbox, self._message_id, number, self._sequence.total)
        elif is_bare_report(self._metadata, self._response):
            self._chunk = Chunk(self._response, coded=False)
            return False
        more = self._sequence.accept(self._response.status, self._response.headers.get(wire.CHUNK_RANGE))
        self._chunk = Chunk(self._response)
        return more


class BufferedContent:
    """Content that has been fetched and verified, out of a buffer."""

    def __init__(self, buffer: MessageBuffer, *, verified: bool | None) -> None:
        self.verified = verified
        self._buffer = buffer

    def next_block(self) -> bytes:
        """Return the next block; b"" at the end."""
        return self._buffer.read(_READ_BYTES)

    def close(self) -> None:
        """Drop the content."""
        self._buffer.close()
