"""Calls of hooks: noted in the transaction of what they tell of, made later, and kept as a record."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from nel_mesh.io.clock import Clock
from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.schema import hook_calls


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """A call of a hook.

    Attributes:
        id: its number.
        event: what it tells of: stored, sent, collected, undelivered or quarantined.
        message: the message's number.
        mailbox_id: its mailbox.
        hook: which hook of the configuration, by its digest.
        idempotency_key: the same for each attempt, so that the receiver can tell a repetition.
        payload: what is said, in the types of JSON.
        attempts: how many were made.
        next_attempt_at: when the next is due; None if there is none.
        reason: why the last one failed.
        created_at: when it was noted.
        done_at: when it succeeded; None if it has not.
    """

    id: int
    event: str
    message: int | None
    mailbox_id: str | None
    hook: str
    idempotency_key: str
    payload: dict[str, Any] = dataclasses.field(repr=False)
    attempts: int
    next_attempt_at: datetime | None
    reason: str | None
    created_at: datetime
    done_at: datetime | None


class HookCalls:
    """The calls of hooks of a ledger."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        connection: Connection,
        *,
        event: str,
        hook: str,
        message: int,
        mailbox_id: str,
        payload: dict[str, Any],
    ) -> None:
        """Note a call to be made, in the transaction of what it tells of."""
        now = self._clock.now()
        connection.execute(
            insert(hook_calls).values(
                event=event,
                message=message,
                mailbox_id=mailbox_id,
                hook=hook,
                idempotency_key=self._clock.unique(),
                payload=payload,
                next_attempt_at=now,
                created_at=now,
            )
        )

    def hooks_due(self) -> list[str]:
        """Return which hooks have calls that are to be made now, by their digests."""
        query = select(hook_calls.c.hook).where(hook_calls.c.next_attempt_at <= self._clock.now()).distinct()
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def due(self, hook: str, limit: int) -> list[HookCall]:
        """Return calls of a hook that are to be made now, oldest first."""
        query = (
            select(hook_calls)
            .where(hook_calls.c.next_attempt_at <= self._clock.now(), hook_calls.c.hook == hook)
            .order_by(hook_calls.c.next_attempt_at, hook_calls.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [HookCall(**row_values(row)) for row in connection.execute(query)]

    def of_message(self, message: int) -> list[HookCall]:
        """Return the calls about a message, oldest first."""
        query = select(hook_calls).where(hook_calls.c.message == message).order_by(hook_calls.c.id)
        with self._database.read() as connection:
            return [HookCall(**row_values(row)) for row in connection.execute(query)]

    def done(self, number: int) -> None:
        """Note that a call succeeded."""
        self._update(number, done_at=self._clock.now(), next_attempt_at=None, reason=None)

    def failed(self, number: int, reason: str, next_attempt_at: datetime | None) -> None:
        """Note that an attempt failed, and when the next is due; None: it is given up."""
        self._update(number, reason=reason, next_attempt_at=next_attempt_at)

    def given_up(self) -> int:
        """Count the calls that were given up."""
        query = select(func.count()).where(hook_calls.c.next_attempt_at.is_(None), hook_calls.c.done_at.is_(None))
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def _update(self, number: int, **values: Any) -> None:
        with self._database.write() as connection:
            values |= {"attempts": hook_calls.c.attempts + 1}
            connection.execute(update(hook_calls).where(hook_calls.c.id == number).values(**values))
