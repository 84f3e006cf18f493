"""Numbers of the ledger: how much goes through, how old the oldest is, what the destinations have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, literal, select, union_all

from nel_mesh.ledger.database import Database
from nel_mesh.ledger.schema import copies, messages
from nel_mesh.ledger.states import DUE, Direction, State


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """The messages that came up in one hour.

    Attributes:
        start: when it began.
        counts: how many, by direction and present state.
    """

    start: datetime
    counts: dict[tuple[Direction, State], int]

    def total(self, direction: Direction) -> int:
        """Count those of a direction."""
        return sum(number for (way, _), number in self.counts.items() if way is direction)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DestinationUse:
    """What a destination has.

    Attributes:
        place: the destination, as the configuration names it.
        stored_today: how many messages it got in the last 24 hours.
        last_stored_at: when it got one last; None if it never did.
    """

    place: str
    stored_today: int
    last_stored_at: datetime | None


def hours(database: Database, now: datetime, count: int = 24) -> list[Hour]:
    """Count the messages that came up in each of the last hours, oldest first."""
    last = now.replace(minute=0, second=0, microsecond=0)
    starts = [last - timedelta(hours=back) for back in range(count - 1, -1, -1)]
    # One statement: to a database elsewhere, 24 of them took longer to go there and back than to be answered.
    each = [_counted(start, start + timedelta(hours=1), number) for number, start in enumerate(starts)]
    found: list[dict[tuple[Direction, State], int]] = [{} for _ in starts]
    with database.read() as connection:
        for number, way, state, amount in connection.execute(union_all(*each)):
            found[number][Direction(way), State(state)] = amount
    return [Hour(start=start, counts=counts) for start, counts in zip(starts, found, strict=True)]


def _counted(start: datetime, end: datetime, number: int) -> Select[Any]:
    columns = (messages.c.direction, messages.c.state)
    # With both ends SQLite takes the index of this column; with one it goes through the whole table, in the order of
    # the groups.
    return (
        select(literal(number), *columns, func.count())
        .where(messages.c.created_at >= start, messages.c.created_at < end)
        .group_by(*columns)
    )


def between(database: Database, start: datetime, end: datetime) -> dict[Direction, int]:
    """Count the messages that came up from one moment to another, by direction."""
    counts = dict.fromkeys(Direction, 0)
    with database.read() as connection:
        for _, way, _, amount in connection.execute(_counted(start, end, 0)):
            counts[Direction(way)] += amount
    return counts


def oldest_open(database: Database) -> dict[tuple[str, Direction], datetime]:
    """Return since when the oldest open message of each mailbox and direction is there."""
    columns = (messages.c.mailbox_id, messages.c.direction)
    states = [*DUE[Direction.IN], *DUE[Direction.OUT]]
    oldest = func.min(messages.c.created_at, type_=messages.c.created_at.type)
    query = select(*columns, oldest).where(messages.c.state.in_(states)).group_by(*columns)
    with database.read() as connection:
        return {(mailbox, Direction(way)): moment for mailbox, way, moment in connection.execute(query)}


def destinations(database: Database, places: Sequence[str], now: datetime) -> list[DestinationUse]:
    """Say what each destination has got."""
    found = []
    newest = func.max(copies.c.stored_at, type_=copies.c.stored_at.type)
    with database.read() as connection:
        for place in places:
            mine = copies.c.destination == place
            recent = select(func.count()).where(mine, copies.c.stored_at >= now - timedelta(hours=24))
            found.append(
                DestinationUse(
                    place=place,
                    stored_today=connection.scalar(recent) or 0,
                    last_stored_at=connection.scalar(select(newest).where(mine)),
                )
            )
    return found
