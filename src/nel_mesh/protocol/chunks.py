"""A message in chunks: how it is cut for sending, and how the pieces must follow one another on arrival.

MESH API, "Messages larger than 100MB": split first, then compress each chunk on its own; `Mex-Chunk-Range: k:n`.
"""

from __future__ import annotations

import dataclasses
import re

from nel_mesh.errors import IntegrityError, InvalidArgument

MEGABYTE = 1_000_000
"""MESH states its limits in MB. We count the smaller megabyte, so that we are under the limit whichever was meant."""

MAX_REQUEST_BYTES = 100 * MEGABYTE
"""The most that one request may carry, as it is on the wire."""

MAX_MESSAGE_BYTES = 100_000 * MEGABYTE
"""The most that one message may hold (20 GB if the recipient runs the Java client)."""

_RANGE = re.compile(r"\s*(?P<open>\{)?\s*(?P<number>\d{1,9})\s*:\s*(?P<total>\d{1,9})\s*(?(open)\}\s*)", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkRange:
    """`Mex-Chunk-Range`: this is chunk `number` of `total`, both counted from 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}:{self.total}"

    @classmethod
    def parse(cls, text: str) -> ChunkRange:
        """Reads `1:n`, or `{1:n}` as some servers write it. Raises ValueError for anything else."""
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f"not a chunk range: {text[:40]!r}")
        number, total = int(match["number"]), int(match["total"])
        if not 1 <= number <= total:
            raise ValueError(f"not a chunk range: {text[:40]!r}")
        return cls(number, total)


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """Where one chunk lies in the content that is being sent."""

    range: ChunkRange
    start: int
    length: int


def split(content_bytes: int, chunk_bytes: int) -> list[Slice]:
    """Cuts content of `content_bytes` into chunks of at most `chunk_bytes`, in order.

    Raises InvalidArgument for empty content, which MESH refuses (417, code 02), and for more than MESH's 100 GB.
    """
    if content_bytes < 1:
        raise InvalidArgument("content: it is empty, and MESH refuses an empty message (417, code 02)")
    if content_bytes > MAX_MESSAGE_BYTES:
        raise InvalidArgument(f"content: {content_bytes:,} bytes is more than the 100 GB that MESH carries")
    total = -(-content_bytes // chunk_bytes)
    return [
        Slice(ChunkRange(k + 1, total), k * chunk_bytes, min(chunk_bytes, content_bytes - k * chunk_bytes))
        for k in range(total)
    ]


class ChunkSequence:
    """Follows the chunks of a message as they arrive, and says whether another must be fetched.

    The number of chunks comes from the first chunk's range; where a server gives none, the status decides: 206 says
    that there are more, 200 that this is the last. An answer that contradicts what was announced is an
    IntegrityError: short data must never look whole.
    """

    def __init__(self, received: int = 0, total: int | None = None) -> None:
        self.received = received
        self.total = total

    def accept(self, status: int, chunk_range: str | None) -> bool:
        """Takes note of the next chunk's answer; True if there must be another one after it."""
        number = self.received + 1
        given = self._parse(chunk_range)
        if given is not None:
            if given.number != number:
                raise IntegrityError(f"asked for chunk {number}, and got chunk {given.number}")
            if self.received and self.total is not None and given.total != self.total:
                raise IntegrityError(f"chunk {number} belongs to {given.total} chunks, but {self.total} were announced")
            if number == 1 or self.total is None:
                self.total = given.total
        more = status == 206 if self.total is None else number < self.total
        if number > 1 and more != (status == 206):
            raise IntegrityError(
                f"chunk {number} of {self.total} came with status {status}: "
                + ("a chunk is missing" if more else "there are more chunks than announced")
            )
        if not more and status == 206:
            raise IntegrityError(f"chunk {number} is said to be the last, yet status 206 promises another")
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
