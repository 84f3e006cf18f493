"""The incoming messages of the ledger: listed in an inbox, stored at their destinations, acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.clock import Clock
from nel_mesh.io.journal import JournalEntry
from nel_mesh.ledger.database import Database
from nel_mesh.ledger.mailboxes import Fenced
from nel_mesh.ledger.messages import LedgerMessage, Messages, read_message
from nel_mesh.ledger.schema import copies, messages
from nel_mesh.ledger.states import DUE, TRANSITIONS, Direction, Event, State
from nel_mesh.models import MessageMetadata, Report

_AT_ONCE = 500
"""How many ids go into one statement."""


class Incoming:
    """The incoming messages of a ledger.

    Args:
        database: where they are.
        clock: where time comes from.
        messages: the messages in both directions, which take the steps.
    """

    def __init__(self, database: Database, clock: Clock, messages: Messages) -> None:
        self._database = database
        self._clock = clock
        self._messages = messages

    def note_listed(self, mailbox_id: str, message_ids: Sequence[str]) -> None:
        """Note which messages are in an inbox: new ones are due; one that was gone is back."""
        now = self._clock.now()
        for start in range(0, len(message_ids), _AT_ONCE):
            ids = message_ids[start : start + _AT_ONCE]
            with self._database.write() as connection:
                known = self._found(connection, mailbox_id, ids)
                for message_id in ids:
                    before = known.get(message_id)
                    if before is None:
                        self._messages.insert(
                            connection,
                            direction=Direction.IN,
                            mailbox_id=mailbox_id,
                            message_id=message_id,
                            next_attempt_at=now,
                        )
                    elif before.state is State.GONE:
                        self._messages.step(connection, before, Event.RELEASED, next_attempt_at=now)

    def due(self, mailbox_id: str, message_ids: Sequence[str]) -> list[LedgerMessage]:
        """Return which of these messages are due, and those that are acknowledged although they are listed.

        An acknowledgement can be lost on the way, or made a moment before the list: it is made again.
        """
        now = self._clock.now()
        found = []
        with self._database.read() as connection:
            for start in range(0, len(message_ids), _AT_ONCE):
                ids = message_ids[start : start + _AT_ONCE]
                known = self._found(connection, mailbox_id, ids)
                found += [known[message_id] for message_id in ids if message_id in known]
        return [
            one
            for one in found
            if (one.state is State.ACKNOWLEDGED or (one.state in DUE[Direction.IN] and one.owner is None))
            and (one.next_attempt_at is None or one.next_attempt_at <= now)
        ]

    def vanish(self, mailbox_id: str, message_ids: Iterable[str]) -> None:
        """Note that messages that are open here were not in a complete list of the inbox."""
        present = set(message_ids)
        open_states = [*DUE[Direction.IN], State.QUARANTINED]
        query = select(messages).where(
            messages.c.mailbox_id == mailbox_id,
            messages.c.direction == Direction.IN,
            messages.c.state.in_(open_states),
            # What is being received leaves the inbox by its acknowledgement.
            messages.c.owner.is_(None),
        )
        with self._database.write() as connection:
            for row in connection.execute(query).all():
                message = read_message(row)
                if message.message_id not in present:
                    self._messages.step(connection, message, Event.GONE, next_attempt_at=None)

    def choose_destinations(self, number: int, destinations: Sequence[str], metadata: MessageMetadata | None) -> None:
        """Keep where a message is to go, before its content goes there: a later attempt goes to the same places."""
        values: dict[str, Any] = {"destinations": list(destinations)}
        if metadata is not None:
            values |= _values_of(metadata)
        with self._database.write() as connection:
            connection.execute(update(messages).where(messages.c.id == number).values(**values))

    def copy_stored(
        self, connection: Connection, destination: str, entry: JournalEntry, owner: str | None = None
    ) -> None:
        """Note that a destination has a message whole; STORED once all have it. Raises Fenced if it is another's."""
        message = self.get(connection, entry.mailbox_id, entry.message_id)
        if message.owner != owner:
            raise Fenced(f"another process has taken over message {message.id}; this one records nothing of it")
        have = {copy.destination for copy in self._messages.copies(connection, message.id)}
        if destination not in have:
            copy = {"location": entry.location, "bytes": entry.bytes, "stored_at": entry.delivered_at}
            connection.execute(insert(copies).values(message=message.id, destination=destination, **copy))
        if set(message.destinations or [destination]) <= have | {destination} and message.state is State.FETCHING:
            known = _values_of(entry.metadata) if entry.metadata is not None else {}
            values: dict[str, Any] = {"stored_at": entry.delivered_at, "bytes": entry.bytes, "reason": None}
            stored = self._messages.step(
                connection, message, Event.STORED, said={"bytes": entry.bytes}, error_kind=None, **values, **known
            )
            if isinstance(entry.metadata, Report):
                self._link(connection, stored, entry.metadata)

    def _link(self, connection: Connection, report: LedgerMessage, metadata: Report) -> None:
        """Note at the message that a report is about, that MESH gave it up."""
        sent = self._sent(connection, report.mailbox_id, metadata)
        if sent is None or Event.UNDELIVERED not in TRANSITIONS[sent.direction][sent.state]:
            return
        self._messages.step(
            connection,
            sent,
            Event.UNDELIVERED,
            said={"report": report.id, "event": metadata.status_event, "code": metadata.status_code},
            reason="MESH reports that it was not delivered",
            status_event=metadata.status_event,
            status_code=metadata.status_code,
            status_description=metadata.status_description,
            next_track_at=None,
        )

    def _sent(self, connection: Connection, mailbox_id: str, report: Report) -> LedgerMessage | None:
        query = select(messages).where(messages.c.mailbox_id == mailbox_id, messages.c.direction == Direction.OUT)
        if report.linked_message_id:
            query = query.where(messages.c.message_id == report.linked_message_id)
        elif report.local_id:
            query = query.where(messages.c.local_id == report.local_id)
        else:
            return None
        rows = connection.execute(query.limit(2)).all()
        return read_message(rows[0]) if len(rows) == 1 else None

    def acknowledged(self, mailbox_id: str, message_ids: Iterable[str]) -> None:
        """Note that MESH was told of these messages."""
        with self._database.write() as connection:
            for message_id in message_ids:
                message = self.get(connection, mailbox_id, message_id)
                if message.state is not State.ACKNOWLEDGED or message.reason is not None:
                    self._messages.step(
                        connection, message, Event.ACKNOWLEDGED, next_attempt_at=None, reason=None, error_kind=None
                    )

    def get(self, connection: Connection, mailbox_id: str, message_id: str) -> LedgerMessage:
        """Return an incoming message. Raises InvalidArgument."""
        found = self._found(connection, mailbox_id, [message_id])
        if message_id not in found:
            raise InvalidArgument("the ledger does not know this message")
        return found[message_id]

    def _found(self, connection: Connection, mailbox_id: str, message_ids: Sequence[str]) -> dict[str, LedgerMessage]:
        query = select(messages).where(
            messages.c.direction == Direction.IN,
            messages.c.mailbox_id == mailbox_id,
            messages.c.message_id.in_(message_ids),
        )
        if connection.dialect.name != "sqlite" and len(message_ids) == 1:
            query = query.with_for_update()
        found = [read_message(row) for row in connection.execute(query)]
        return {one.message_id or "": one for one in found}


def _values_of(metadata: MessageMetadata) -> dict[str, Any]:
    """Return the columns that the headers of an incoming message fill."""
    values = {
        name: getattr(metadata, name)
        for name in (
            "message_type",
            "workflow_id",
            "sender",
            "recipient",
            "subject",
            "local_id",
            "file_name",
            "status_event",
            "status_code",
            "status_description",
        )
    }
    values["linked_message_id"] = metadata.linked_message_id if isinstance(metadata, Report) else None
    limits = {"sender": 100, "recipient": 100, "message_type": 20, "status_event": 100, "status_code": 100}
    # What a server sends can be longer than the API allows.
    for name, value in values.items():
        if isinstance(value, str) and name != "status_description":
            values[name] = value[: limits.get(name, 300 if name != "subject" else 500)]
    return values
