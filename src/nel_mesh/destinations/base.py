"""What a destination is, as protocols.

Content arrives where nobody sees it. At the end of each chunk it is made durable; only then does the record of the
download speak of it. When all of it is there and verified, it gets its final name, if that name is free. So a process
that continues after a kill, here or on another machine, needs no more than the record and the destination.

The methods block; the async client calls them in worker threads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from nel_mesh.blocks import Block
from nel_mesh.io.buffers import PrefetchBuffer
from nel_mesh.io.journal import Claim, ListableJournal
from nel_mesh.models import MessageMetadata


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is durable of a message.

    Attributes:
        length: the first so many bytes of the content are.
        state: what a process needs to continue there, in the types of JSON; None if the length is enough.
    """

    length: int
    state: Mapping[str, Any] | None = None


class Upload(Protocol):
    """The content of one message on its way to a destination. All methods raise StorageError if it cannot be stored.

    After `start`, or `resume` and `truncate`, come for each chunk any number of `write` or one `append`, and then
    `checkpoint`, or `finish` after the last. A `truncate` goes back to where a chunk began.
    """

    def start(self, metadata: MessageMetadata) -> None:
        """Begin an empty one, in place of one that may be there."""

    def resume(self, state: Mapping[str, Any] | None, metadata: MessageMetadata) -> int | None:
        """Continue with what an earlier process left; return its length in bytes, None if there is nothing."""

    def truncate(self, length: int) -> None:
        """Drop what came after the first `length` bytes, and continue from there."""

    def write(self, blocks: Iterable[Block]) -> int:
        """Write blocks as they are made, each before the next is taken; return how many bytes that is."""

    def buffer(self, position: int | None, limit: int) -> PrefetchBuffer | None:
        """Return a buffer for a chunk that arrives before its turn; it will probably begin at `position`, if given.

        None: this destination has no room for such chunks.
        """

    def append(self, buffer: PrefetchBuffer) -> None:
        """Write a chunk that arrived before its turn."""

    def checkpoint(self) -> Checkpoint:
        """Note the end of a chunk; return the last such end up to which all is durable.

        That can be an earlier one: a store may take parts of a least size only, or take them in the background.
        """

    def finish(self) -> Checkpoint:
        """Make all of it durable: this is the end of the content."""

    def digest(self, algorithm: str, length: int) -> str | None:
        """Return the checksum of the first `length` bytes, in hex.

        None: this destination shows no content before it has its name; it can be asked again after `publish`. Raises
        ValueError for an algorithm that this machine refuses.
        """

    def is_published(self, name: str, length: int) -> bool:
        """Whether that name has been given to this content, of `length` bytes, durably."""

    def publish(self, name: str) -> bool:
        """Give the content its final name, durably; False if the name is taken by something else."""

    def withdraw(self, name: str) -> None:
        """Take the name back: the content proved to be damaged, by a `digest` after `publish`."""

    def remove(self) -> None:
        """Close it, and remove what has no final name."""

    def close(self) -> None:
        """Close it; what has arrived stays."""


class Record(Protocol):
    """How far one transfer has come, as bytes. After any interruption it is the old one or the new one."""

    @property
    def place(self) -> str:
        """Where it is, for error texts."""

    def lock(self) -> RecordLock:
        """Return the lock to be acquired before work under this record."""

    def read(self) -> bytes | None:
        """Read the record; None if there is none."""

    def write(self, content: bytes) -> None:
        """Replace the record, durably."""

    def forget(self) -> None:
        """Remove the record, if it is there."""


class RecordLock(Claim, Protocol):
    """The right to work on one transfer."""

    def acquire(self) -> bool:
        """Take it; False if another process or thread has it."""


class Records(Protocol):
    """The records of unfinished transfers."""

    def record(self, key: str) -> Record:
        """Return the record of a key, whether or not there is one yet."""

    def keys(self) -> Iterator[str]:
        """List the keys of all records."""


class Destination(Protocol):
    """A place for received messages."""

    @property
    def records(self) -> Records:
        """Where the records of unfinished downloads are kept."""

    def journal(self) -> ListableJournal:
        """Return the journal that is used where the caller gives none."""

    def upload(self, message_id: str) -> Upload:
        """Return the place for a message's content; nothing is opened yet."""

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the final names to try, the best first; `file_name` is wished for by the caller."""

    def is_name(self, name: str) -> bool:
        """Whether a name out of a record can be one that this destination gave."""

    def location(self, name: str) -> str:
        """Say where content of that name is: a path, or a URL without secrets."""

    def close(self) -> None:
        """Close its connections. It is not used after that."""
