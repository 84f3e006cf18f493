"""What a destination is, as protocols.

Content arrives under a temporary name. At the end of each chunk it is made durable; only then does the record of the
download speak of it. When all of it is there and verified, it gets its final name, if that name is free. So a process
that continues after a kill, here or elsewhere, needs no more than the record and the destination.

The methods block; the async client calls them in worker threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from nel_mesh.io.partial import PrefetchBuffer
from nel_mesh.io.transfers import TransferRecords
from nel_mesh.models import MessageMetadata


class Upload(Protocol):
    """The content of one message on its way to a destination. All methods raise StorageError if it cannot be stored."""

    def create(self) -> None:
        """Begin an empty one, in place of one that may be there."""

    def open(self) -> int | None:
        """Continue with what an earlier process left; return its length in bytes, None if there is nothing."""

    def length(self) -> int:
        """Return how many bytes are there."""

    def truncate(self, length: int) -> None:
        """Drop what came after the first `length` bytes, and continue from there."""

    def write(self, blocks: Iterable[bytes]) -> int:
        """Write blocks as they are made; return how many bytes that is."""

    def buffer(self, position: int | None, limit: int) -> PrefetchBuffer:
        """Return a buffer for a chunk that arrives before its turn; it will probably begin at `position`, if given."""

    def append(self, buffer: PrefetchBuffer) -> None:
        """Write a chunk that arrived before its turn."""

    def sync(self) -> None:
        """Make what was written durable."""

    def digest(self, algorithm: str, length: int) -> str:
        """Return the checksum of the first `length` bytes, in hex. Raises ValueError for a refused algorithm."""

    def is_published(self, name: str) -> bool:
        """Whether that name has been given to this content, durably."""

    def publish(self, name: str) -> bool:
        """Give the content its final name, durably; False if the name is taken."""

    def remove(self) -> None:
        """Close it, and remove what is under the temporary name."""

    def close(self) -> None:
        """Close it; what has arrived stays."""


class Destination(Protocol):
    """A place for received messages."""

    @property
    def records(self) -> TransferRecords:
        """Where the records of unfinished downloads are kept."""

    def upload(self, message_id: str) -> Upload:
        """Return the place for a message's content; nothing is opened yet."""

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the final names to try, the best first; `file_name` is wished for by the caller."""

    def is_name(self, name: str) -> bool:
        """Whether a name out of a record can be one that this destination gave."""

    def location(self, name: str) -> Path:
        """Say where content of that name is."""
