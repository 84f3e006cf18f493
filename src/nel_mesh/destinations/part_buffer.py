"""Memory for the parts of an object, taken from the system once, used for every part, and given back.

Objects of several MiB that come and go would leave as much again unused in the process.
"""

from __future__ import annotations

import contextlib
import io
import mmap
from typing import Any


class PartBuffer:
    """The content of one part. Only memory that content was written to is really taken.

    Args:
        capacity: the most that it holds, in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self._memory = mmap.mmap(-1, capacity)
        self._capacity = capacity
        self.length = 0
        """How many bytes it holds."""

    def add(self, content: memoryview, limit: int) -> int:
        """Add as much of the content as fits below `limit` bytes; return how much that is."""
        count = max(0, min(len(content), min(limit, self._capacity) - self.length))
        with memoryview(self._memory) as memory, content[:count] as block:
            memory[self.length : self.length + count] = block
        self.length += count
        return count

    def replace(self, content: memoryview) -> None:
        """Hold this content instead; the view is released."""
        with memoryview(self._memory) as memory, content:
            self.length = len(content)
            memory[: self.length] = content

    def view(self, start: int = 0) -> memoryview:
        """Return what it holds from `start` on, without a copy; to be released."""
        return memoryview(self._memory)[start : self.length]

    def close(self) -> None:
        """Give the memory back. Where a view of it is still in use, that happens when the view goes."""
        with contextlib.suppress(BufferError):
            self._memory.close()


class PartReader(io.RawIOBase):
    """A file object over memory, without a copy of it.

    Args:
        content: the memory.
    """

    def __init__(self, content: memoryview) -> None:
        super().__init__()
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return how many bytes that is."""
        block = self._content[self._position : self._position + len(buffer)]
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position
