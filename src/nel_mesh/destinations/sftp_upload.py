"""The content of one message on its way to a server of SFTP.

It arrives in a file below `.incoming/`, which is new for each download that starts: two machines that receive the same
message write to different files, and the one that comes second finds the message complete. A download that continues
writes from the last safe offset on; the file is cut to its length only at the end, as a process that is slow, and not
dead, may still write the same content to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import posixpath
import re
import secrets
import warnings
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nel_mesh.blocks import Block
from nel_mesh.destinations.base import Checkpoint
from nel_mesh.destinations.metadata import copy_digest, new_digest, sidecar_of
from nel_mesh.errors import IntegrityError, StorageError
from nel_mesh.io.buffers import PrefetchBuffer
from nel_mesh.models import MessageMetadata
from nel_mesh.stores.loop import Call
from nel_mesh.stores.sftp import SftpFile, SftpServer

_WRITE_BYTES = 1024 * 1024
"""At most so many bytes are written by one call: as many whole requests as fit."""
_WRITES_ON_THEIR_WAY = 6
_SAFE_BYTES = 32 * 1024 * 1024
"""After so many bytes the end of a chunk is made durable and recorded, which takes two disks and ten round trips.

The end of the first chunk is in any case, so that what a kill leaves is known. A later one is made durable while the
next chunk is written, and is recorded at the end of that one.
"""
_TOKEN = re.compile(r"[0-9a-f]{16}")


class _ChunkEnd(NamedTuple):
    """The state in which the last chunk ended: what `truncate` goes back to."""

    length: int
    digest: Any
    crc: int


class _Write(NamedTuple):
    """A write on its way, and the memory that its content is in until it has arrived."""

    call: Call[object]
    memory: bytearray


@dataclasses.dataclass
class _Sync:
    """The end of a chunk that is made durable in the background.

    Attributes:
        reached: what is durable then.
        writes: how many of the writes on their way are of content before it.
        call: the request, once those writes have arrived.
    """

    reached: Checkpoint
    writes: int
    call: Call[bool] | None = None


class SftpUpload:
    """One message on its way to a server of SFTP.

    Args:
        server: the server.
        message_id: the message.
        folder: the folder that final names are relative to.
        incoming: the folder of unfinished files.
        mode: the permissions of the file.
        sidecar: also write the metadata, as JSON, to the name with `.json` added.
    """

    def __init__(
        self, server: SftpServer, message_id: str, *, folder: str, incoming: str, mode: int, sidecar: bool
    ) -> None:
        self._server = server
        self._message_id = message_id
        self._folder = folder
        self._incoming = incoming
        self._mode = mode
        self._sidecar = sidecar
        self._metadata: MessageMetadata | None = None
        self._token: str | None = None
        self._file: SftpFile | None = None
        self._is_finished = False
        """Whether an earlier process had all of it in the file, durably, and the file's name as well."""
        self._published = False
        self._begin(0)

    def _begin(self, length: int) -> None:
        self._held = 0
        """How much of `_memory` is content that was not sent."""
        self._memory: bytearray | None = None
        # Used again: to take a mebibyte from the system costs as much as to fill it.
        self._spare: list[bytearray] = []
        self._sent = length
        self._on_their_way: deque[_Write] = deque()
        self._sync: _Sync | None = None
        self._failure: StorageError | None = None
        self._digest: Any = None
        self._crc = 0
        self._durable = Checkpoint(length)
        self._end: _ChunkEnd | None = None
        """None after `resume`, until the content that is there has been read."""

    def start(self, metadata: MessageMetadata) -> None:
        """Begin an empty file, in place of one that an earlier process left."""
        self._let_go()
        if self._token is not None:
            self._server.remove(self._path)
        self._begin(0)
        self._metadata = metadata
        self._token = secrets.token_hex(8)
        self._file = self._server.create(self._path, self._mode)
        if not self._file.sync():
            warnings.warn(
                f"{self._server.place}: the server cannot make files durable (fsync@openssh.com); each message is read "
                "back before it gets its name, and one that the server loses in a power failure is not noticed later",
                stacklevel=2,
            )
        self._digest = new_digest(metadata)
        self._note_end()

    def resume(self, state: Mapping[str, Any] | None, metadata: MessageMetadata) -> int | None:
        """Open the file that an earlier process, here or elsewhere, left; return its length."""
        self._metadata = metadata
        if state is None:
            return None
        token, crc = state.get("part"), state.get("crc32", 0)
        if not isinstance(token, str) or not _TOKEN.fullmatch(token) or not isinstance(crc, int):
            raise StorageError(f"{self._server.place}: the record is not one that was written here; remove it")
        self._let_go()
        self._token = token
        self._file = self._server.open(self._path, writable=True)
        self._is_finished = bool(state.get("is_named"))
        self._begin(0)
        self._crc = crc
        if self._file is None:
            return None
        self._file.sync()
        return self._file.status().length

    def truncate(self, length: int) -> None:
        """Continue from there. What comes after it in the file is written over, or cut off at the end.

        Where nothing has come since the end of the last chunk, writes stay on their way.
        """
        if self._end is not None and self._end.length == length == self._sent + self._held:
            return
        self._collect(most=0)
        if self._failure is not None:
            raise self._failure
        self._held = 0
        self._sent = length
        if self._end is None:
            self._digest = new_digest(self._known_metadata())
            if self._digest is not None:
                for block in self._opened().blocks(0, length):
                    self._digest.update(block)
            self._durable = Checkpoint(length, self._state())
            self._note_end()
        elif self._end.length != length:
            raise StorageError(f"{self._server.place}: the content cannot go back to {length:,} bytes")
        else:
            self._digest, self._crc = copy_digest(self._end.digest), self._end.crc

    def write(self, blocks: Iterable[Block]) -> int:
        """Gather blocks, and send them on in larger ones, several at once."""
        length = 0
        for block in blocks:
            length += len(block)
            content = memoryview(block)
            while content:
                if self._memory is None:
                    self._memory = self._spare.pop() if self._spare else bytearray(self._opened().unit(_WRITE_BYTES))
                count = min(len(content), len(self._memory) - self._held)
                self._memory[self._held : self._held + count] = content[:count]
                self._held += count
                content = content[count:]
                if self._held == len(self._memory):
                    self._send()
        return length

    def buffer(self, position: int | None, limit: int) -> PrefetchBuffer | None:
        """Return None: memory would grow with the chunks, and a disk may not be there."""
        return None

    def append(self, buffer: PrefetchBuffer) -> None:
        """Never called, as there are no buffers."""
        raise NotImplementedError

    def checkpoint(self) -> Checkpoint:
        """Note the end of a chunk; make it durable, if it is the first or enough was written since the last."""
        self._send()
        self._finish_sync()
        is_due = self._sent - self._durable.length >= _SAFE_BYTES
        if not self._durable.length or (is_due and not self._server.has_fsync):
            self._collect(most=0)
            if not self._opened().sync():
                self._reopen()
            self._durable = Checkpoint(self._sent, self._state())
        elif is_due:
            self._sync = _Sync(Checkpoint(self._sent, self._state()), len(self._on_their_way))
        self._note_end()
        return self._durable

    def finish(self) -> Checkpoint:
        """Make all of it durable, and the name that it has until it has its final one."""
        self._send()
        self._finish_sync()
        self._collect(most=0)
        file = self._opened()
        if file.status().length > self._sent:
            file.set_length(self._sent)
        if not file.sync():
            self._reopen()
            self._read_back()
        length = self._opened().status().length
        is_named = self._server.sync_folder(self._incoming.rstrip("/"))
        return Checkpoint(length, {**self._state(), "is_named": is_named})

    def digest(self, algorithm: str, length: int) -> str | None:
        """Return the checksum of the content, as it went through here."""
        if self._digest is None:
            # Raises ValueError for one that this machine refuses; else there is none to compare with.
            hashlib.new(algorithm, usedforsecurity=False)
            return None
        return str(self._digest.hexdigest())

    def is_published(self, name: str, length: int) -> bool:
        """Whether the file of that name is this content.

        The temporary name goes last: where it is gone although it was durable, the file had its final one, and a
        program that waits for such files may have moved it since.
        """
        final = self._folder + name
        if self._file is None:
            found = self._server.size(final)
            self._published = found == length if found is not None else self._is_finished
        else:
            self._published = self._is_same(final)
        return self._published

    def publish(self, name: str) -> bool:
        """Give the content its name; False if the name is taken by something else."""
        if self._sidecar:
            self._put_sidecar(f"{self._folder}{name}.json")
        self._published = self._give_name(self._path, self._folder + name)
        return self._published

    def _give_name(self, path: str, final: str) -> bool:
        """Give a file its final name in place of the temporary one; False if something else has it."""
        if self._server.link(path, final):
            self._server.sync_folder(posixpath.dirname(final))
            self._server.remove(path)
            return True
        # A server whose rename replaces is not asked to: between this look and the rename only a copy of the same
        # message can come, as its id is in the name.
        if not self._server.exists(final) and self._server.rename(path, final):
            self._server.sync_folder(posixpath.dirname(final))
            return True
        if not self._server.exists(path):
            raise self._server.error(path, "another process has removed it, as it received the same message; run again")
        if not self._server.exists(final):
            raise self._server.error(final, "the server gives no file this name; check the permissions of the folder")
        if not self._same(path, final):
            return False
        self._server.remove(path)
        return True

    def _put_sidecar(self, final: str) -> None:
        content = sidecar_of(self._known_metadata())
        path = f"{self._incoming}{self._message_id}.{secrets.token_hex(8)}.new"
        write_file(self._server, path, content, self._mode)
        if not self._give_name(path, final):
            raise self._server.error(final, "something else is there, and is not replaced")

    def withdraw(self, name: str) -> None:
        """Remove the file of that name. Not needed here: its checksum is known before it has one."""
        self._server.remove(self._folder + name)

    def remove(self) -> None:
        """Remove what has no final name; of a message that is complete, also what other processes left."""
        self._let_go()
        if self._published:
            for name, _ in list(self._server.names(self._incoming.rstrip("/"))):
                if name.startswith(f"{self._message_id}."):
                    self._server.remove(self._incoming + name)
        elif self._token is not None:
            self._server.remove(self._path)

    def close(self) -> None:
        """Close the file; what has arrived stays."""
        self._let_go()

    @property
    def _path(self) -> str:
        return f"{self._incoming}{self._message_id}.{self._token}.part"

    def _state(self) -> dict[str, Any]:
        # Of what a server without fsync has lost, only a comparison can tell.
        return {"part": self._token} if self._server.has_fsync else {"part": self._token, "crc32": self._crc}

    def _send(self) -> None:
        """Write what is held, beside what is being written already."""
        self._collect(most=_WRITES_ON_THEIR_WAY - 1)
        if self._failure is not None:
            raise self._failure
        if self._memory is None or not self._held:
            return
        memory, self._memory = self._memory, None
        content = memoryview(memory)[: self._held]
        self._held = 0
        self._on_their_way.append(_Write(self._opened().start_write(self._sent, content), memory))
        self._sent += len(content)
        if self._digest is not None:
            self._digest.update(content)
        if not self._server.has_fsync:
            self._crc = zlib.crc32(content, self._crc)

    def _collect(self, *, most: int) -> None:
        """Wait until at most `most` writes are on their way."""
        while len(self._on_their_way) > most:
            try:
                self._on_their_way[0].call.result()
            except StorageError as failure:
                # After it there is a gap.
                self._failure = failure
                raise
            self._spare.append(self._on_their_way.popleft().memory)
            if self._sync is not None:
                self._sync.writes -= 1
                self._start_sync(self._sync)

    def _start_sync(self, sync: _Sync) -> None:
        """Ask the server to make content durable, once it has that; a server may do the one before the other."""
        if sync.writes <= 0 and sync.call is None:
            sync.call = self._opened().start_sync()

    def _finish_sync(self) -> None:
        """Wait until the last end of a chunk is durable, if that is being done."""
        if self._sync is None:
            return
        while self._sync.writes > 0:
            self._collect(most=len(self._on_their_way) - 1)
        self._start_sync(self._sync)
        sync, self._sync = self._sync, None
        try:
            if sync.call is not None and sync.call.result():
                self._durable = sync.reached
        except StorageError as failure:
            # A disk tells of what it lost only once: a later request may succeed.
            self._failure = failure
            raise

    def _note_end(self) -> None:
        self._end = _ChunkEnd(self._sent, copy_digest(self._digest), self._crc)

    def _reopen(self) -> None:
        """Close the file and open it again, which is the most that a server without fsync can do."""
        self._opened().close()
        self._file = self._server.open(self._path, writable=True)
        if self._file is None or self._file.status().length < self._sent:
            raise self._server.error(self._path, f"of {self._sent:,} bytes that the server has taken, some are missing")

    def _read_back(self) -> None:
        crc = 0
        for block in self._opened().blocks(0):
            crc = zlib.crc32(block, crc)
        if crc != self._crc:
            raise IntegrityError(f"{self._server.place}/{self._path}: the server has stored other bytes than were sent")

    def _is_same(self, final: str) -> bool:
        return self._server.exists(final) and self._same(self._path, final)

    def _same(self, path: str, final: str) -> bool:
        """Whether two files have the same content; SFTP does not tell whether they are the same file."""
        if self._server.size(path) != self._server.size(final):
            return False
        one, other = self._server.open(path), self._server.open(final)
        try:
            if one is None or other is None:
                return False
            return all(left == right for left, right in zip(one.blocks(0), other.blocks(0), strict=True))
        finally:
            for file in (one, other):
                if file is not None:
                    file.close()

    def _let_go(self) -> None:
        """Close the file, if its connection still works; nothing that is being written is waited for."""
        for write in self._on_their_way:
            write.call.cancel()
        self._on_their_way.clear()
        if self._sync is not None and self._sync.call is not None:
            self._sync.call.cancel()
        self._sync = None
        file, self._file = self._file, None
        if file is not None:
            # With its connection the server has closed it.
            with contextlib.suppress(StorageError):
                file.close()

    def _opened(self) -> SftpFile:
        if self._file is None:
            raise StorageError(f"{self._server.place}: the partial file has not been opened")
        return self._file

    def _known_metadata(self) -> MessageMetadata:
        if self._metadata is None:
            raise StorageError(f"{self._server.place}: the upload has not been started")
        return self._metadata


def write_file(server: SftpServer, path: str, content: bytes, mode: int) -> None:
    """Write a small new file, durably."""
    file = server.create(path, mode)
    try:
        file.start_write(0, content).result()
        file.sync()
    finally:
        file.close()
