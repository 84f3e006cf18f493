"""What needs a person now, in one line each, oldest first: for the command line, the console and the metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, union_all

from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.mailboxes import LedgerMailbox
from nel_mesh.ledger.schema import NEEDS_PERSON, events, hook_calls, mailboxes, messages
from nel_mesh.ledger.states import DUE, Direction, State

EXPIRES_AFTER = timedelta(days=5)
"""MESH gives a message back that was not collected in five days."""

ALARM_AFTER = timedelta(days=4)
"""When a person has to be told of it, so that a day is left."""

CLOCK_DIFFERS = "clock differs"
CLOCK_AGREES = "clock agrees"
"""Events: this machine's clock has begun to differ from MESH's, and agrees again."""

WARN_DAYS_BEFORE_EXPIRY = (60, 30, 14, 7, 1)
"""Before a certificate expires it is shown from the first of these on; from the third on it needs a person. At each of
them the agent warns in its log."""

_MANY_FAILURES = 3
"""After so many visits in a row that failed, it will hardly end by itself."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Something that needs a person, or that is being retried.

    Attributes:
        kind: what it is: `mailbox fails`, `quarantined`, `undelivered`, `refused`, `unknown`, `not collected`,
            `retrying`, `paused`, `hook`, `configuration`, `certificate`, `clock`.
        since: since when.
        text: what is wrong, in one sentence.
        advice: what to do.
        mailbox_id: the mailbox that it is about.
        count: how many messages.
        message: the message, by its number, if it is one.
        needs_person: whether it needs one; if not, it is being retried.
    """

    kind: str
    since: datetime
    text: str
    advice: str
    mailbox_id: str | None = None
    count: int = 1
    message: int | None = None
    needs_person: bool = True


def look(database: Database, now: datetime) -> list[Attention]:
    """Return what needs a person, oldest first, and after that what is being retried."""
    with database.read() as connection:
        found = [
            *_mailboxes(connection),
            *_certificates(connection, now),
            *_messages(connection),
            *_uncollected(connection, now),
            *_retrying(connection),
            *_hooks(connection),
            *_configuration(connection),
            *_clock(connection),
        ]
    return sorted(found, key=lambda one: (not one.needs_person, one.since))


def _mailboxes(connection: Connection) -> Iterator[Attention]:
    query = select(mailboxes).where(
        mailboxes.c.is_configured, mailboxes.c.paused_at.is_not(None) | mailboxes.c.failing_since.is_not(None)
    )
    for row in connection.execute(query):
        mailbox = LedgerMailbox(**row_values(row))
        if mailbox.paused_at is not None:
            yield Attention(
                kind="paused",
                since=mailbox.paused_at,
                text=f"{mailbox.mailbox_id} is paused by {mailbox.paused_by}: {mailbox.pause_reason}",
                advice=f"When that is over: nel-mesh agent resume {mailbox.mailbox_id}",
                mailbox_id=mailbox.mailbox_id,
            )
        elif mailbox.failing_since is not None:
            last = "has had no successful visit yet"
            if mailbox.last_success_at is not None:
                last = f"has had no successful visit since {_time(mailbox.last_success_at)}"
            yield Attention(
                kind="mailbox fails",
                since=mailbox.failing_since,
                text=f"{mailbox.mailbox_id} {last}: {mailbox.reason}",
                advice=_advice(mailbox.error_kind),
                mailbox_id=mailbox.mailbox_id,
                needs_person=mailbox.failures >= _MANY_FAILURES or mailbox.error_kind in _NO_RETRY,
            )


def expiry_step(expires_at: datetime, now: datetime) -> int | None:
    """Return the last of the days before expiry that has come; None if none has."""
    left = expires_at - now
    return min((days for days in WARN_DAYS_BEFORE_EXPIRY if left <= timedelta(days=days)), default=None)


def _certificates(connection: Connection, now: datetime) -> Iterator[Attention]:
    first = now + timedelta(days=WARN_DAYS_BEFORE_EXPIRY[0])
    query = select(mailboxes.c.mailbox_id, mailboxes.c.certificate_expires_at).where(
        mailboxes.c.is_configured, mailboxes.c.certificate_expires_at <= first
    )
    for row in connection.execute(query):
        days = (row.certificate_expires_at - now).days
        when = f"expires in {days} day{'' if days == 1 else 's'}" if days >= 0 else "has expired"
        yield Attention(
            kind="certificate",
            since=row.certificate_expires_at - timedelta(days=WARN_DAYS_BEFORE_EXPIRY[0]),
            text=f"{row.mailbox_id}: the certificate {when}, on {_time(row.certificate_expires_at)}",
            advice="Order a new one (nel-mesh csr), put it in place of the old one, then send the agent SIGHUP",
            mailbox_id=row.mailbox_id,
            count=0,
            needs_person=(expiry_step(row.certificate_expires_at, now) or days) <= WARN_DAYS_BEFORE_EXPIRY[2],
        )


_NO_RETRY = frozenset({"CertificateError", "ConfigurationError", "NotAuthorised", "InvalidArgument"})
"""Errors that no further attempt cures."""


def _advice(error_kind: str | None) -> str:
    match error_kind:
        case "CertificateError":
            return "Renew the certificate, put it in place of the old one, then send the agent SIGHUP"
        case "NotAuthorised":
            return "Compare mailbox id, password, shared key and this machine's clock: nel-mesh check --settings FILE"
        case "ConnectionFailed" | "ConnectionLost":
            return "It is retried. If it stays so, try: nel-mesh check --settings FILE"
        case "StorageError":
            return "Make room, or correct the permissions, at the place that is named"
        case _:
            return "It is retried. For more: nel-mesh check --settings FILE"


_TEXTS = {
    State.QUARANTINED: ("in quarantine", "Ask the sender, or try once more: nel-mesh agent release NUMBER"),
    State.UNDELIVERED: ("not delivered", "Correct the cause, then: nel-mesh agent resend NUMBER"),
    State.REFUSED: ("not sent", "Correct the file, and put it into the outgoing folder again"),
    State.UNKNOWN: ("perhaps sent", "MESH is being asked; do not send it again by hand. nel-mesh agent retry NUMBER"),
}


def _messages(connection: Connection) -> Iterator[Attention]:
    columns = (messages.c.mailbox_id, messages.c.state, messages.c.reason)
    query = (
        select(
            *columns,
            func.count().label("number"),
            func.min(messages.c.updated_at, type_=messages.c.updated_at.type).label("since"),
            func.min(messages.c.id).label("first"),
        )
        .where(NEEDS_PERSON)
        .group_by(*columns)
    )
    for row in connection.execute(query):
        state = State(row.state)
        words, advice = _TEXTS[state]
        number = row.first if row.number == 1 else None
        yield Attention(
            kind=str(state),
            since=row.since,
            text=f"{row.mailbox_id}: {_count(row.number)} {words} since {_time(row.since)}: {row.reason}",
            advice=advice.replace("NUMBER", str(number) if number else "NUMBER..."),
            mailbox_id=row.mailbox_id,
            count=row.number,
            message=number,
        )


def _uncollected(connection: Connection, now: datetime) -> Iterator[Attention]:
    query = (
        select(
            messages.c.mailbox_id,
            func.count().label("number"),
            func.min(messages.c.accepted_at, type_=messages.c.accepted_at.type).label("since"),
        )
        .where(messages.c.state == State.ACCEPTED, messages.c.accepted_at < now - ALARM_AFTER)
        .group_by(messages.c.mailbox_id)
    )
    for row in connection.execute(query):
        yield Attention(
            kind="not collected",
            since=row.since,
            text=f"{row.mailbox_id}: {_count(row.number)} sent, and not collected in 4 days; MESH gives the oldest "
            f"back at {_time(row.since + EXPIRES_AFTER)}",
            advice="Ask the recipient to look into their mailbox",
            mailbox_id=row.mailbox_id,
            count=row.number,
        )


def _retrying(connection: Connection) -> Iterator[Attention]:
    columns = (messages.c.mailbox_id, messages.c.direction, messages.c.reason)
    states = [*DUE[Direction.IN], *DUE[Direction.OUT]]
    query: Any = (
        select(
            *columns,
            func.count().label("number"),
            func.min(messages.c.updated_at, type_=messages.c.updated_at.type).label("since"),
            func.min(messages.c.next_attempt_at, type_=messages.c.next_attempt_at.type).label("next"),
        )
        .where(
            messages.c.state.in_([state for state in states if state is not State.UNKNOWN]),
            messages.c.reason.is_not(None),
        )
        .group_by(*columns)
    )
    for row in connection.execute(query):
        when = f", next at {_time(row.next)}" if row.next else ""
        way = "received" if row.direction == Direction.IN else "sent"
        yield Attention(
            kind="retrying",
            since=row.since,
            text=f"{row.mailbox_id}: {_count(row.number)} to be {way}, retried by itself{when}: {row.reason}",
            advice="Nothing, unless it stays so",
            mailbox_id=row.mailbox_id,
            count=row.number,
            needs_person=False,
        )


def _hooks(connection: Connection) -> Iterator[Attention]:
    given_up = hook_calls.c.next_attempt_at.is_(None) & hook_calls.c.done_at.is_(None)
    oldest = func.min(hook_calls.c.created_at, type_=hook_calls.c.created_at.type)
    row = connection.execute(select(func.count().label("number"), oldest.label("since")).where(given_up)).one()
    if row.number:
        yield Attention(
            kind="hook",
            since=row.since,
            text=f"{row.number} calls of hooks were given up since {_time(row.since)}",
            advice="Try them: nel-mesh agent hooks test",
            count=row.number,
        )


def _configuration(connection: Connection) -> Iterator[Attention]:
    kinds = ("agent started", "configuration loaded", "configuration refused")
    row = _last_event(connection, kinds)
    if row is not None and row.kind == "configuration refused":
        faults = row.details.get("faults") or ["it has faults"]
        yield Attention(
            kind="configuration",
            since=row.at,
            text=f"The configuration was not loaded again, and the one before is in use: {faults[0]}",
            advice="Correct the file (nel-mesh agent check), then send the agent SIGHUP",
            count=0,
        )


def _clock(connection: Connection) -> Iterator[Attention]:
    # A new start looks again.
    kinds = ("agent started", CLOCK_DIFFERS, CLOCK_AGREES)
    row = _last_event(connection, kinds)
    if row is not None and row.kind == CLOCK_DIFFERS:
        seconds = int(row.details["seconds"])
        way = "ahead of" if seconds > 0 else "behind"
        yield Attention(
            kind="clock",
            since=row.at,
            text=f"This machine's clock is {timedelta(seconds=abs(seconds))} {way} MESH's; beyond two hours MESH "
            "refuses every request",
            advice="Set the clock, and have it kept (NTP)",
            count=0,
        )


def _last_event(connection: Connection, kinds: Sequence[str]) -> Any:
    """Return the last event of some kinds: of each kind by one look into an index, or all events would be read."""
    last = [
        select(events.c.number).where(events.c.kind == kind).order_by(events.c.number.desc()).limit(1).subquery()
        for kind in kinds
    ]
    numbers = union_all(*(select(one.c.number) for one in last))
    query = select(events.c.kind, events.c.at, events.c.details).where(events.c.number.in_(numbers))
    return connection.execute(query.order_by(events.c.number.desc()).limit(1)).one_or_none()


def _count(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
