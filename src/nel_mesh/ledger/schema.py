"""The tables of the ledger, for SQLite and PostgreSQL alike. `migrations/` makes them; no other code does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcTime(TypeDecorator[datetime]):
    """A point in time: aware and in UTC in Python, whatever the database makes of it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into UTC; one without a zone is a bug."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return an aware time; SQLite keeps no zone."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# SQLite counts up only what is called INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

mailboxes = Table(
    "mailbox",
    metadata,
    Column("mailbox_id", String(100), primary_key=True),
    Column("is_configured", Boolean, nullable=False),
    Column("next_visit_at", UtcTime),
    Column("last_visit_at", UtcTime),
    Column("last_success_at", UtcTime),
    Column("last_handshake_at", UtcTime),
    Column("failing_since", UtcTime),
    Column("failures", Integer, nullable=False, default=0),
    Column("reason", Text),
    Column("error_kind", String(100)),
    Column("inbox_count", Integer),
    Column("certificate_expires_at", UtcTime),
    Column("paused_at", UtcTime),
    Column("paused_by", String(200)),
    Column("pause_reason", Text),
    # Who visits it now, and the number of that visit: what an earlier one still writes is refused.
    Column("owner", String(200)),
    Column("epoch", BigInteger, nullable=False, default=0),
    Index(None, "next_visit_at"),
)

NEEDS_PERSON = text(
    "state IN ('quarantined', 'undelivered', 'refused', 'unknown') AND seen_at IS NULL AND resent_as IS NULL"
)
"""Messages that wait for a person: a few of all. In these very words, so that a query is answered from their index."""

messages = Table(
    "message",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("direction", String(3), nullable=False),
    Column("mailbox_id", String(100), nullable=False),
    Column("message_id", String(100)),
    Column("local_id", String(300)),
    Column("state", String(20), nullable=False),
    Column("reason", Text),
    Column("error_kind", String(100)),
    Column("attempts", Integer, nullable=False, default=0),
    # Of these, the ones that failed for the message's own sake.
    Column("own_failures", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcTime),
    Column("message_type", String(20)),
    Column("workflow_id", String(300)),
    Column("sender", String(100)),
    Column("recipient", String(100)),
    Column("subject", String(500)),
    Column("file_name", String(300)),
    Column("bytes", BigInteger),
    Column("linked_message_id", String(100)),
    Column("status_event", String(100)),
    Column("status_code", String(100)),
    Column("status_description", Text),
    # Incoming: the destinations chosen for it. They stay, whatever the configuration says by the next attempt.
    Column("destinations", JSON),
    # Outgoing: the file, what it was like when it was found, how it is sent, and where it is after that.
    Column("source", Text),
    Column("stamp", String(200)),
    Column("options", JSON),
    Column("route", Integer),
    Column("archived_as", Text),
    # Whether its files are where they belong; an incoming message has none.
    Column("is_filed", Boolean, nullable=False),
    Column("resent_as", Id),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("stored_at", UtcTime),
    Column("accepted_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("next_track_at", UtcTime),
    Column("track_wait_in_seconds", Integer),
    Column("seen_at", UtcTime),
    # The lease: the process that works on it now. Nobody else begins it until that has let go of it, or was fenced.
    Column("owner", String(200)),
    # Outgoing: the machine in whose own folder the file lies; None if all can reach it.
    Column("node", String(200)),
    UniqueConstraint("direction", "mailbox_id", "message_id"),
    Index(None, "state", "next_attempt_at"),
    Index(None, "mailbox_id", "direction", "state"),
    Index(None, "created_at"),
    Index(None, "local_id"),
    Index(None, "linked_message_id"),
    Index(None, "message_id"),
    Index(None, "next_track_at"),
    Index(None, "is_filed", "mailbox_id"),
    # What the console searches by, newest first.
    Index(None, "mailbox_id", "created_at"),
    Index(None, "message_type", "created_at"),
    Index(None, "recipient", "created_at"),
    Index(None, "sender", "created_at"),
    Index(None, "state", "created_at"),
    Index(None, "workflow_id", "created_at"),
    Index(None, "owner"),
    Index(
        "ix_message_needs_person",
        "mailbox_id",
        "state",
        sqlite_where=NEEDS_PERSON,
        postgresql_where=NEEDS_PERSON,
    ),
)

copies = Table(
    "copy",
    metadata,
    Column("message", Id, ForeignKey("message.id", ondelete="CASCADE"), primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("location", Text),
    Column("bytes", BigInteger),
    Column("stored_at", UtcTime, nullable=False),
    Index(None, "destination", "stored_at"),
)
"""Where each incoming message lies; one row for each of its destinations that has it."""

transfers = Table(
    "transfer",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)
"""The records of unfinished sends, which `send_file` resumes by."""

nodes = Table(
    "node",
    metadata,
    Column("name", String(200), primary_key=True),
    # The number of its latest process: what an earlier one still writes is refused.
    Column("epoch", BigInteger, nullable=False),
    Column("place", String(400), nullable=False),
    Column("version", String(50), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    # When its work was given to others, or it said that it ended.
    Column("ended_at", UtcTime),
    Column("doing", JSON, nullable=False),
    Column("drained_at", UtcTime),
    Column("drained_by", String(200)),
    Column("drain_reason", Text),
    # The version of the configuration that it works by; None: that of its own file.
    Column("configuration", BigInteger),
)
"""The machines of a fleet, and what each does."""

configurations = Table(
    "configuration",
    metadata,
    Column("number", Id, primary_key=True, autoincrement=True),
    # As it was written, without what is each machine's own.
    Column("content", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("author", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # Of one that was brought back: which it was.
    Column("restores", BigInteger),
)
"""The versions of the configuration; the agents work by the newest. None is changed or removed."""

events = Table(
    "event",
    metadata,
    Column("number", Id, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(50), nullable=False),
    Column("mailbox_id", String(100)),
    Column("message", Id),
    Column("actor", String(200), nullable=False),
    Column("details", JSON, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "kind", "number"),
    Index(None, "message"),
    Index(None, "at"),
)
"""What happened, append-only. Each row's hash covers the one before, so that none can be changed or left out."""

chain = Table(
    "chain",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("last", String(64), nullable=False),
)
"""One row: the hash of the last event. It is locked while one is added, so that they form one chain."""

hook_calls = Table(
    "hook_call",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("event", String(50), nullable=False),
    Column("message", Id),
    Column("mailbox_id", String(100)),
    # Which hook: a digest of its kind and target, as the target can hold what is private.
    Column("hook", String(64), nullable=False),
    Column("idempotency_key", String(64), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcTime),
    Column("reason", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    UniqueConstraint("idempotency_key"),
    Index(None, "next_attempt_at"),
    Index(None, "done_at", "next_attempt_at"),
    Index(None, "message"),
)
"""Calls of hooks that are to be made, and were made."""

console_users = Table(
    "console_user",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("role", String(20), nullable=False),
    # Whether the person may see the content of messages: a right of its own.
    Column("sees_content", Boolean, nullable=False),
    Column("password", String(300), nullable=False),
    Column("totp_secret", String(100), nullable=False),
    # The time step of the last code that was used: none is used twice.
    Column("totp_step", BigInteger, nullable=False, default=0),
    Column("created_at", UtcTime, nullable=False),
    Column("last_login_at", UtcTime),
    Column("disabled_at", UtcTime),
)
"""The people who may use the console."""

console_sessions = Table(
    "console_session",
    metadata,
    # A digest of the cookie, so that who reads the ledger cannot take a session over.
    Column("digest", String(64), primary_key=True),
    Column("user", String(100), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Index(None, "user"),
)
"""The sessions of the console."""

console_attempts = Table(
    "console_attempt",
    metadata,
    # A digest of the name or the address that failed, known or not.
    Column("key", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", UtcTime, nullable=False),
    Column("locked_until", UtcTime),
)
"""Logins that failed, since the last that succeeded."""

console_selections = Table(
    "console_selection",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("user", String(100), nullable=False),
    # What a saved view is called; a search or a selection of the moment has no name.
    Column("name", String(100)),
    Column("content", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "user"),
    Index(None, "created_at"),
)
"""What people look for in the console: searches, saved views, and selections that an action is about.

They are kept here and not in addresses, as a recipient or a local id is not to be in one.
"""
