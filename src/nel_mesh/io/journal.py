"""Which messages have been delivered here: a set that survives anything, shared by threads and processes.

SQLite keeps it, with its own locks between processes. What several threads add at the same time goes in one durable
transaction. Keep it on a local disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from nel_mesh.errors import StorageError
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.files import make_folder, translate_storage_errors

_WAIT_SECONDS = 30


class _Entry:
    """What one thread adds; another may write it, with its own."""

    def __init__(self, *values: str) -> None:
        self.values = values
        self.written = False
        self.error: StorageError | None = None


class Journal:
    """The sync journal; without a path it lives as long as this object."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._gathering = threading.Lock()
        self._waiting: list[_Entry] = []
        with translate_storage_errors(), _as_storage_error():
            if path is not None:
                make_folder(path.parent)
            self._database = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_WAIT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                # One fsync for a transaction, where a rollback journal takes three. Where the file system cannot have
                # it SQLite stays with that, and then EXTRA matters: FULL leaves its removal, the commit, to chance.
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = EXTRA")
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS delivered (mailbox_id TEXT, message_id TEXT, delivered_at TEXT,"
                    " PRIMARY KEY (mailbox_id, message_id)) WITHOUT ROWID"
                )
            except BaseException:
                self._database.close()
                raise

    @classmethod
    def open(cls, path: Path | None) -> Journal:
        """Open the journal."""
        return cls(path)

    def has(self, mailbox_id: str, message_id: str) -> bool:
        """Whether the message has been delivered here before."""
        with self._lock, _as_storage_error():
            found = self._database.execute(
                "SELECT 1 FROM delivered WHERE mailbox_id = ? AND message_id = ?", (mailbox_id, message_id)
            )
            return found.fetchone() is not None

    def add(self, mailbox_id: str, message_id: str, now: datetime) -> None:
        """Notes that the message has been delivered; durable when it returns."""
        entry = _Entry(mailbox_id, message_id, now.isoformat())
        with self._gathering:
            self._waiting.append(entry)
        with self._lock:
            if not entry.written and entry.error is None:
                self._write_waiting()
        if entry.error is not None:
            raise entry.error

    def _write_waiting(self) -> None:
        """Writes what has gathered while another thread was writing."""
        with self._gathering:
            entries, self._waiting = self._waiting, []
        try:
            with _as_storage_error(), self._transaction():
                self._database.executemany(
                    "INSERT OR IGNORE INTO delivered VALUES (?, ?, ?)", [entry.values for entry in entries]
                )
        except BaseException as error:
            for entry in entries:
                entry.error = error if isinstance(error, StorageError) else StorageError("the journal was interrupted")
            raise
        for entry in entries:
            entry.written = True

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes it."""
        with self._lock:
            self._database.close()


class AsyncJournal:
    """The async journal: the sync one in worker threads."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @classmethod
    async def open(cls, path: Path | None) -> AsyncJournal:
        """As `Journal`."""
        return cls(await in_thread(lambda: Journal(path)))

    async def has(self, mailbox_id: str, message_id: str) -> bool:
        """As `Journal.has`."""
        return await in_thread(lambda: self._journal.has(mailbox_id, message_id))

    async def add(self, mailbox_id: str, message_id: str, now: datetime) -> None:
        """As `Journal.add`."""
        await in_thread(lambda: self._journal.add(mailbox_id, message_id, now))

    def close(self) -> None:
        """As `Journal.close`."""
        self._journal.close()


@contextlib.contextmanager
def _as_storage_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"the journal cannot be used: {error}") from error
