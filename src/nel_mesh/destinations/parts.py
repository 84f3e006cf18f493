"""Content that a store takes in parts, and shows only when it is complete: S3, Azure Blob.

Parts are sent in the background while the next one is gathered, several at once. S3 wants at least 5 MiB in every part
but the last; a MESH chunk ends wherever its sender cut it. So a part is cut only when enough stays for the next one,
and the end of a chunk is durable once every part up to it has arrived. If less than a least part is left at the end of
a chunk, it goes with the next part, and a process that is killed meanwhile fetches that chunk again.

Memory: as many segments as `PartSizes` says, whatever the message. What is gathered waits for a part on its way only
when all of them are in use.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from nel_mesh.blocks import Block
from nel_mesh.destinations.base import Checkpoint
from nel_mesh.destinations.metadata import copy_digest, new_digest, sidecar_of
from nel_mesh.destinations.part_buffer import PartContent, PartMemory
from nel_mesh.destinations.state import Store
from nel_mesh.errors import StorageError
from nel_mesh.io.buffers import PrefetchBuffer
from nel_mesh.io.concurrency import BackgroundTasks, Task
from nel_mesh.models import MessageMetadata

_MEBIBYTE = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class PartSizes:
    """How long parts are.

    S3 takes 10,000 parts of an object, and MESH 100 GB in a message. Even if chunks are so short that each part has
    its least length, 2,400 parts of 5 MiB and 7,600 of 11 MiB are 100 GB. A message of less than 12 GB needs no
    later part, however long its chunks are. Parts of 8 MiB cost client and store a tenth less processor time than
    those of 5 MiB, as each is a request with a checksum of its own.

    Attributes:
        first: the usual length of a part, in bytes; a multiple of a segment, as `later` is.
        later: that of a part after `longer_after`, and the least one.
        longer_after: how many parts have the first length.
        segment: how long a segment of memory is.
        segments: how many of them are used for parts of the first length.
        later_segments: how many are used for later parts. A part that is gathered and what the last chunk left of it
            must fit in: twice `later`, and a least part of the store.
    """

    first: int = 8 * _MEBIBYTE
    later: int = 11 * _MEBIBYTE
    longer_after: int = 2400
    segment: int = _MEBIBYTE
    segments: int = 24
    later_segments: int = 27

    def usual(self, parts: int) -> int:
        """Return how long the next part usually is, after so many."""
        return self.first if parts < self.longer_after else self.later

    def segments_for(self, parts: int) -> int:
        """Return how many segments may be used, after so many parts."""
        return self.segments if parts < self.longer_after else self.later_segments

    def least(self, parts: int, least_of_store: int) -> int:
        """Return how long the next part must be, after so many, to be sent at the end of a chunk."""
        return max(1, least_of_store if parts < self.longer_after else max(least_of_store, self.later))


_PART_SIZES = PartSizes()


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One part that the store has, durably.

    Attributes:
        length: its length in bytes.
        tag: what the store calls it: an ETag, or the id of a block.
        sha256: its checksum, in base64; the store has compared it.
    """

    length: int
    tag: str
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class StoredObject:
    """A complete object.

    Attributes:
        length: its length in bytes.
        message_id: the message that it says it is of; None if it says nothing.
        checksum: the store's own checksum of it: of one that was `put`, its SHA-256 in base64; of one that was
            completed, what `PartStore.checksum_of` returns for its parts. None if the store has none.
    """

    length: int
    message_id: str | None
    checksum: str | None = None


class PartStore(Store, Protocol):
    """A store of objects that arrive in parts. All methods raise StorageError if the store will not or cannot."""

    least_part_bytes: int
    """Every part but the last has at least so many bytes."""

    def begin(self, key: str, metadata: MessageMetadata) -> str:
        """Begin an object, which nobody sees before `complete`; return the id of this upload."""

    def is_open(self, key: str, upload_id: str, parts: list[Part]) -> bool:
        """Whether the store still has this upload and these parts of it."""

    def put_part(self, key: str, upload_id: str, number: int, content: PartContent, sha256: str) -> Part:
        """Store part `number`, from 1, durably. The store compares its SHA-256 (base64). Called by several threads.

        The content's memory is used for another part afterwards; `PartReader` makes a file object of it.
        """

    def complete(self, key: str, upload_id: str, parts: list[Part], metadata: MessageMetadata) -> bool:
        """Make the object of its parts, visible at once and whole; False if there is one of that key."""

    def put(self, key: str, content: bytes, metadata: MessageMetadata) -> bool:
        """Make a small object; False if there is one of that key."""

    def find(self, key: str) -> StoredObject | None:
        """Look at an object; None if there is none."""

    def checksum_of(self, parts: list[Part]) -> str | None:
        """Return what `StoredObject.checksum` is for an object of these parts; None if that cannot be told."""

    def read_blocks(self, key: str) -> Iterator[bytes]:
        """Read an object, a block at a time."""

    def abandon(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. It may be gone already."""


@dataclasses.dataclass(slots=True)
class _ChunkEnd:
    """The state in which the last chunk ended: what `truncate` goes back to."""

    length: int
    parts: int
    digest: Any


class _OnItsWay(NamedTuple):
    """A part that is being sent."""

    task: Task[Part]
    content: PartContent


class _SafePoint(NamedTuple):
    """The end of a chunk, at which all of the content before it is in parts."""

    length: int
    parts: int


class PartedUpload:
    """One message on its way into a store of parts.

    Args:
        store: the store.
        message_id: the message.
        key_of: makes the key from the message's metadata.
        sidecar: also write the metadata, as JSON, to the key with `.json` added, before the object is complete.
        sizes: how long parts are.
    """

    def __init__(
        self,
        store: PartStore,
        message_id: str,
        key_of: Callable[[MessageMetadata], str],
        *,
        sidecar: bool = False,
        sizes: PartSizes = _PART_SIZES,
    ) -> None:
        self._store = store
        self._message_id = message_id
        self._key_of = key_of
        self._sidecar = sidecar
        self._sizes = sizes
        self._background = BackgroundTasks()
        self._metadata: MessageMetadata | None = None
        self._key: str | None = None
        self._upload_id: str | None = None
        # Shared by no other message, and taken only as far as it is used.
        self._memory = PartMemory(max(sizes.segments, sizes.later_segments), sizes.segment)
        self._start_again()

    def _start_again(self) -> None:
        self._parts: list[Part] = []
        self._on_their_way: deque[_OnItsWay] = deque()
        self._held = PartContent(self._memory)
        self._held_at_end = PartContent(self._memory)
        """What was held when the last chunk ended: less than a least part."""
        self._sent_bytes = 0
        self._digest: Any = None
        self._failure: BaseException | None = None
        """Why a part did not arrive: nothing may be built on what came before it."""
        self._whole = True
        """Whether all of the content has gone through this object, so that it has its checksum."""
        self._published = False
        self._completed = False
        """Whether this upload, and not another worker's, has become the object."""
        self._end = _ChunkEnd(0, 0, None)
        self._safe_points: deque[_SafePoint] = deque()

    def start(self, metadata: MessageMetadata) -> None:
        """Begin an empty object, in place of an upload that may be there."""
        self._settle()
        if self._key is not None and self._upload_id is not None:
            self._store.abandon(self._key, self._upload_id)
        self._upload_id = None
        self._start_again()
        self._metadata = metadata
        self._key = self._key_of(metadata)
        self._digest = new_digest(metadata)
        self._end = _ChunkEnd(0, 0, copy_digest(self._digest))

    def resume(self, state: Mapping[str, Any] | None, metadata: MessageMetadata) -> int | None:
        """Continue with the parts that an earlier process, here or elsewhere, has sent."""
        self._metadata = metadata
        if state is None:
            return None
        try:
            key, upload_id = str(state["key"]), str(state["upload_id"])
            parts = [Part(int(length), str(tag), _checked(sha256)) for length, tag, sha256 in state["parts"]]
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise StorageError(f"{self._store.place}: the record is not one that was written here; remove it") from None
        self._key, self._upload_id = key, upload_id
        if not self._store.is_open(key, upload_id, parts):
            return None
        self._start_again()
        self._parts = parts
        self._sent_bytes = sum(part.length for part in parts)
        self._whole = False
        self._end = _ChunkEnd(self._sent_bytes, len(parts), None)
        return self._sent_bytes

    def truncate(self, length: int) -> None:
        """Go back to where the chunk began; where nothing has come since, parts stay on their way."""
        if self._end.length == length == self._sent_bytes + self._held.length:
            return
        self._settle()
        if self._failure is not None:
            raise self._failure
        end = self._end
        if end.length != length:
            raise StorageError(f"{self._store.place}: the content cannot go back to {length:,} bytes")
        del self._parts[end.parts :]
        self._held = self._held_at_end.copy()
        self._sent_bytes = length - self._held.length
        self._digest = copy_digest(end.digest)

    def write(self, blocks: Iterable[Block]) -> int:
        """Gather blocks, and send a part whenever enough of them are there."""
        length = 0
        for block in blocks:
            length += len(block)
            if self._digest is not None:
                self._digest.update(block)
            content = memoryview(block)
            while content:
                usual = self._sizes.usual(self._number)
                limit = usual + self._store.least_part_bytes
                if self._held.needs_segment:
                    self._held.segments.append(self._free_segment())
                content = content[self._held.add(content, limit) :]
                if self._held.length >= limit:
                    self._send(usual)
        return length

    def buffer(self, position: int | None, limit: int) -> PrefetchBuffer | None:
        """Return None: memory would grow with the chunks, and a disk may not be there."""
        return None

    def append(self, buffer: PrefetchBuffer) -> None:
        """Never called, as there are no buffers."""
        raise NotImplementedError

    def checkpoint(self) -> Checkpoint:
        """Note the end of a chunk; say up to which end all parts have arrived: that of the last one, or this one."""
        if self._held.length >= self._sizes.least(self._number, self._store.least_part_bytes):
            self._send(self._held.length)
        length = self._sent_bytes + self._held.length
        self._end = _ChunkEnd(length, self._number, copy_digest(self._digest))
        self._held_at_end = self._held.copy()
        # All of the chunk before has to be there: what fails now costs no more than this one and that.
        before = self._safe_points[-1].parts if self._safe_points else 0
        if not self._held.length:
            self._safe_points.append(_SafePoint(length, self._number))
        failure: StorageError | None = None
        try:
            self._collect(most=self._number - before)
        except StorageError as error:
            failure = error
        reached = [point for point in self._safe_points if point.parts <= len(self._parts)]
        if not reached:
            if failure is not None:
                raise failure
            return Checkpoint(0)
        # What has arrived is told before the next call fails for the part that has not.
        while self._safe_points[0] != reached[-1]:
            self._safe_points.popleft()
        return Checkpoint(reached[-1].length, self._state(reached[-1].parts))

    def finish(self) -> Checkpoint:
        """Send what is left. Content that fits into one small part is sent by `publish`, in one request."""
        if self._upload_id is not None and (self._held.length or not self._number):
            self._send(self._held.length)
        self._collect(most=0)
        length = self._sent_bytes + self._held.length
        return Checkpoint(length, self._state(len(self._parts)) if self._upload_id is not None else None)

    def digest(self, algorithm: str, length: int) -> str | None:
        """Return the checksum of the content: as it went through here, or read back once it has its name."""
        if self._published and not self._whole:
            found = hashlib.new(algorithm, usedforsecurity=False)
            for block in self._store.read_blocks(self._known_key()):
                found.update(block)
            return found.hexdigest()
        if not self._whole:
            return None
        if self._digest is None:
            hashlib.new(algorithm, usedforsecurity=False)
            return None
        return str(self._digest.hexdigest())

    def is_published(self, name: str, length: int) -> bool:
        """Whether the object of that key is of this message, complete."""
        self._published = self._is_stored(name, length)
        self._whole = False
        self._key = name
        return self._published

    def publish(self, name: str) -> bool:
        """Make the object visible, and compare the store's own checksum; False if something else has its key."""
        metadata = self._known_metadata()
        length = self._sent_bytes + self._held.length
        if self._sidecar:
            self._put_sidecar(f"{name}.json", metadata)
        if self._upload_id is None:
            made = self._store.put(name, bytes(self._held), metadata)
        else:
            made = self._store.complete(name, self._upload_id, self._parts, metadata)
        if not made:
            self._published = self._is_stored(name, length)
            return self._published
        self._completed = self._published = True
        self._verify(name, length)
        return True

    def _put_sidecar(self, key: str, metadata: MessageMetadata) -> None:
        if not self._store.put(key, sidecar_of(metadata), metadata):
            found = self._store.find(key)
            if found is None or found.message_id != self._message_id:
                raise StorageError(f"{self._store.place}/{key}: something else is there, and is not replaced")

    def _verify(self, name: str, length: int) -> None:
        """Compare what the store says of the object that was just made with what was sent."""
        found = self._store.find(name)
        expected = self._expected_checksum()
        if found is None or found.length != length:
            said = "no object" if found is None else f"{found.length:,} bytes"
        elif None not in (found.checksum, expected) and found.checksum != expected:
            said = "another checksum"
        else:
            return
        self._store.remove_object(name)
        raise StorageError(f"{self._store.place}/{name}: {length:,} bytes were stored, and the store shows {said}")

    def withdraw(self, name: str) -> None:
        """Remove the object: its content proved to be damaged."""
        self._store.remove_object(name)

    def remove(self) -> None:
        """Drop the parts of an upload that was not completed."""
        self.close()
        if self._key is not None and self._upload_id is not None and not self._completed:
            self._store.abandon(self._key, self._upload_id)
        self._upload_id = None

    def close(self) -> None:
        """Wait for the parts on their way; what has arrived stays."""
        self._settle()
        self._memory.close()

    @property
    def _number(self) -> int:
        """How many parts there are, with those on their way."""
        return len(self._parts) + len(self._on_their_way)

    def _send(self, length: int) -> None:
        """Send the next `length` bytes as a part, in the background."""
        key = self._known_key()
        if self._upload_id is None:
            self._upload_id = self._store.begin(key, self._known_metadata())
        self._collect()
        content = self._held.split(length)
        task = self._background.start(self._put, key, self._upload_id, self._number + 1, content)
        self._on_their_way.append(_OnItsWay(task, content))
        self._sent_bytes += length

    def _put(self, key: str, upload_id: str, number: int, content: PartContent) -> Part:
        return self._store.put_part(key, upload_id, number, content, _sha256(content))

    def _free_segment(self) -> int:
        """Return a segment that is not in use; wait for parts on their way until there is one."""
        while True:
            used = {*self._held.segments, *self._held_at_end.segments}
            used.update(*(one.content.segments for one in self._on_their_way))
            found = self._memory.unused(used, self._sizes.segments_for(self._number))
            if found is not None:
                return found
            self._collect(most=len(self._on_their_way) - 1)

    def _collect(self, *, most: int | None = None) -> None:
        """Note the parts that arrived; wait until at most `most` are on their way."""
        if self._failure is not None:
            raise self._failure
        while self._on_their_way and (
            self._on_their_way[0].task.is_done() or (most is not None and len(self._on_their_way) > most)
        ):
            self._parts.append(self._on_their_way[0].task.result())
            self._on_their_way.popleft()

    def _settle(self) -> None:
        """Wait for every part on its way, whatever becomes of it: none may arrive later and replace another."""
        for one in self._on_their_way:
            while not one.task.is_done(1.0):
                pass
        while self._on_their_way:
            try:
                self._parts.append(self._on_their_way.popleft().task.result())
            except StorageError as failure:
                self._failure = failure
                self._on_their_way.clear()

    def _state(self, parts: int) -> Mapping[str, Any]:
        return {
            "key": self._key,
            "upload_id": self._upload_id,
            "parts": [[part.length, part.tag, part.sha256] for part in self._parts[:parts]],
        }

    def _is_stored(self, key: str, length: int) -> bool:
        """Whether a complete object of this message has the key; another worker may have made it.

        Ours has our parts' checksum. Another's may have been cut into other parts, and then its length and its
        message tell: what one message is never changes.
        """
        found = self._store.find(key)
        if found is None:
            return False
        if found.length != length:
            return False
        return found.message_id == self._message_id or (
            found.checksum is not None and found.checksum == self._expected_checksum()
        )

    def _expected_checksum(self) -> str | None:
        if self._upload_id is not None:
            return self._store.checksum_of(self._parts)
        return _sha256(self._held) if self._whole else None

    def _known_key(self) -> str:
        if self._key is None:
            raise StorageError(f"{self._store.place}: the upload has not been started")
        return self._key

    def _known_metadata(self) -> MessageMetadata:
        if self._metadata is None:
            raise StorageError(f"{self._store.place}: the upload has not been started")
        return self._metadata


def _sha256(content: PartContent) -> str:
    digest = hashlib.sha256()
    for block in content.blocks():
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def _checked(sha256: object) -> str:
    text = str(sha256)
    base64.b64decode(text, validate=True)
    return text
