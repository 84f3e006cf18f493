"""Which messages have been delivered here: a set that survives anything, shared by threads and processes.

SQLite keeps it, with its own locks between processes. Entries that several threads add at the same time go into one
durable transaction.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

from nel_mesh.errors import StorageError
from nel_mesh.io.files import make_folder, translate_storage_errors
from nel_mesh.io.locks import KeyLock, has_locks
from nel_mesh.models import MessageMetadata

_BUSY_TIMEOUT_SECONDS = 30
_START_ATTEMPTS = 5

_COLUMNS = {
    "mailbox_id": "TEXT NOT NULL",
    "message_id": "TEXT NOT NULL",
    "delivered_at": "TEXT NOT NULL",
    "location": "TEXT",
    "bytes": "INTEGER",
    "message_type": "TEXT",
    "sender": "TEXT",
    "workflow_id": "TEXT",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One message that has been delivered.

    Attributes:
        mailbox_id: whose inbox it came from.
        message_id: the message.
        delivered_at: when it was stored or handled, in UTC.
        location: where it was stored; None for one that was handed to a handler.
        bytes: the length of its content; None if that is not known.
        message_type: DATA or REPORT.
        sender: the mailbox that sent it.
        workflow_id: its workflow id.
        metadata: all that its headers say, for a journal that wants it; not in an entry that is looked up.
    """

    mailbox_id: str
    message_id: str
    delivered_at: datetime
    location: str | None = dataclasses.field(default=None, repr=False)
    bytes: int | None = None
    message_type: str | None = None
    sender: str | None = None
    workflow_id: str | None = None
    metadata: MessageMetadata | None = dataclasses.field(default=None, repr=False, compare=False)


class Claim(Protocol):
    """The right to deliver one message; it ends with `release`, or with its process."""

    def release(self) -> None:
        """Let others deliver the message."""


class Journal(Protocol):
    """Remembers which messages have been delivered. Its methods may be called from several threads."""

    def open(self) -> None:
        """Make it ready. Raises StorageError if that cannot be done."""

    def claim(self, mailbox_id: str, message_id: str) -> Claim | None:
        """Take the right to deliver a message; None if another process or thread has it."""

    def find(self, mailbox_id: str, message_id: str) -> JournalEntry | None:
        """Look a message up; None if it has not been delivered here."""

    def add(self, entry: JournalEntry) -> None:
        """Note that a message has been delivered; durable when it returns."""

    def close(self) -> None:
        """Close it."""


class ListableJournal(Journal, Protocol):
    """A journal that can be looked through."""

    def exists(self) -> bool:
        """Whether anything may be in it; to open a journal can make its file."""

    def entries(self) -> list[JournalEntry]:
        """List everything that has been delivered, oldest first."""


class _Pending:
    """One entry to be written; another thread may write it, with its own."""

    def __init__(self, entry: JournalEntry) -> None:
        self.values = tuple(
            value.isoformat() if isinstance(value, datetime) else value
            for value in (getattr(entry, name) for name in _COLUMNS)
        )
        self.written = False
        self.error: StorageError | None = None


class _Held:
    """Claims within this process, where there is no file to lock."""

    def __init__(self, held: set[tuple[str, str]], key: tuple[str, str], guard: threading.Lock) -> None:
        self._held, self._key, self._guard = held, key, guard

    def release(self) -> None:
        with self._guard:
            self._held.discard(self._key)


class SqliteJournal:
    """A journal in an SQLite file, best on a local disk; without a path it lives as long as this object."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._gathering = threading.Lock()
        self._waiting: list[_Pending] = []
        self._held: set[tuple[str, str]] = set()
        self._database: sqlite3.Connection | None = None

    def exists(self) -> bool:
        """Whether the file is there; to open a journal makes it."""
        return self._path is not None and self._path.exists()

    def open(self) -> None:
        """Open the file, or make it."""
        with self._lock, self._translated():
            if self._path is not None:
                make_folder(self._path.parent)
                _make_private(self._path)
            self._database = self._connect()

    def claim(self, mailbox_id: str, message_id: str) -> Claim | None:
        """Take the right to deliver a message; between processes by a lock beside the file."""
        if self._path is None:
            key = (mailbox_id, message_id)
            with self._gathering:
                if key in self._held:
                    return None
                self._held.add(key)
            return _Held(self._held, key, self._gathering)
        lock = KeyLock(f"{self._path}-locks", f"{mailbox_id} {message_id}")
        return lock if lock.acquire() else None

    def find(self, mailbox_id: str, message_id: str) -> JournalEntry | None:
        """Look a message up."""
        with self._lock, self._translated():
            row = (
                self._opened()
                .execute(
                    f"SELECT {', '.join(_COLUMNS)} FROM received WHERE mailbox_id = ? AND message_id = ?",  # noqa: S608  our own names
                    (mailbox_id, message_id),
                )
                .fetchone()
            )
        return None if row is None else _entry(row)

    def entries(self) -> list[JournalEntry]:
        """List everything that has been delivered, oldest first."""
        with self._lock, self._translated():
            rows = self._opened().execute(f"SELECT {', '.join(_COLUMNS)} FROM received ORDER BY delivered_at")  # noqa: S608  our own names
            return [_entry(row) for row in rows]

    def add(self, entry: JournalEntry) -> None:
        """Note that a message has been delivered."""
        pending = _Pending(entry)
        with self._gathering:
            self._waiting.append(pending)
        with self._lock:
            if not pending.written and pending.error is None:
                self._write_waiting()
        if pending.error is not None:
            raise pending.error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()

    def _write_waiting(self) -> None:
        """Write what has gathered while another thread was writing."""
        with self._gathering:
            entries, self._waiting = self._waiting, []
        places = ", ".join("?" * len(_COLUMNS))
        try:
            with self._translated(), self._transaction() as database:
                database.executemany(
                    f"INSERT OR IGNORE INTO received ({', '.join(_COLUMNS)}) VALUES ({places})",  # noqa: S608  our own names
                    [entry.values for entry in entries],
                )
        except BaseException as error:
            for entry in entries:
                entry.error = error if isinstance(error, StorageError) else StorageError("the journal was interrupted")
            raise
        for entry in entries:
            entry.written = True

    def _connect(self) -> sqlite3.Connection:
        """Open the file in the best way that its file system allows.

        A write-ahead log needs one fsync for a transaction where a rollback journal takes three; it also needs memory
        that processes share, which some mounts do not have. Some shares have no locks between processes either.
        """
        if self._path is None:
            return _prepared(":memory:", "MEMORY")
        where = self._path.absolute().as_uri()
        if not has_locks(self._path.parent):
            return _prepared(f"{where}?vfs=unix-dotfile", "DELETE")
        for _ in range(_START_ATTEMPTS):
            try:
                return _prepared(where, "WAL")
            except sqlite3.OperationalError as error:
                # Processes that make the file at the same time can disturb one another, in spite of the timeout.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    break
        return _prepared(where, "DELETE")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._opened()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        with translate_storage_errors(self._path):
            try:
                yield
            except sqlite3.Error as error:
                where = f"{self._path}: " if self._path is not None else ""
                raise StorageError(
                    f"{where}the journal cannot be used: {error}; another file, best on a local disk, can be named"
                    " as the journal"
                ) from error

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise StorageError("the journal has not been opened")
        return self._database


def _make_private(path: Path) -> None:
    """Make an empty file for its owner only, as file names are in it; SQLite gives the files beside it its mode."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _prepared(where: str, journal_mode: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        where,
        timeout=_BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=where.startswith("file:"),
    )
    try:
        database.execute(f"PRAGMA journal_mode = {journal_mode}")
        # FULL would leave the removal of a rollback journal, which is its commit, to chance.
        database.execute("PRAGMA synchronous = EXTRA")
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        database.execute(
            f"CREATE TABLE IF NOT EXISTS received ({columns}, PRIMARY KEY (mailbox_id, message_id)) WITHOUT ROWID"
        )
        database.execute("SELECT 1 FROM received LIMIT 1").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _entry(row: tuple[str, str, str, str | None, int | None, str | None, str | None, str | None]) -> JournalEntry:
    mailbox_id, message_id, delivered_at, location, length, message_type, sender, workflow_id = row
    return JournalEntry(
        mailbox_id=mailbox_id,
        message_id=message_id,
        delivered_at=datetime.fromisoformat(delivered_at),
        location=location,
        bytes=length,
        message_type=message_type,
        sender=sender,
        workflow_id=workflow_id,
    )
