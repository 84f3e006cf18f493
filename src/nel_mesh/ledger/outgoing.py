"""The outgoing messages of the ledger: files that are to be sent, what became of them, and their tracking."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update

from nel_mesh.io.clock import Clock
from nel_mesh.ledger import events
from nel_mesh.ledger.database import Database
from nel_mesh.ledger.messages import LedgerMessage, Messages, read_message
from nel_mesh.ledger.schema import mailboxes, messages, transfers
from nel_mesh.ledger.states import DUE, TRANSITIONS, Direction, Event, State

_ENDED_OUT = (State.ACCEPTED, State.COLLECTED, State.UNDELIVERED, State.REFUSED)
"""States in which the files of an outgoing message are moved away."""


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


class Outgoing:
    """The outgoing messages of a ledger.

    Args:
        database: where they are.
        clock: where time comes from.
        messages: the messages in both directions, which take the steps.
    """

    def __init__(self, database: Database, clock: Clock, messages: Messages) -> None:
        self._database = database
        self._clock = clock
        self._messages = messages

    def add(self, mailbox_id: str, sends: Sequence[NewSend], *, actor: str = events.AGENT) -> list[LedgerMessage]:
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
        return self._messages.insert(
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

    def due(self, mailbox_id: str, limit: int, node: str | None = None) -> list[LedgerMessage]:
        """Return messages that are to be sent now, oldest first: of this machine's own folders, or of those of all."""
        query = (
            select(messages)
            .where(
                messages.c.mailbox_id == mailbox_id,
                messages.c.direction == Direction.OUT,
                messages.c.is_filed.is_(False),
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

    def mailboxes_waiting(self, node: str | None = None) -> set[str]:
        """Return the mailboxes with something to be sent now, or to be filed; see `due`."""
        is_due = (
            messages.c.state.in_(DUE[Direction.OUT])
            & messages.c.owner.is_(None)
            & (messages.c.next_attempt_at.is_(None) | (messages.c.next_attempt_at <= self._clock.now()))
        )
        query = select(messages.c.mailbox_id).where(
            messages.c.direction == Direction.OUT,
            messages.c.is_filed.is_(False),
            messages.c.node == node,
            is_due | messages.c.state.in_(_ENDED_OUT),
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
            message = self._messages.locked(connection, number)
            return self._messages.step(
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
            message = self._messages.locked(connection, number)
            if event is None or event not in TRANSITIONS[message.direction][message.state]:
                connection.execute(update(messages).where(messages.c.id == number).values(**values))
            else:
                said = {name: values[name] for name in ("status_event", "status_code") if values.get(name)}
                self._messages.step(connection, message, event, said=said, **values)
