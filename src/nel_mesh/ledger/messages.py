"""The messages of the ledger, in both directions: what became of each, and what is to be done next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from nel_mesh.errors import InvalidArgument, MeshError
from nel_mesh.io.clock import Clock
from nel_mesh.io.journal import JournalEntry
from nel_mesh.ledger import events
from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.mailboxes import Fenced
from nel_mesh.ledger.schema import copies, mailboxes, messages, transfers
from nel_mesh.ledger.states import DUE, FINAL, FIRST, TRANSITIONS, Direction, Event, State, next_state
from nel_mesh.models import MessageMetadata, Report

_ENDED_OUT = (State.ACCEPTED, State.COLLECTED, State.UNDELIVERED, State.REFUSED)
"""States in which the files of an outgoing message are moved away."""

_AT_ONCE = 500
"""How many ids go into one statement."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerMessage:
    """A message, as the ledger knows it. Its number is `id`; `message_id` is MESH's, once there is one.

    What can be a patient's data is left out of the repr: subject, file name, recipient, local id and paths.
    """

    id: int
    direction: Direction
    mailbox_id: str
    message_id: str | None
    local_id: str | None = dataclasses.field(repr=False)
    state: State
    reason: str | None
    error_kind: str | None
    attempts: int
    own_failures: int
    next_attempt_at: datetime | None
    message_type: str | None
    workflow_id: str | None
    sender: str | None
    recipient: str | None = dataclasses.field(repr=False)
    subject: str | None = dataclasses.field(repr=False)
    file_name: str | None = dataclasses.field(repr=False)
    bytes: int | None
    linked_message_id: str | None
    status_event: str | None
    status_code: str | None
    status_description: str | None = dataclasses.field(repr=False)
    destinations: list[str] | None = dataclasses.field(repr=False)
    source: str | None = dataclasses.field(repr=False)
    stamp: str | None
    options: dict[str, Any] | None = dataclasses.field(repr=False)
    route: int | None
    archived_as: str | None = dataclasses.field(repr=False)
    is_filed: bool
    resent_as: int | None
    created_at: datetime
    updated_at: datetime
    stored_at: datetime | None
    accepted_at: datetime | None
    finished_at: datetime | None
    next_track_at: datetime | None
    track_wait_in_seconds: int | None
    seen_at: datetime | None
    owner: str | None
    node: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Where one copy of an incoming message lies."""

    message: int
    destination: str = dataclasses.field(repr=False)
    location: str | None = dataclasses.field(repr=False)
    bytes: int | None
    stored_at: datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewSend:
    """A file that is to be sent.

    Attributes:
        source: its path.
        stamp: what tells it from another file of that path.
        options: the arguments of `send_file`.
        route: the number of its outgoing folder in the configuration.
        file_name: what the recipient gets to see.
        length: its size in bytes.
        node: the machine in whose own folder it lies; None if all can reach it.
    """

    source: str = dataclasses.field(repr=False)
    stamp: str
    options: dict[str, Any] = dataclasses.field(repr=False)
    route: int | None
    file_name: str | None = dataclasses.field(repr=False)
    length: int | None
    node: str | None = None


Listener = Callable[[Connection, LedgerMessage, Event], None]
"""Called with each step of a message, in its transaction."""


class Messages:
    """The messages of a ledger.

    Args:
        database: where they are.
        clock: where time comes from.
        listeners: called with each step of a message; what they write is in the same transaction.
    """

    def __init__(self, database: Database, clock: Clock, listeners: Sequence[Listener] = ()) -> None:
        self._database = database
        self._clock = clock
        self.listeners = list(listeners)

    # Steps.

    def step(
        self,
        connection: Connection,
        message: LedgerMessage,
        event: Event,
        *,
        actor: str = events.AGENT,
        said: dict[str, Any] | None = None,
        **values: Any,
    ) -> LedgerMessage:
        """Let a message take a step, in a transaction that is open.

        Args:
            connection: the transaction.
            message: the message, as it was read in this transaction.
            event: what happened to it.
            actor: who did it.
            said: more for the event's row.
            values: columns that change with it.

        Raises:
            ImpossibleTransition: its state does not know this event.
        """
        now = self._clock.now()
        state = next_state(message.direction, message.state, event)
        values |= {"state": state, "updated_at": now}
        if state in FINAL and message.state not in FINAL:
            values["finished_at"] = now
        elif state not in FINAL:
            values["finished_at"] = None
        # Its lease is over, unless more of the same attempt follows.
        if event not in (Event.BEGUN, Event.STORED):
            values["owner"] = None
        connection.execute(update(messages).where(messages.c.id == message.id).values(**values))
        details = {"state": str(state), **(said or {})}
        events.append(
            connection, now, event, actor=actor, mailbox_id=message.mailbox_id, message=message.id, details=details
        )
        after = dataclasses.replace(message, **values)
        for listener in self.listeners:
            listener(connection, after, event)
        return after

    def begin(self, numbers: Iterable[int], owner: str | None = None) -> list[LedgerMessage]:
        """Note that the next attempt of these messages begins; return those that no other owner works on.

        Args:
            numbers: the messages.
            owner: who works on them until the next step, or until `let_go`.
        """
        with self._database.write() as connection:
            found = [self.locked(connection, number) for number in sorted(numbers)]
            return [
                self.step(
                    connection,
                    one,
                    Event.BEGUN,
                    said={"attempt": one.attempts + 1},
                    attempts=one.attempts + 1,
                    owner=owner,
                )
                for one in found
                if one.owner in (None, owner) and Event.BEGUN in TRANSITIONS[one.direction][one.state]
            ]

    def let_go(self, numbers: Iterable[int], owner: str) -> None:
        """End the lease of messages, as far as this owner still has it: their attempt was not finished."""
        query = update(messages).where(messages.c.id.in_(list(numbers)), messages.c.owner == owner)
        with self._database.write() as connection:
            connection.execute(query.values(owner=None))

    def fail(
        self,
        number: int,
        event: Event,
        error: MeshError,
        *,
        next_attempt_at: datetime | None,
        is_its_own: bool = False,
    ) -> LedgerMessage:
        """Note that an attempt failed.

        Args:
            number: the message.
            event: FAILED, CONDEMNED, REFUSED, LOST_RESPONSE or GONE.
            error: why. Its text is kept, without the message's local id.
            next_attempt_at: when it is tried again; None if it is not.
            is_its_own: whether it failed for its own sake, such as a wrong checksum.
        """
        reason = error.reason
        if mesh := " ".join(word for word in (error.event, error.code, error.description) if word):
            reason = f"{reason}; MESH says: {mesh}"
        kind = type(error).__name__
        with self._database.write() as connection:
            message = self.locked(connection, number)
            return self.step(
                connection,
                message,
                event,
                said={"kind": kind, "reason": reason},
                reason=reason,
                error_kind=kind,
                next_attempt_at=next_attempt_at,
                own_failures=message.own_failures + is_its_own,
                status_event=error.event,
                status_code=error.code,
                status_description=error.description,
                **({"message_id": error.message_id} if error.message_id and not message.message_id else {}),
            )

    def of_owner(self, owner: str) -> set[int]:
        """Return the messages that a process has begun."""
        with self._database.read() as connection:
            return set(connection.scalars(select(messages.c.id).where(messages.c.owner == owner)))

    # Incoming.

    def list_incoming(self, mailbox_id: str, message_ids: Sequence[str]) -> None:
        """Note which messages are in an inbox: new ones are due; one that was gone is back."""
        now = self._clock.now()
        for start in range(0, len(message_ids), _AT_ONCE):
            ids = message_ids[start : start + _AT_ONCE]
            with self._database.write() as connection:
                known = self._incoming(connection, mailbox_id, ids)
                for message_id in ids:
                    before = known.get(message_id)
                    if before is None:
                        self.insert(
                            connection,
                            direction=Direction.IN,
                            mailbox_id=mailbox_id,
                            message_id=message_id,
                            next_attempt_at=now,
                        )
                    elif before.state is State.GONE:
                        self.step(connection, before, Event.RELEASED, next_attempt_at=now)

    def due_incoming(self, mailbox_id: str, message_ids: Sequence[str]) -> list[LedgerMessage]:
        """Return which of these messages are due, and those that are acknowledged although they are listed.

        An acknowledgement can be lost on the way, or made a moment before the list: it is made again.
        """
        now = self._clock.now()
        found = []
        with self._database.read() as connection:
            for start in range(0, len(message_ids), _AT_ONCE):
                ids = message_ids[start : start + _AT_ONCE]
                known = self._incoming(connection, mailbox_id, ids)
                found += [known[message_id] for message_id in ids if message_id in known]
        return [
            one
            for one in found
            if one.state is State.ACKNOWLEDGED
            or (
                one.state in DUE[Direction.IN]
                and one.owner is None
                and (one.next_attempt_at is None or one.next_attempt_at <= now)
            )
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
                    self.step(connection, message, Event.GONE, next_attempt_at=None)

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
        message = self.incoming(connection, entry.mailbox_id, entry.message_id)
        if message.owner != owner:
            raise Fenced(f"another process has taken over message {message.id}; this one records nothing of it")
        have = {copy.destination for copy in self.copies(connection, message.id)}
        if destination not in have:
            copy = {"location": entry.location, "bytes": entry.bytes, "stored_at": entry.delivered_at}
            connection.execute(insert(copies).values(message=message.id, destination=destination, **copy))
        if set(message.destinations or [destination]) <= have | {destination} and message.state is State.FETCHING:
            known = _values_of(entry.metadata) if entry.metadata is not None else {}
            values: dict[str, Any] = {"stored_at": entry.delivered_at, "bytes": entry.bytes, "reason": None}
            stored = self.step(
                connection, message, Event.STORED, said={"bytes": entry.bytes}, error_kind=None, **values, **known
            )
            if isinstance(entry.metadata, Report):
                self._link(connection, stored, entry.metadata)

    def _link(self, connection: Connection, report: LedgerMessage, metadata: Report) -> None:
        """Note at the message that a report is about, that MESH gave it up."""
        sent = self._sent(connection, report.mailbox_id, metadata)
        if sent is None or Event.UNDELIVERED not in TRANSITIONS[sent.direction][sent.state]:
            return
        self.step(
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
                message = self.incoming(connection, mailbox_id, message_id)
                if message.state is not State.ACKNOWLEDGED:
                    self.step(connection, message, Event.ACKNOWLEDGED, next_attempt_at=None)

    # Outgoing.

    def add_outgoing(
        self, mailbox_id: str, sends: Sequence[NewSend], *, actor: str = events.AGENT
    ) -> list[LedgerMessage]:
        """Note files that are to be sent; the local id of each is made now, and stays. A file is noted once."""
        unfiled = select(messages).where(
            messages.c.mailbox_id == mailbox_id,
            messages.c.direction == Direction.OUT,
            messages.c.is_filed.is_(False),
        )
        found = []
        with self._database.write() as connection:
            if connection.dialect.name != "sqlite":
                # Two machines may look into one folder: the second finds what the first has noted.
                connection.execute(
                    select(mailboxes.c.mailbox_id).where(mailboxes.c.mailbox_id == mailbox_id).with_for_update()
                )
            known = {(row.source, row.stamp, row.node): read_message(row) for row in connection.execute(unfiled)}
            for one in sends:
                before = known.get((one.source, one.stamp, one.node))
                found.append(before or self._add_send(connection, mailbox_id, one, actor))
        return found

    def _add_send(self, connection: Connection, mailbox_id: str, send: NewSend, actor: str) -> LedgerMessage:
        return self.insert(
            connection,
            actor=actor,
            direction=Direction.OUT,
            mailbox_id=mailbox_id,
            local_id=send.options.get("local_id") or self._clock.unique(),
            source=send.source,
            stamp=send.stamp,
            node=send.node,
            options=send.options,
            route=send.route,
            workflow_id=send.options.get("workflow_id"),
            sender=mailbox_id,
            recipient=send.options.get("to"),
            subject=send.options.get("subject"),
            file_name=send.file_name,
            bytes=send.length,
            next_attempt_at=self._clock.now(),
        )

    def due_outgoing(self, mailbox_id: str, limit: int, node: str | None = None) -> list[LedgerMessage]:
        """Return messages that are to be sent now, oldest first: of this machine's own folders, or of those of all."""
        query = (
            select(messages)
            .where(
                messages.c.mailbox_id == mailbox_id,
                messages.c.direction == Direction.OUT,
                messages.c.state.in_(DUE[Direction.OUT]),
                messages.c.owner.is_(None),
                messages.c.node == node,
                or_(messages.c.next_attempt_at.is_(None), messages.c.next_attempt_at <= self._clock.now()),
            )
            .order_by(messages.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [read_message(row) for row in connection.execute(query)]

    def mailboxes_with_outgoing(self, node: str | None = None) -> set[str]:
        """Return the mailboxes with something to be sent now, or to be filed; see `due_outgoing`."""
        is_due = (
            messages.c.state.in_(DUE[Direction.OUT])
            & messages.c.owner.is_(None)
            & (messages.c.next_attempt_at.is_(None) | (messages.c.next_attempt_at <= self._clock.now()))
        )
        is_unfiled = messages.c.is_filed.is_(False) & messages.c.state.in_(_ENDED_OUT)
        query = select(messages.c.mailbox_id).where(
            messages.c.direction == Direction.OUT, messages.c.node == node, is_due | is_unfiled
        )
        with self._database.read() as connection:
            return set(connection.scalars(query.distinct()))

    def unfiled_sources(self, mailbox_id: str, node: str | None = None) -> set[tuple[str, str]]:
        """Return path and stamp of each file that is known and still where it was found."""
        query = select(messages.c.source, messages.c.stamp).where(
            messages.c.mailbox_id == mailbox_id,
            messages.c.direction == Direction.OUT,
            messages.c.is_filed.is_(False),
            messages.c.node == node,
        )
        with self._database.read() as connection:
            return {(row.source, row.stamp) for row in connection.execute(query)}

    def unfiled(self, mailbox_id: str, node: str | None = None) -> list[LedgerMessage]:
        """Return sent and refused messages whose files are still where they were found."""
        query = select(messages).where(
            messages.c.mailbox_id == mailbox_id,
            messages.c.direction == Direction.OUT,
            messages.c.is_filed.is_(False),
            messages.c.state.in_(_ENDED_OUT),
            messages.c.node == node,
        )
        with self._database.read() as connection:
            return [read_message(row) for row in connection.execute(query)]

    def accepted(self, number: int, *, message_id: str, length: int, track_after_in_seconds: int) -> LedgerMessage:
        """Note that MESH has a message."""
        now = self._clock.now()
        with self._database.write() as connection:
            message = self.locked(connection, number)
            return self.step(
                connection,
                message,
                Event.ACCEPTED,
                said={"message_id": message_id, "bytes": length},
                message_id=message_id,
                bytes=length,
                accepted_at=message.accepted_at or now,
                reason=None,
                error_kind=None,
                next_attempt_at=None,
                next_track_at=now + timedelta(seconds=track_after_in_seconds),
                track_wait_in_seconds=track_after_in_seconds,
            )

    def filed(self, number: int, archived_as: str | None) -> None:
        """Note that the files of a message have been moved out of the outgoing folder, and forget its transfer."""
        with self._database.write() as connection:
            values = {"is_filed": True, "archived_as": archived_as, "updated_at": self._clock.now()}
            connection.execute(update(messages).where(messages.c.id == number).values(**values))
            connection.execute(delete(transfers).where(transfers.c.key == str(number)))

    def to_track(self, mailbox_id: str, limit: int) -> list[LedgerMessage]:
        """Return sent messages whose status is to be asked for now."""
        query = (
            select(messages)
            .where(
                messages.c.mailbox_id == mailbox_id,
                messages.c.state == State.ACCEPTED,
                messages.c.next_track_at <= self._clock.now(),
            )
            .order_by(messages.c.next_track_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [read_message(row) for row in connection.execute(query)]

    def tracked(self, number: int, event: Event | None, *, wait_in_seconds: int, **values: Any) -> None:
        """Note what the tracking of a sent message says; `event` is None while nothing has changed."""
        next_track_at = None if event else self._clock.now() + timedelta(seconds=wait_in_seconds)
        values |= {"next_track_at": next_track_at, "track_wait_in_seconds": wait_in_seconds}
        with self._database.write() as connection:
            message = self.locked(connection, number)
            if event is None or event not in TRANSITIONS[message.direction][message.state]:
                connection.execute(update(messages).where(messages.c.id == number).values(**values))
            else:
                said = {name: values[name] for name in ("status_event", "status_code") if values.get(name)}
                self.step(connection, message, event, said=said, **values)

    # Looking.

    def get(self, number: int) -> LedgerMessage:
        """Return a message by its number. Raises InvalidArgument."""
        with self._database.read() as connection:
            return self.locked(connection, number)

    def find(self, identifier: str) -> list[LedgerMessage]:
        """Return the messages with this number, message id or local id, newest first."""
        conditions = [messages.c.message_id == identifier, messages.c.local_id == identifier]
        if identifier.isdecimal() and len(identifier) < 18:
            conditions.append(messages.c.id == int(identifier))
        query = select(messages).where(or_(*conditions)).order_by(messages.c.id.desc()).limit(_AT_ONCE)
        with self._database.read() as connection:
            return [read_message(row) for row in connection.execute(query)]

    def copies(self, connection: Connection, number: int) -> list[Copy]:
        """Return the copies of a message."""
        query = select(copies).where(copies.c.message == number).order_by(copies.c.stored_at)
        return [Copy(**row_values(row)) for row in connection.execute(query)]

    def incoming(self, connection: Connection, mailbox_id: str, message_id: str) -> LedgerMessage:
        """Return an incoming message. Raises InvalidArgument."""
        found = self._incoming(connection, mailbox_id, [message_id])
        if message_id not in found:
            raise InvalidArgument("the ledger does not know this message")
        return found[message_id]

    def locked(self, connection: Connection, number: int) -> LedgerMessage:
        """Return a message, locked until the transaction ends. Raises InvalidArgument."""
        query = select(messages).where(messages.c.id == number)
        if connection.dialect.name != "sqlite":
            query = query.with_for_update()
        row = connection.execute(query).one_or_none()
        if row is None:
            raise InvalidArgument(f"the ledger has no message {number}")
        return read_message(row)

    def counts(self) -> dict[tuple[str, Direction, State], int]:
        """Count the messages by mailbox, direction and state."""
        columns = (messages.c.mailbox_id, messages.c.direction, messages.c.state)
        with self._database.read() as connection:
            rows = connection.execute(select(*columns, func.count()).group_by(*columns))
            return {(mailbox, Direction(direction), State(state)): count for mailbox, direction, state, count in rows}

    def forget_before(self, moment: datetime, limit: int) -> int:
        """Remove messages that ended before a moment, at most `limit` of them; return how many those were."""
        ended = (
            select(messages.c.id)
            .where(
                messages.c.state.in_(FINAL),
                messages.c.finished_at < moment,
                messages.c.is_filed,
            )
            .limit(limit)
        )
        with self._database.write() as connection:
            numbers = list(connection.scalars(ended))
            connection.execute(delete(copies).where(copies.c.message.in_(numbers)))
            connection.execute(delete(messages).where(messages.c.id.in_(numbers)))
        return len(numbers)

    def _incoming(
        self, connection: Connection, mailbox_id: str, message_ids: Sequence[str]
    ) -> dict[str, LedgerMessage]:
        query = select(messages).where(
            messages.c.direction == Direction.IN,
            messages.c.mailbox_id == mailbox_id,
            messages.c.message_id.in_(message_ids),
        )
        if connection.dialect.name != "sqlite" and len(message_ids) == 1:
            query = query.with_for_update()
        found = [read_message(row) for row in connection.execute(query)]
        return {one.message_id or "": one for one in found}

    def note(
        self, connection: Connection, message: LedgerMessage, kind: str, *, actor: str, details: dict[str, Any]
    ) -> None:
        """Add an event about a message that leaves its state as it is."""
        now = self._clock.now()
        events.append(
            connection, now, kind, actor=actor, mailbox_id=message.mailbox_id, message=message.id, details=details
        )

    def insert(self, connection: Connection, *, actor: str = events.AGENT, **values: Any) -> LedgerMessage:
        """Add a message in the first state of its direction."""
        now = self._clock.now()
        state = FIRST[values["direction"]]
        values |= {"state": state, "created_at": now, "updated_at": now}
        values["is_filed"] = values["direction"] is Direction.IN
        row = connection.execute(insert(messages).values(**values).returning(messages)).one()
        message = read_message(row)
        events.append(connection, now, str(state), actor=actor, mailbox_id=message.mailbox_id, message=message.id)
        return message


def read_message(row: Any) -> LedgerMessage:
    """Return a row of the table as a message."""
    values = row_values(row)
    return LedgerMessage(**values | {"direction": Direction(values["direction"]), "state": State(values["state"])})


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
