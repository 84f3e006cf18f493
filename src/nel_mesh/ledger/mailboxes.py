"""The mailboxes of the ledger: when each is visited next, by whom, and how its visits went."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from nel_mesh.errors import InvalidArgument, MeshError, StorageError
from nel_mesh.io.clock import Clock
from nel_mesh.ledger import events
from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.schema import mailboxes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerMailbox:
    """A mailbox, as the ledger knows it.

    Attributes:
        mailbox_id: its id.
        is_configured: whether the configuration still names it.
        next_visit_at: when it is due; None while it is visited for the first time.
        last_visit_at: when a visit last began.
        last_success_at: when a visit last ended well.
        last_handshake_at: when MESH was last told that it is in use.
        failing_since: when the visits began to fail; None if the last one went well.
        failures: how many failed since.
        reason: why the last one failed; None if it went well.
        error_kind: the class of that error.
        inbox_count: how many messages waited in its inbox when it was last listed.
        certificate_expires_at: when its certificate ends; None if it has none, or was not visited yet.
        paused_at: since when it is paused; None if it is not.
        paused_by: who paused it.
        pause_reason: why.
        owner: which process visits it now; None if none does.
        epoch: the number of its latest visit.
    """

    mailbox_id: str
    is_configured: bool
    next_visit_at: datetime | None
    last_visit_at: datetime | None
    last_success_at: datetime | None
    last_handshake_at: datetime | None
    failing_since: datetime | None
    failures: int
    reason: str | None
    error_kind: str | None
    inbox_count: int | None
    certificate_expires_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    owner: str | None
    epoch: int


class Fenced(StorageError):
    """Another process has taken over this work since; what this one still does is not recorded."""


class Mailboxes:
    """The mailboxes of a ledger."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def configure(self, mailbox_ids: Iterable[str]) -> None:
        """Note which mailboxes the configuration names: new ones are due at once, others are no longer visited."""
        wanted = set(mailbox_ids)
        with self._database.write() as connection:
            self._database.wait_for_others_that_start(connection)
            query = select(mailboxes.c.mailbox_id, mailboxes.c.is_configured)
            known = {row.mailbox_id: row.is_configured for row in connection.execute(query)}
            # A row that stays as it is is not written: visits of other machines hold it meanwhile.
            changed = sorted(name for name, is_configured in known.items() if is_configured != (name in wanted))
            if changed:
                named = update(mailboxes).where(mailboxes.c.mailbox_id == bindparam("name"))
                rows = [{"name": name, "is_named": name in wanted} for name in changed]
                connection.execute(named.values(is_configured=bindparam("is_named")), rows)
            if new := sorted(wanted - known.keys()):
                now = self._clock.now()
                rows = [{"mailbox_id": name, "is_configured": True, "next_visit_at": now} for name in new]
                connection.execute(insert(mailboxes), rows)
                events.append_for_mailboxes(connection, now, "mailbox added", new)

    def all(self) -> list[LedgerMailbox]:
        """List the mailboxes that the configuration names."""
        query = select(mailboxes).where(mailboxes.c.is_configured).order_by(mailboxes.c.mailbox_id)
        with self._database.read() as connection:
            return [LedgerMailbox(**row_values(row)) for row in connection.execute(query)]

    def get(self, mailbox_id: str) -> LedgerMailbox:
        """Look a mailbox up. Raises InvalidArgument."""
        with self._database.read() as connection:
            return self._get(connection, mailbox_id)

    def _get(self, connection: Connection, mailbox_id: str, *, for_update: bool = False) -> LedgerMailbox:
        query = select(mailboxes).where(mailboxes.c.mailbox_id == mailbox_id)
        if for_update and connection.dialect.name != "sqlite":
            query = query.with_for_update()
        row = connection.execute(query).one_or_none()
        if row is None:
            raise InvalidArgument(f"the agent has no mailbox {mailbox_id}; `nel-mesh agent status` lists them")
        return LedgerMailbox(**row_values(row))

    def due(self) -> list[str]:
        """List the mailboxes that are to be visited now: due, not paused, and not being visited."""
        query = (
            select(mailboxes.c.mailbox_id)
            .where(
                mailboxes.c.is_configured,
                mailboxes.c.paused_at.is_(None),
                mailboxes.c.owner.is_(None),
                mailboxes.c.next_visit_at <= self._clock.now(),
            )
            .order_by(mailboxes.c.next_visit_at)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def begin_visit(self, mailbox_id: str, owner: str, *, if_due: bool = False) -> LedgerMailbox | None:
        """Take a mailbox for a visit; None if it is paused, no longer configured, or another process visits it.

        Args:
            mailbox_id: the mailbox.
            owner: the process that is to visit it.
            if_due: take it only if it is still due: another machine may have visited it while this one had to wait.
        """
        with self._database.write() as connection:
            found = self._get(connection, mailbox_id, for_update=True)
            now = self._clock.now()
            if found.paused_at is not None or not found.is_configured or found.owner not in (None, owner):
                return None
            if if_due and found.next_visit_at is not None and found.next_visit_at > now:
                return None
            values = {"owner": owner, "epoch": found.epoch + 1, "last_visit_at": now}
            connection.execute(update(mailboxes).where(mailboxes.c.mailbox_id == mailbox_id).values(**values))
            return dataclasses.replace(found, owner=owner, epoch=found.epoch + 1)

    def of_owner(self, owner: str) -> dict[str, int]:
        """Return the mailboxes that a process visits, each with the number of the visit."""
        query = select(mailboxes.c.mailbox_id, mailboxes.c.epoch).where(mailboxes.c.owner == owner)
        with self._database.read() as connection:
            return {row.mailbox_id: row.epoch for row in connection.execute(query)}

    def let_go(self, mailbox_id: str, epoch: int) -> None:
        """End a visit that nobody makes any more, so that the mailbox is due."""
        query = update(mailboxes).where(mailboxes.c.mailbox_id == mailbox_id, mailboxes.c.epoch == epoch)
        with self._database.write() as connection:
            connection.execute(query.values(owner=None))

    def handshake_made(self, mailbox_id: str) -> None:
        """Note that MESH was told that the mailbox is in use."""
        with self._database.write() as connection:
            self._update(connection, mailbox_id, last_handshake_at=self._clock.now())

    def certificate_seen(self, mailbox_id: str, expires_at: datetime | None) -> None:
        """Note when the certificate of a mailbox ends."""
        with self._database.write() as connection:
            self._update(connection, mailbox_id, certificate_expires_at=expires_at)

    def listed(self, mailbox_id: str, count: int) -> None:
        """Note how many messages wait in the inbox."""
        with self._database.write() as connection:
            self._update(connection, mailbox_id, inbox_count=count)

    def end_visit(self, mailbox_id: str, epoch: int, next_visit_at: datetime, error: MeshError | None) -> None:
        """Note how a visit ended; nothing if another one has begun since."""
        now = self._clock.now()
        with self._database.write() as connection:
            before = self._get(connection, mailbox_id, for_update=True)
            if before.epoch != epoch:
                return
            # Somebody may have asked for a visit while this one ran.
            asked = before.next_visit_at is not None and before.last_visit_at is not None
            if asked and before.next_visit_at and before.last_visit_at and before.next_visit_at > before.last_visit_at:
                next_visit_at = min(next_visit_at, before.next_visit_at)
            if error is None:
                values = {"last_success_at": now, "failing_since": None, "failures": 0, "reason": None}
                self._update(connection, mailbox_id, **values, error_kind=None, owner=None, next_visit_at=next_visit_at)
                if before.failures:
                    events.append(connection, now, "mailbox works again", mailbox_id=mailbox_id)
                return
            values = {"failing_since": before.failing_since or now, "failures": before.failures + 1}
            said = {"reason": str(error), "error_kind": type(error).__name__}
            self._update(connection, mailbox_id, **values, **said, owner=None, next_visit_at=next_visit_at)
            if before.error_kind != type(error).__name__:
                events.append(connection, now, "mailbox fails", mailbox_id=mailbox_id, details=said)

    def pause(self, mailbox_id: str, *, actor: str, reason: str) -> None:
        """Visit a mailbox no more, and send nothing of it, until it is resumed."""
        with self._database.write() as connection:
            if self._get(connection, mailbox_id, for_update=True).paused_at is None:
                now = self._clock.now()
                self._update(connection, mailbox_id, paused_at=now, paused_by=actor, pause_reason=reason)
                events.append(connection, now, "paused", actor=actor, mailbox_id=mailbox_id, details={"reason": reason})

    def resume(self, mailbox_id: str, *, actor: str, reason: str = "") -> None:
        """Visit a paused mailbox again, at once."""
        with self._database.write() as connection:
            if self._get(connection, mailbox_id, for_update=True).paused_at is not None:
                now = self._clock.now()
                self._update(
                    connection, mailbox_id, paused_at=None, paused_by=None, pause_reason=None, next_visit_at=now
                )
                events.append(
                    connection, now, "resumed", actor=actor, mailbox_id=mailbox_id, details={"reason": reason}
                )

    def visit_now(self, mailbox_id: str, *, actor: str, reason: str = "") -> None:
        """Have a mailbox visited at once, also while it is being visited: then once more."""
        with self._database.write() as connection:
            self._get(connection, mailbox_id)
            now = self._clock.now()
            self._update(connection, mailbox_id, next_visit_at=now)
            events.append(
                connection, now, "visit asked for", actor=actor, mailbox_id=mailbox_id, details={"reason": reason}
            )

    def _update(self, connection: Connection, mailbox_id: str, **values: object) -> None:
        connection.execute(update(mailboxes).where(mailboxes.c.mailbox_id == mailbox_id).values(**values))
