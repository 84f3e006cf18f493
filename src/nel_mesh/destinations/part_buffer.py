"""Memory for the parts of an object, taken from the system once, used for every part, and given back.

It is cut into segments, which belong to the part that is gathered, to those on their way, or to none. So parts of any
length share a bounded memory, and a part is gathered, sent, and gone back to without a copy. Objects of several MiB
that come and go would leave as much again unused in the process.
"""

from __future__ import annotations

import contextlib
import io
import mmap
from collections.abc import Collection, Iterator
from typing import Any

_READ_BYTES = 128 * 1024
"""What urllib3 asks for. botocore asks for a mebibyte where it signs the content, which is without TLS."""


class PartMemory:
    """Segments of equal length. Only those that content was written to are really taken from the system.

    Args:
        segments: how many there are.
        segment_bytes: how long each is.
    """

    def __init__(self, segments: int, segment_bytes: int) -> None:
        self._memory = mmap.mmap(-1, segments * segment_bytes)
        self.segment_bytes = segment_bytes

    def unused(self, used: Collection[int], most: int) -> int | None:
        """Return a segment that is not in use, out of the first `most`; None if all of those are."""
        return next((number for number in range(most) if number not in used), None)

    def view(self, segment: int, start: int, end: int) -> memoryview:
        """Return bytes of a segment, without a copy; to be released."""
        first = segment * self.segment_bytes
        with memoryview(self._memory) as memory:
            return memory[first + start : first + end]

    def close(self) -> None:
        """Give the memory back. Where a view of it is still in use, that happens when the view goes."""
        with contextlib.suppress(BufferError):
            self._memory.close()


class PartContent:
    """The content of one part: segments, each full but the last.

    Args:
        memory: where the segments are.
        segments: their numbers, in order.
        length: how many bytes it holds.
    """

    def __init__(self, memory: PartMemory, segments: list[int] | None = None, length: int = 0) -> None:
        self._memory = memory
        self.segments = segments or []
        self.length = length

    def __len__(self) -> int:
        return self.length

    @property
    def needs_segment(self) -> bool:
        """Whether the last segment is full, so that another one must be added to `segments` before content."""
        return self.length == len(self.segments) * self._memory.segment_bytes

    def add(self, content: memoryview, limit: int) -> int:
        """Add as much as fits into the last segment, and below `limit` bytes; return how much that is."""
        start = self.length - (len(self.segments) - 1) * self._memory.segment_bytes
        count = max(0, min(len(content), limit - self.length, self._memory.segment_bytes - start))
        with self._memory.view(self.segments[-1], start, start + count) as room, content[:count] as block:
            room[:] = block
        self.length += count
        return count

    def copy(self) -> PartContent:
        """Return the same content, in the same segments, that stays as it is when this one grows."""
        return PartContent(self._memory, list(self.segments), self.length)

    def split(self, length: int) -> PartContent:
        """Take the first `length` bytes away: all, or a multiple of a segment."""
        count = len(self.segments) if length == self.length else length // self._memory.segment_bytes
        first = PartContent(self._memory, self.segments[:count], length)
        del self.segments[:count]
        self.length -= length
        return first

    def read(self, start: int, size: int) -> memoryview:
        """Return bytes from one place on, without a copy: up to `size`, and to the end of a segment; to be released."""
        number, within = divmod(start, self._memory.segment_bytes)
        count = max(0, min(size, self.length - start, self._memory.segment_bytes - within))
        return self._memory.view(self.segments[number], within, within + count) if count else memoryview(b"")

    def blocks(self) -> Iterator[memoryview]:
        """Give all of it, without a copy."""
        for start in range(0, self.length, self._memory.segment_bytes):
            with self.read(start, self._memory.segment_bytes) as block:
                yield block

    def __bytes__(self) -> bytes:
        return b"".join(map(bytes, self.blocks()))


class PartReader(io.RawIOBase):
    """A file object over a part, without a copy of it.

    Args:
        content: the part.
    """

    def __init__(self, content: PartContent) -> None:
        super().__init__()
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read up to so many bytes, and at most `_READ_BYTES`: the copies count, of several parts at once."""
        if size < 0:
            return self.readall()
        with self._content.read(self._position, min(size, _READ_BYTES)) as block:
            self._position += len(block)
            return bytes(block)

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, up to the end of a segment; return how many bytes that is."""
        with self._content.read(self._position, len(buffer)) as block:
            buffer[: len(block)] = block
            self._position += len(block)
            return len(block)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._content.length}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position
