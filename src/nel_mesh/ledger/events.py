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
    previous = lock(connection)
    values = {
        "at": at,
        "kind": kind,
        "mailbox_id": mailbox_id,
        "message": message,
        "actor": actor,
        "details": dict(details or {}),
    }
    digest = digest_of(previous, values)
    connection.execute(insert(events).values(**values, previous=previous, hash=digest))
    connection.execute(update(chain).where(chain.c.id == 1).values(last=digest))


def lock(connection: Connection) -> str:
    """Let nobody else add an event until the transaction ends; return the hash of the newest one."""
    query = select(chain.c.last).where(chain.c.id == 1)
    if connection.dialect.name != "sqlite":
        query = query.with_for_update()
    last: str = connection.execute(query).scalar_one()
    return last


def digest_of(previous: str, values: Mapping[str, Any]) -> str:
    """Return the hash of an event that follows another."""
    at: datetime = values["at"]
    said = {**values, "at": at.astimezone(UTC).isoformat(timespec="microseconds")}
    return hashlib.sha256(f"{previous}{json.dumps(said, sort_keys=True)}".encode()).hexdigest()
