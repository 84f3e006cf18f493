"""Which messages have been delivered here: a set that survives anything, shared by threads and processes.

SQLite keeps it: one durable transaction for each message, and its own locks between processes. Keep it on a local disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from nel_mesh.brokers.system import as_storage_error, in_thread, make_folder
from nel_mesh.errors import StorageError

_WAIT_SECONDS = 30


class Journal:
    """The sync journal; without a path it lives as long as this object."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        with as_storage_error(), _as_storage_error():
            if path is not None:
                make_folder(path.parent)
            self._database = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_WAIT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                # EXTRA, not FULL: that would leave the removal of the rollback journal, the commit itself, to chance.
                self._database.execute("PRAGMA synchronous = EXTRA")
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS delivered (mailbox_id TEXT, message_id TEXT, delivered_at TEXT,"
                    " PRIMARY KEY (mailbox_id, message_id)) WITHOUT ROWID"
                )
            except BaseException:
                self._database.close()
                raise

    def has(self, mailbox_id: str, message_id: str) -> bool:
        """Whether the message has been delivered here before."""
        with self._lock, _as_storage_error():
            found = self._database.execute(
                "SELECT 1 FROM delivered WHERE mailbox_id = ? AND message_id = ?", (mailbox_id, message_id)
            )
            return found.fetchone() is not None

    def add(self, mailbox_id: str, message_id: str, now: datetime) -> None:
        """Notes that the message has been delivered; durable when it returns."""
        with self._lock, _as_storage_error():
            self._database.execute(
                "INSERT OR IGNORE INTO delivered VALUES (?, ?, ?)", (mailbox_id, message_id, now.isoformat())
            )

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
