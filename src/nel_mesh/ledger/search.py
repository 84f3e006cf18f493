"""Looking for messages and events, page by page: what the command line and the console show."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.messages import Copy, LedgerMessage, read_message
from nel_mesh.ledger.schema import copies, events, messages
from nel_mesh.ledger.states import Direction, State

_LOCATIONS_AT_ONCE = 500


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which messages are looked for. What is None does not matter.

    Attributes:
        identifier: the message id, local id or number; exactly.
        mailbox_id: the agent's mailbox.
        direction: in or out.
        states: any of these.
        workflow_id: exactly, or its beginning if it ends in `*`.
        party: the other mailbox: sender or recipient.
        since: created at this time or later.
        until: created before this time.
        message_type: `DATA` or `REPORT`.
    """

    identifier: str | None = None
    mailbox_id: str | None = None
    direction: Direction | None = None
    states: tuple[State, ...] = ()
    workflow_id: str | None = None
    party: str | None = dataclasses.field(default=None, repr=False)
    since: datetime | None = None
    until: datetime | None = None
    message_type: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEvent:
    """One event of the ledger."""

    number: int
    at: datetime
    kind: str
    mailbox_id: str | None
    message: int | None
    actor: str
    details: dict[str, Any]
    previous: str
    hash: str


class Search:
    """Looks through a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def messages(self, wanted: Filter, *, limit: int = 50, before: int | None = None) -> list[LedgerMessage]:
        """Return messages, the newest first.

        Args:
            wanted: which.
            limit: how many at most.
            before: only older ones than that with this number: the last of the page before.
        """
        found: dict[int, LedgerMessage] = {}
        with self._database.read() as connection:
            older = _older(connection, before)
            for alternative in _alternatives(connection, wanted):
                query = select(messages).where(*alternative, *older).order_by(*_NEWEST_FIRST).limit(limit)
                found |= {row.id: read_message(row) for row in connection.execute(query)}
        return sorted(found.values(), key=lambda one: (one.created_at, one.id), reverse=True)[:limit]

    def numbers(self, wanted: Filter, *, limit: int | None = None) -> Iterator[int]:
        """Return the number of every message that is wanted, oldest first; at most `limit` of them."""
        query = select(messages.c.id).where(*_conditions(wanted)).order_by(messages.c.id).limit(limit)
        with self._database.read() as connection:
            yield from connection.scalars(query)

    def timeline(self, number: int) -> list[LedgerEvent]:
        """Return what happened to a message, oldest first."""
        query = select(events).where(events.c.message == number).order_by(events.c.number)
        with self._database.read() as connection:
            return [LedgerEvent(**row_values(row)) for row in connection.execute(query)]

    def copies(self, number: int) -> list[Copy]:
        """Return where a message lies."""
        query = select(copies).where(copies.c.message == number).order_by(copies.c.stored_at)
        with self._database.read() as connection:
            return [Copy(**row_values(row)) for row in connection.execute(query)]

    def stored_before(self, locations: Sequence[str], moment: datetime) -> list[str]:
        """Return those of some places that a message was stored at before a moment."""
        found: list[str] = []
        with self._database.read() as connection:
            for start in range(0, len(locations), _LOCATIONS_AT_ONCE):
                some = locations[start : start + _LOCATIONS_AT_ONCE]
                query = select(copies.c.location).where(copies.c.location.in_(some), copies.c.stored_at < moment)
                found += [str(location) for location in connection.scalars(query.distinct())]
        return found

    def reports_about(self, message: LedgerMessage) -> list[LedgerMessage]:
        """Return the reports that MESH sent about a message."""
        if message.message_id is None:
            return []
        query = select(messages).where(
            messages.c.linked_message_id == message.message_id, messages.c.mailbox_id == message.mailbox_id
        )
        with self._database.read() as connection:
            return [read_message(row) for row in connection.execute(query.order_by(messages.c.id))]

    def events(
        self, *, limit: int = 50, before: int | None = None, kind: str | None = None, mailbox_id: str | None = None
    ) -> list[LedgerEvent]:
        """Return events, the newest first."""
        query = select(events)
        if before is not None:
            query = query.where(events.c.number < before)
        if kind is not None:
            query = query.where(events.c.kind == kind)
        if mailbox_id is not None:
            query = query.where(events.c.mailbox_id == mailbox_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(events.c.number.desc()).limit(limit))
            return [LedgerEvent(**row_values(row)) for row in rows]

    def last_event(self) -> int:
        """Return the number of the newest event; 0 if there is none. It changes with everything that happens."""
        with self._database.read() as connection:
            return connection.scalar(select(func.max(events.c.number))) or 0


_NEWEST_FIRST = (messages.c.created_at.desc(), messages.c.id.desc())

_MOST_ALTERNATIVES = 60
_MOST_WORKFLOWS = 200

Condition = ColumnElement[bool]


def _older(connection: Connection, number: int | None) -> list[Condition]:
    """Return the conditions of what is older than a message."""
    if number is None:
        return []
    at = connection.scalar(select(messages.c.created_at).where(messages.c.id == number))
    if at is None:
        return [messages.c.id < number]
    return [messages.c.created_at <= at, or_(messages.c.created_at < at, messages.c.id < number)]


def _alternatives(connection: Connection, wanted: Filter) -> list[list[Condition]]:
    """Return the conditions of a search as several, of which each is answered from one index in its order.

    A database looks for "one of these" in the order of age by going through the whole table, or else it sorts all that
    it finds. Each by itself, with a limit, is a look at the end of an index.
    """
    rest = dataclasses.replace(wanted, states=(), party=None)
    choices: list[list[Condition]] = []
    if wanted.states:
        choices.append([messages.c.state == state for state in wanted.states])
    if wanted.party is not None:
        choices.append([messages.c.sender == wanted.party, messages.c.recipient == wanted.party])
    if wanted.workflow_id is not None and wanted.workflow_id.endswith("*"):
        known = _workflows(connection)
        if known is not None:
            rest = dataclasses.replace(rest, workflow_id=None)
            beginning = wanted.workflow_id[:-1]
            choices.append([messages.c.workflow_id == one for one in known if one.startswith(beginning)])
    if math.prod(len(choice) for choice in choices) > _MOST_ALTERNATIVES:
        return [_conditions(wanted)]
    return [[*chosen, *_conditions(rest)] for chosen in itertools.product(*choices)]


def _workflows(connection: Connection) -> list[str] | None:
    """Return every workflow id, each by one look into an index; None if there are too many for that."""
    found: list[str] = []
    query = select(func.min(messages.c.workflow_id))
    while (one := connection.scalar(query)) is not None:
        found.append(one)
        if len(found) > _MOST_WORKFLOWS:
            return None
        query = select(func.min(messages.c.workflow_id)).where(messages.c.workflow_id > one)
    return found


def _conditions(wanted: Filter) -> list[Condition]:
    columns = messages.c
    found: list[Condition] = []
    if wanted.identifier is not None:
        either = [columns.message_id == wanted.identifier, columns.local_id == wanted.identifier]
        if wanted.identifier.isdecimal() and len(wanted.identifier) < 18:
            either.append(columns.id == int(wanted.identifier))
        found.append(or_(*either))
    if wanted.mailbox_id is not None:
        found.append(columns.mailbox_id == wanted.mailbox_id)
    if wanted.direction is not None:
        found.append(columns.direction == wanted.direction)
    if wanted.states:
        found.append(columns.state.in_(wanted.states))
    if wanted.workflow_id is not None and wanted.workflow_id.endswith("*"):
        found.append(columns.workflow_id.startswith(wanted.workflow_id[:-1], autoescape=True))
    elif wanted.workflow_id is not None:
        found.append(columns.workflow_id == wanted.workflow_id)
    if wanted.party is not None:
        found.append(or_(columns.sender == wanted.party, columns.recipient == wanted.party))
    if wanted.message_type is not None:
        found.append(columns.message_type == wanted.message_type)
    if wanted.since is not None:
        found.append(columns.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(columns.created_at < wanted.until)
    return found
