"""What happened, append-only: each event is hashed together with the one before it.

A row that was changed, added in between or removed breaks the chain at that place. Only the oldest rows may go, by
retention: the first that is left then says by `previous` what it followed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
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
    values = {"mailbox_id": mailbox_id, "message": message, "details": dict(details or {})}
    _append(connection, at, kind, actor, [values])


def append_for_mailboxes(connection: Connection, at: datetime, kind: str, mailbox_ids: Iterable[str]) -> None:
    """Add the same event of the agent for each of many mailboxes, in few statements."""
    _append(connection, at, kind, AGENT, [{"mailbox_id": one, "message": None, "details": {}} for one in mailbox_ids])


def _append(connection: Connection, at: datetime, kind: str, actor: str, each: Sequence[Mapping[str, Any]]) -> None:
    previous = lock(connection)
    rows = []
    for one in each:
        values = {"at": at, "kind": kind, "actor": actor, **one}
        digest = digest_of(previous, values)
        rows.append({**values, "previous": previous, "hash": digest})
        previous = digest
    if rows:
        connection.execute(insert(events), rows)
        connection.execute(update(chain).where(chain.c.id == 1).values(last=previous))


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
