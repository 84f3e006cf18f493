"""What happened, append-only: each event is hashed together with the one before it.

A row that was changed, added in between or removed breaks the chain at that place. Only the oldest rows may go, by
retention: the first that is left then says by `previous` what it followed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nel_mesh.ledger.schema import chain, events

_ROWS_AT_ONCE = 1000
"""How many events are fetched at a time: a ledger has more than fit into memory."""

AGENT = "agent"
"""The actor of what the agent does by itself."""


def append(
    connection: Connection,
    at: datetime,
    kind: str,
    *,
    actor: str = AGENT,
    mailbox_id: str | None = None,
    message: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an event, in the transaction of what it tells of.

    Args:
        connection: that transaction.
        at: when it happened.
        kind: what happened, such as `stored` or `paused`.
        actor: who did it: `agent`, or a person's name.
        mailbox_id: the mailbox.
        message: the message, by its number in the ledger.
        details: more of it, in the types of JSON. No content, subject, file name or recipient.
    """
    query = select(chain.c.last).where(chain.c.id == 1)
    if connection.dialect.name != "sqlite":
        query = query.with_for_update()
    previous: str = connection.execute(query).scalar_one()
    values = {
        "at": at,
        "kind": kind,
        "mailbox_id": mailbox_id,
        "message": message,
        "actor": actor,
        "details": dict(details or {}),
    }
    digest = _digest(previous, values)
    connection.execute(insert(events).values(**values, previous=previous, hash=digest))
    connection.execute(update(chain).where(chain.c.id == 1).values(last=digest))


def first_broken(connection: Connection) -> int | None:
    """Return the number of the first event that does not follow from the one before it; None if all do.

    0: the last event of the chain is missing.
    """
    previous: str | None = None
    query = select(events).order_by(events.c.number).execution_options(yield_per=_ROWS_AT_ONCE)
    with connection.execute(query) as rows:
        for row in rows:
            values = {name: getattr(row, name) for name in ("at", "kind", "mailbox_id", "message", "actor", "details")}
            if (previous is not None and row.previous != previous) or row.hash != _digest(row.previous, values):
                number: int = row.number
                return number
            previous = row.hash
    last = connection.execute(select(chain.c.last)).scalar_one_or_none()
    return None if previous is None or previous == last else 0


def _digest(previous: str, values: Mapping[str, Any]) -> str:
    at: datetime = values["at"]
    said = {**values, "at": at.astimezone(UTC).isoformat(timespec="microseconds")}
    return hashlib.sha256(f"{previous}{json.dumps(said, sort_keys=True)}".encode()).hexdigest()
