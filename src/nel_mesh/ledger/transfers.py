"""The records of unfinished sends, in the ledger in place of files."""

from __future__ import annotations

import threading

from sqlalchemy import delete, insert, select, update

from nel_mesh.io.clock import Clock
from nel_mesh.ledger.database import Database
from nel_mesh.ledger.schema import transfers


class LedgerRecord:
    """The record of one send; pass it as `resume`. After any interruption it is the old one or the new one.

    Attributes:
        key: its key.
        is_kept: whether the ledger has it, as it was last written. `send_file` sends without a record that cannot be
            kept; an agent must not, as its next attempt would send the message again.
    """

    def __init__(self, records: LedgerRecords, key: str) -> None:
        self._records = records
        self.key = key
        self.is_kept = False

    @property
    def place(self) -> str:
        """Where it is, for error texts."""
        return f"{self._records.database.place} (transfer {self.key})"

    def lock(self) -> LedgerRecordLock:
        """Return the lock to be acquired before work under this record."""
        return LedgerRecordLock(self._records, self.key)

    def read(self) -> bytes | None:
        """Read the record; None if there is none."""
        with self._records.database.read() as connection:
            content: bytes | None = connection.scalar(select(transfers.c.content).where(transfers.c.key == self.key))
        self.is_kept = content is not None
        return content

    def write(self, content: bytes) -> None:
        """Replace the record, durably."""
        self.is_kept = False
        values = {"content": content, "updated_at": self._records.clock.now()}
        with self._records.database.write() as connection:
            done = connection.execute(update(transfers).where(transfers.c.key == self.key).values(**values))
            if done.rowcount == 0:
                connection.execute(insert(transfers).values(key=self.key, **values))
        self.is_kept = True

    def forget(self) -> None:
        """Remove the record, if it is there."""
        with self._records.database.write() as connection:
            connection.execute(delete(transfers).where(transfers.c.key == self.key))


class LedgerRecordLock:
    """The right to send under a record, within this process."""

    def __init__(self, records: LedgerRecords, key: str) -> None:
        self._records = records
        self._key = key
        self._is_held = False

    def acquire(self) -> bool:
        """Take it; False if another thread has it."""
        with self._records.guard:
            if self._key in self._records.held:
                return False
            self._records.held.add(self._key)
            self._is_held = True
        return True

    def release(self) -> None:
        """Let others send under the record."""
        with self._records.guard:
            if self._is_held:
                self._records.held.discard(self._key)
            self._is_held = False


class LedgerRecords:
    """The records of sends in a ledger."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.guard = threading.Lock()
        self.held: set[str] = set()

    def record(self, key: str) -> LedgerRecord:
        """Return the record of a key, whether or not there is one yet."""
        return LedgerRecord(self, key)
