"""The messages of the ledger, in both directions: what became of each, and what is to be done next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from nel_mesh.errors import InvalidArgument, MeshError
from nel_mesh.io.clock import Clock
from nel_mesh.ledger import events
from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.schema import copies, messages
from nel_mesh.ledger.states import FINAL, FIRST, TRANSITIONS, Direction, Event, State, next_state

_MOST_FOUND = 500
"""How many messages a search for one identifier returns."""


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

    def get(self, number: int) -> LedgerMessage:
        """Return a message by its number. Raises InvalidArgument."""
        with self._database.read() as connection:
            return self.locked(connection, number)

    def find(self, identifier: str) -> list[LedgerMessage]:
        """Return the messages with this number, message id or local id, newest first."""
        conditions = [messages.c.message_id == identifier, messages.c.local_id == identifier]
        if identifier.isdecimal() and len(identifier) < 18:
            conditions.append(messages.c.id == int(identifier))
        query = select(messages).where(or_(*conditions)).order_by(messages.c.id.desc()).limit(_MOST_FOUND)
        with self._database.read() as connection:
            return [read_message(row) for row in connection.execute(query)]

    def copies(self, connection: Connection, number: int) -> list[Copy]:
        """Return the copies of a message."""
        query = select(copies).where(copies.c.message == number).order_by(copies.c.stored_at)
        return [Copy(**row_values(row)) for row in connection.execute(query)]

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
                # What has ended before began before, and of that there is an index. SQLite would rather use that of
                # `is_filed`, which is true of nearly all.
                messages.c.created_at < moment,
                messages.c.state.in_(FINAL),
                messages.c.finished_at < moment,
                messages.c.is_filed.is_not(False),
            )
            .limit(limit)
        )
        with self._database.write() as connection:
            numbers = list(connection.scalars(ended))
            connection.execute(delete(copies).where(copies.c.message.in_(numbers)))
            connection.execute(delete(messages).where(messages.c.id.in_(numbers)))
        return len(numbers)

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
