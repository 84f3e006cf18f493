"""A folder as the destination of messages."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from nel_mesh.blocks import Block
from nel_mesh.destinations.base import Checkpoint
from nel_mesh.destinations.folder_sidecar import FolderSidecar, rename_if_free
from nel_mesh.destinations.metadata import sidecar_of
from nel_mesh.errors import StorageError
from nel_mesh.io.buffers import PlacedBuffer, PrefetchBuffer
from nel_mesh.io.files import StrPath, open_in_folder, sync_folder, translate_storage_errors, write_all
from nel_mesh.io.journal import SqliteJournal
from nel_mesh.io.transfers import TransferRecords
from nel_mesh.models import MessageMetadata, Report
from nel_mesh.protocol import filenames

JOURNAL_NAME = ".nel-mesh-journal"
"""The file, in the folder, that remembers what has been delivered."""

_DIGEST_BLOCK_BYTES = 1024 * 1024
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class FolderDestination:
    """Store each message as a file in a folder. A file is never replaced, and is never seen unfinished.

    A file is called as its message says, made safe; where there is a file of that name, the message id is put into
    the name. A report is stored as `report-<message id>.json`. What is unfinished has a hidden name: `.<message
    id>.part` for the content, `.<message id>.json` for the record, `.<message id>.sidecar` for the sidecar.

    Args:
        folder: the folder; made if need be.
        file_mode: the permissions of the files. Default: only the owner may read and write them (0600).
        sidecar: also write all metadata, as JSON, to the name with `.json` added, before the file is there. If there is
            a file of that name, the message id is put into both names.
    """

    def __init__(self, folder: str | os.PathLike[str], *, file_mode: int = 0o600, sidecar: bool = False) -> None:
        self.folder = Path(folder)
        self.file_mode = file_mode
        self.sidecar = sidecar
        self.records = TransferRecords(self.folder, prefix=".")

    def journal(self) -> SqliteJournal:
        """Return the journal in the folder, which is the default of `receive_messages`."""
        return SqliteJournal(self.folder / JOURNAL_NAME)

    def upload(self, message_id: str) -> FolderUpload:
        """Return the file for a message's content; nothing is opened yet."""
        return FolderUpload(os.path.join(self.folder, f".{message_id}.part"), mode=self.file_mode, sidecar=self.sidecar)

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the names to try, the best first."""
        message_id = metadata.message_id
        if isinstance(metadata, Report):
            wish = f"report-{message_id}.json"
        else:
            wish = filenames.safe_name(file_name or metadata.file_name, message_id)
        yield wish
        for attempt in itertools.count(1):
            yield filenames.unique_name(wish, message_id, attempt)

    def is_name(self, name: str) -> bool:
        """Whether a name out of a record can be one that this folder gave: no path, and nothing hidden."""
        return filenames.is_safe(name)

    def location(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.folder / name)

    def close(self) -> None:
        """Do nothing: a folder has no connections."""


class FolderUpload:
    """A file whose content is still arriving, under a temporary name beside its final one.

    Two orders make it trustworthy: content is durable before a record speaks of it, and before it has its name.

    Args:
        path: the temporary name.
        mode: the permissions of the file.
        sidecar: also write the metadata, as JSON, to the name with `.json` added.
    """

    def __init__(self, path: StrPath, *, mode: int = 0o600, sidecar: bool = False) -> None:
        self._path = os.fspath(path)
        self._folder = os.path.dirname(self._path) or os.curdir
        self._mode = mode
        self._file: FileIO | None = None
        self._digest: hashlib._Hash | None = None
        self._digested = 0
        self._has_temporary_name = True
        """Whether there may be a file of that name."""
        self._sidecar = FolderSidecar(Path(path).with_suffix(".sidecar"), mode=mode) if sidecar else None
        self._metadata: MessageMetadata | None = None
        self._is_resumed = False

    def start(self, metadata: MessageMetadata) -> None:
        """Begin an empty file. One that is there is removed, not emptied: it may have its final name too."""
        self.close()
        self._digest = None
        self._metadata = metadata
        with translate_storage_errors(self._folder):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | getattr(os, "O_BINARY", 0)
            try:
                descriptor = open_in_folder(self._path, flags, self._mode)
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                descriptor = os.open(self._path, flags, self._mode)
            self._file = FileIO(descriptor, "r+")
            self._has_temporary_name = True

    def resume(self, state: Mapping[str, Any] | None, metadata: MessageMetadata) -> int | None:
        """Open the file that an earlier process left, and return its length; None if there is none.

        A symbolic link, or anything else that is no file, is refused: the folder may be one that others write to.
        """
        self._metadata, self._is_resumed = metadata, True
        with translate_storage_errors(self._folder):
            try:
                descriptor = os.open(self._path, os.O_RDWR | _NO_FOLLOW | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                return None
            self._file = FileIO(descriptor, "r+")
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StorageError(f"{self._path}: it is not a file; remove it")
            return self._file.seek(0, os.SEEK_END)

    def truncate(self, length: int) -> None:
        """Drop what came after the first `length` bytes, and continue from there."""
        with translate_storage_errors(self._folder):
            self._opened().truncate(length)
            self._opened().seek(length)

    def write(self, blocks: Iterable[Block]) -> int:
        """Write blocks, each whole, as they are made; return how many bytes that is."""
        length = 0
        file = self._opened()
        for block in blocks:
            with translate_storage_errors(self._folder):
                write_all(file, block)
            length += len(block)
        return length

    def buffer(self, position: int | None, limit: int) -> PrefetchBuffer:
        """Return a buffer for a chunk that will probably begin at `position`; None if that is not known.

        To copy each chunk from a file of its own costs a quarter of the time of receiving in memory, so one whose place
        can be foretold is written there.
        """
        if position is None:
            return PrefetchBuffer(Path(self._folder), limit)
        return PlacedBuffer(Path(self._path), position, limit)

    def append(self, buffer: PrefetchBuffer) -> None:
        """Write what is in a buffer."""
        with translate_storage_errors(self._folder):
            buffer.copy_to(self._opened())

    def checkpoint(self) -> Checkpoint:
        """Make what was written durable. A record whose file is missing begins again, so the name may wait."""
        with translate_storage_errors(self._folder):
            os.fsync(self._opened().fileno())
            # Not the length of the file: chunks may have been written to their places further on.
            return Checkpoint(self._opened().tell())

    def finish(self) -> Checkpoint:
        """Make all of it durable, and its temporary name: that it is missing will mean that it has its final one."""
        with translate_storage_errors(self._folder):
            os.fsync(self._opened().fileno())
            sync_folder(self._folder)
            return Checkpoint(os.fstat(self._opened().fileno()).st_size)

    def digest(self, algorithm: str, length: int) -> str | None:
        """Return the checksum of the first `length` bytes, in hex.

        It continues where the last call ended, if need be in another thread than the one that writes. Raises
        ValueError for an algorithm that this machine refuses (MD5 in FIPS mode).
        """
        if self._digest is None:
            self._digest, self._digested = hashlib.new(algorithm, usedforsecurity=False), 0
        with translate_storage_errors(self._folder), open(self._path, "rb", buffering=0) as file:
            file.seek(self._digested)
            while self._digested < length and (block := file.read(min(_DIGEST_BLOCK_BYTES, length - self._digested))):
                self._digest.update(block)
                self._digested += len(block)
        return self._digest.hexdigest()

    def is_published(self, name: str, length: int) -> bool:
        """Whether the file of that name is this one; if so, its name is made durable before anybody relies on it.

        The temporary name goes last: where there is none, the file had its final one, and a program that waits for such
        files may have moved it since.
        """
        if self._file is None:
            return True
        return self._has_name(name)

    def publish(self, name: str) -> bool:
        """Give the content its name in place of the temporary one, durably; False if there is a file of that name.

        Afterwards there is no partial file: that tells a later process that this one came so far. Its removal need not
        be durable: one that comes back has its final name as well. See docs/promises.md, "Which syncs are needed".
        """
        if self._sidecar is None:
            return self._give_name(name)
        if self._metadata is None:
            raise StorageError("the partial file has not been opened")
        if os.path.lexists(self._final(name)) and not self._has_name(name):
            return False
        if not self._sidecar.publish(name, sidecar_of(self._metadata), is_resumed=self._is_resumed):
            return False
        if not self._give_name(name):
            self._sidecar.withdraw(name)
            return False
        return True

    def _give_name(self, name: str) -> bool:
        with translate_storage_errors(self._folder):
            try:
                os.link(self._path, self._final(name))
            except FileExistsError:
                # On NFS a link can have been made although the answer said otherwise.
                if not self._has_name(name):
                    return False
            except OSError:
                if not self._has_name(name):
                    return self._rename(name)
            # Before the temporary name goes, the final one must be there to stay.
            sync_folder(self._folder)
            # Windows removes no file that is open.
            self.close()
            os.unlink(self._path)
            self._has_temporary_name = False
        return True

    def _rename(self, name: str) -> bool:
        """Name the file where there are no hard links. Windows renames no file that is open."""
        if os.path.lexists(self._final(name)):
            return False
        self.close()
        if not rename_if_free(Path(self._path), Path(self._final(name))):
            self._file = FileIO(os.open(self._path, os.O_RDWR | _NO_FOLLOW | getattr(os, "O_BINARY", 0)), "r+")
            return False
        self._has_temporary_name = False
        return True

    def withdraw(self, name: str) -> None:
        """Remove the file of that name. Not needed here: it is read before it has one."""
        with translate_storage_errors(self._folder), contextlib.suppress(FileNotFoundError):
            os.unlink(self._final(name))

    def _final(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _has_name(self, name: str) -> bool:
        with translate_storage_errors(self._folder):
            try:
                is_same = os.path.samestat(os.lstat(self._final(name)), os.fstat(self._opened().fileno()))
            except FileNotFoundError:
                return False
            if is_same:
                sync_folder(self._folder)
            return is_same

    def remove(self) -> None:
        """Close the file and remove its temporary name."""
        self.close()
        if self._sidecar is not None:
            self._sidecar.remove()
        if self._has_temporary_name:
            with translate_storage_errors(self._folder), contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def close(self) -> None:
        """Close the file; what has arrived stays."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> FileIO:
        if self._file is None:
            raise StorageError("the partial file has not been opened")
        return self._file
