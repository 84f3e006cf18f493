"""The journal of the agent: one destination of one mailbox's messages, in the ledger.

The entry, the message's new state and what follows from it (a report linked to its send, a hook to be called) are one
transaction.
"""

from __future__ import annotations

import threading

from sqlalchemy import select

from nel_mesh.io.journal import Claim, JournalEntry
from nel_mesh.ledger.database import Database
from nel_mesh.ledger.incoming import Incoming
from nel_mesh.ledger.schema import copies, messages
from nel_mesh.ledger.states import Direction


class _HeldMessage:
    """A claim within this delivery; others are kept out by the lease of the message."""

    def __init__(self, held: set[str], message_id: str, guard: threading.Lock) -> None:
        self._held, self._message_id, self._guard = held, message_id, guard

    def release(self) -> None:
        """Let another thread deliver the message."""
        with self._guard:
            self._held.discard(self._message_id)


class LedgerJournal:
    """What one destination has of the messages that one owner has begun.

    Args:
        database: the ledger's.
        incoming: its incoming messages.
        owner: who has begun them; what another has taken over since, this journal refuses to add.
        destination: the destination, as the ledger calls it.
    """

    def __init__(self, database: Database, incoming: Incoming, *, owner: str | None, destination: str) -> None:
        self._database = database
        self._incoming = incoming
        self._owner = owner
        self._destination = destination
        self._held: set[str] = set()
        self._guard = threading.Lock()

    def open(self) -> None:
        """Do nothing: the ledger is open."""

    def close(self) -> None:
        """Do nothing: the ledger stays open."""

    def claim(self, mailbox_id: str, message_id: str) -> Claim | None:
        """Take the right to deliver a message within this delivery."""
        with self._guard:
            if message_id in self._held:
                return None
            self._held.add(message_id)
        return _HeldMessage(self._held, message_id, self._guard)

    def find(self, mailbox_id: str, message_id: str) -> JournalEntry | None:
        """Look up whether this destination has a message."""
        query = (
            select(copies.c.stored_at, copies.c.location, copies.c.bytes)
            .join(messages, messages.c.id == copies.c.message)
            .where(
                messages.c.direction == Direction.IN,
                messages.c.mailbox_id == mailbox_id,
                messages.c.message_id == message_id,
                copies.c.destination == self._destination,
            )
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return JournalEntry(
            mailbox_id=mailbox_id,
            message_id=message_id,
            delivered_at=row.stored_at,
            location=row.location,
            bytes=row.bytes,
        )

    def add(self, entry: JournalEntry) -> None:
        """Note that the destination has a message. Raises Fenced if another process has taken the message over."""
        with self._database.write() as connection:
            self._incoming.copy_stored(connection, self._destination, entry, self._owner)
