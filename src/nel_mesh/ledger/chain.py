"""Whether the chain of events is whole: walked in steps, from its beginning or from where it was known to be whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from sqlalchemy import Row, select

from nel_mesh.ledger.database import Database
from nel_mesh.ledger.events import digest_of
from nel_mesh.ledger.schema import chain, events

_ROWS_AT_ONCE = 5_000
"""A step: a ledger has more events than fit into memory, and no step holds the database up."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChainPoint:
    """An event up to which the chain is whole, by its number and its hash."""

    number: int
    hash: str


@dataclasses.dataclass(frozen=True, slots=True)
class ChainCheck:
    """What a check has found.

    Attributes:
        broken: the first event that does not follow from the one before it; 0: the last one is missing; None: all do.
        verified: up to where the chain is whole; None if it is not even at its beginning, or empty.
        count: how many events were looked at.
    """

    broken: int | None
    verified: ChainPoint | None
    count: int


def check_chain(
    database: Database, since: ChainPoint | None = None, *, goes_on: Callable[[int], bool] = lambda _: True
) -> ChainCheck | None:
    """Walk along the chain of events.

    Args:
        database: the ledger's.
        since: where to begin: what came before was found whole. If retention has removed it, at the beginning.
        goes_on: asked after each step, with the number of the event; False ends the check.

    Returns:
        What was found; None if the check was ended.
    """
    with database.read() as connection:
        # Read first: what is added meanwhile comes after it.
        last = connection.execute(select(chain.c.last)).scalar_one_or_none()
        begins = None
        if since is not None:
            begins = connection.execute(select(events).where(events.c.number == since.number)).one_or_none()
    if since is not None and begins is not None and (begins.hash != since.hash or _is_changed(begins)):
        return ChainCheck(begins.number, None, 1)
    verified = since if begins is not None else None
    has_last, count = verified is not None and verified.hash == last, 0
    while rows := _next(database, verified):
        for row in rows:
            if (verified is not None and row.previous != verified.hash) or _is_changed(row):
                return ChainCheck(row.number, verified, count)
            verified = ChainPoint(row.number, row.hash)
            has_last = has_last or row.hash == last
            count += 1
        if verified is not None and not goes_on(verified.number):
            return None
    # Without any event there is none to be missing.
    return ChainCheck(None if has_last or verified is None else 0, verified, count)


def _next(database: Database, after: ChainPoint | None) -> Sequence[Row[tuple[object, ...]]]:
    query = select(events).order_by(events.c.number).limit(_ROWS_AT_ONCE)
    if after is not None:
        query = query.where(events.c.number > after.number)
    with database.read() as connection:
        return connection.execute(query).all()


def _is_changed(row: Row[tuple[object, ...]]) -> bool:
    names = ("at", "kind", "mailbox_id", "message", "actor", "details")
    return bool(row.hash != digest_of(row.previous, {name: getattr(row, name) for name in names}))
