"""Chunks of a message: cut content for sending, and check the sequence of chunks on receiving.

MESH API, "Messages larger than 100MB": split first, then compress each chunk on its own, and number
the chunks with `Mex-Chunk-Range: k:n`.

On receiving, MESH announces the number of chunks in the range of the first chunk, and by status: 206
says that more chunks follow, 200 that this one is the last.
Both must agree: content that is short must never look complete.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from nel_mesh.errors import IntegrityError, InvalidArgument

MEGABYTE: Final = 1_000_000
"""MESH states its limits in MB. The smaller meaning of it stays under either."""

MAX_REQUEST_BYTES: Final = 100 * MEGABYTE
"""The most that one request may carry, after compression."""

MAX_MESSAGE_BYTES: Final = 100_000 * MEGABYTE
"""The most that one message may hold; 20 GB if the recipient runs the Java client."""

_RANGE = re.compile(r"\s*(?P<open>\{)?\s*(?P<number>\d{1,9})\s*:\s*(?P<total>\d{1,9})\s*(?(open)\}\s*)", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkRange:
    """`Mex-Chunk-Range`: chunk `number` of `total`, both counted from 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}:{self.total}"

    @classmethod
    def parse(cls, text: str) -> ChunkRange:
        """Parse `1:n`, or `{1:n}` as some servers write it. Raises ValueError for anything else."""
        match = _RANGE.fullmatch(text)
        found = cls(int(match["number"]), int(match["total"])) if match else cls(0, 0)
        if not 1 <= found.number <= found.total:
            raise ValueError(f"not a chunk range: {text[:40]!a}")
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """The part of the content that goes into one chunk."""

    range: ChunkRange
    start: int
    length: int


def split(content_bytes: int, chunk_bytes: int) -> list[Slice]:
    """Cut content of `content_bytes` into chunks of at most `chunk_bytes`, in order.

    Raises InvalidArgument for empty content, which MESH refuses (417, code 02), and for more than
    MESH's 100 GB.
    """
    if content_bytes < 1:
        raise InvalidArgument("content: it is empty, and MESH refuses an empty message (417, code 02)")
    if content_bytes > MAX_MESSAGE_BYTES:
        raise InvalidArgument(f"content: {content_bytes:,} bytes is more than the 100 GB that MESH carries")
    total = -(-content_bytes // chunk_bytes)
    return [
        Slice(
            ChunkRange(index + 1, total),
            start=index * chunk_bytes,
            length=min(chunk_bytes, content_bytes - index * chunk_bytes),
        )
        for index in range(total)
    ]


class ChunkSequence:
    """The chunks of one message as they arrive in order.

    The total comes from the first chunk's range; without one, the status of each chunk decides.

    Attributes:
        received: how many chunks have been accepted.
        total: how many chunks were announced; None if that is not known.
    """

    def __init__(self, received: int = 0, total: int | None = None) -> None:
        self.received = received
        self.total = total

    def accept(self, status: int, chunk_range: str | None) -> bool:
        """Accept the response with the next chunk; True if another chunk must be fetched.

        Raises IntegrityError if range and status contradict each other, or what was announced.
        """
        number = self.received + 1
        found = self._parse(chunk_range)
        if found is not None:
            if found.number != number:
                raise IntegrityError(f"asked for chunk {number}, and got chunk {found.number}")
            if self.received and self.total is not None and found.total != self.total:
                raise IntegrityError(f"chunk {number} belongs to {found.total} chunks, but {self.total} were announced")
            self.total = found.total
        promised = status == 206
        more = promised if self.total is None else number < self.total
        if promised and not more:
            raise IntegrityError(f"chunk {number} of {self.total} came with status 206, which promises another")
        if more and not promised and number > 1:
            # For the first chunk some servers answer 200, whatever follows.
            raise IntegrityError(f"chunk {number} of {self.total} came with status 200: the rest is missing")
        self.received = number
        return more

    @staticmethod
    def _parse(chunk_range: str | None) -> ChunkRange | None:
        if chunk_range is None or not chunk_range.strip():
            return None
        try:
            return ChunkRange.parse(chunk_range)
        except ValueError as error:
            raise IntegrityError(str(error)) from None
