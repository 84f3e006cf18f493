"""Records and journal kept in the store itself: a worker on any machine continues with nothing but the store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from nel_mesh.destinations.base import RecordLock
from nel_mesh.errors import StorageError
from nel_mesh.io.journal import Claim, JournalEntry


class Store(Protocol):
    """What every store can do with small objects. All methods raise StorageError if it fails."""

    @property
    def place(self) -> str:
        """The store's URL, without secrets."""

    def read_object(self, key: str) -> bytes | None:
        """Return a small object; None if there is none."""

    def write_object(self, key: str, content: bytes) -> None:
        """Make or replace a small object, durably: after any interruption it is the old one or the new one."""

    def remove_object(self, key: str) -> None:
        """Remove an object, if it is there."""

    def list_objects(self, prefix: str) -> Iterator[str]:
        """List the keys that begin with a prefix."""


class _Claims:
    """The keys that this process works on.

    Another machine is not kept out: where two receive the same message, one completes it, and the other finds it
    complete.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: set[str] = set()

    def acquire(self, key: str) -> bool:
        """Take a key; False if it is taken."""
        with self._guard:
            if key in self._held:
                return False
            self._held.add(key)
            return True

    def release(self, key: str) -> None:
        """Give a key back."""
        with self._guard:
            self._held.discard(key)


_CLAIMS = _Claims()


class _Lock:
    def __init__(self, key: str) -> None:
        self._key = key
        self._has_it = False

    def acquire(self) -> bool:
        self._has_it = _CLAIMS.acquire(self._key)
        return self._has_it

    def release(self) -> None:
        if self._has_it:
            self._has_it = False
            _CLAIMS.release(self._key)


class StoreRecord:
    """The record of one unfinished transfer, an object in the store."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key

    @property
    def place(self) -> str:
        """The object's URL."""
        return f"{self._store.place}/{self._key}"

    def lock(self) -> RecordLock:
        """Return the lock to be acquired before work under this record; it holds within this process."""
        return _Lock(self.place)

    def read(self) -> bytes | None:
        """Read the record; None if there is none."""
        return self._store.read_object(self._key)

    def write(self, content: bytes) -> None:
        """Replace the record."""
        self._store.write_object(self._key, content)

    def forget(self) -> None:
        """Remove the record, if it is there."""
        self._store.remove_object(self._key)


class StoreRecords:
    """The records of unfinished transfers in a store.

    Args:
        store: where they are.
        prefix: what their keys begin with.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}transfers/"

    def record(self, key: str) -> StoreRecord:
        """Return the record of a key, whether or not there is one yet."""
        return StoreRecord(self._store, f"{self._prefix}{key}.json")

    def keys(self) -> Iterator[str]:
        """List the keys of all records."""
        for key in self._store.list_objects(self._prefix):
            yield key.removeprefix(self._prefix).removesuffix(".json")


class StoreJournal:
    """A journal in a store: one small object for each message that was delivered.

    Args:
        store: where it is.
        prefix: what the keys of its objects begin with.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}received/"

    def open(self) -> None:
        """Look whether the store can be used, once and before any message is fetched."""
        next(self._store.list_objects(self._prefix), None)

    def exists(self) -> bool:
        """Return True: each entry is an object of its own."""
        return True

    def claim(self, mailbox_id: str, message_id: str) -> Claim | None:
        """Take the right to deliver a message, within this process."""
        lock = _Lock(f"{self._store.place}/{self._key(mailbox_id, message_id)}")
        return lock if lock.acquire() else None

    def find(self, mailbox_id: str, message_id: str) -> JournalEntry | None:
        """Look a message up. Raises StorageError if its object cannot be read."""
        return self._read(self._key(mailbox_id, message_id))

    def entries(self) -> list[JournalEntry]:
        """List everything that has been delivered, oldest first."""
        found = (self._read(key) for key in self._store.list_objects(self._prefix))
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.delivered_at)

    def _read(self, key: str) -> JournalEntry | None:
        written = self._store.read_object(key)
        if written is None:
            return None
        try:
            fields = json.loads(written)
            return JournalEntry(**{**fields, "delivered_at": datetime.fromisoformat(fields["delivered_at"])})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StorageError(f"{self._store.place}/{key}: the object is no entry of a journal; remove it") from None

    def add(self, entry: JournalEntry) -> None:
        """Note that a message has been delivered; durable when it returns."""
        # The metadata may hold patient data.
        names = JournalEntry.__dataclass_fields__.keys() - {"metadata"}
        fields = {name: getattr(entry, name) for name in sorted(names)}
        fields["delivered_at"] = entry.delivered_at.isoformat()
        self._store.write_object(self._key(entry.mailbox_id, entry.message_id), json.dumps(fields).encode())

    def close(self) -> None:
        """Do nothing: the store is closed by its destination."""

    def _key(self, mailbox_id: str, message_id: str) -> str:
        return f"{self._prefix}{mailbox_id}/{message_id}.json"
