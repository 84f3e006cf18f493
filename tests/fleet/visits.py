"""Which process visits which mailbox when, and whether two visits overlap.

Triggers in the ledger's database note each beginning and end, by the database's clock; the agents know nothing of them.
The sandbox notes each request, with the process that made it: each says its name as the version of its client.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from nel_mesh.sandbox import Sandbox
from nel_mesh.sandbox.request import RequestSeen

_TABLE = """
CREATE TABLE visit_log (
    number bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    what text NOT NULL, subject text NOT NULL, owner text NOT NULL, late_seconds double precision
)
"""
_TRIGGERS = """
CREATE FUNCTION log_visit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.epoch <> OLD.epoch THEN
        INSERT INTO visit_log (what, subject, owner, late_seconds)
        VALUES ('begin', NEW.mailbox_id, NEW.owner, extract(epoch FROM clock_timestamp() - OLD.next_visit_at));
    ELSIF OLD.owner IS NOT NULL AND NEW.owner IS NULL THEN
        INSERT INTO visit_log (what, subject, owner) VALUES ('end', NEW.mailbox_id, OLD.owner);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER log_visit AFTER UPDATE ON mailbox FOR EACH ROW EXECUTE FUNCTION log_visit();
CREATE FUNCTION log_node() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.ended_at IS NOT NULL THEN
        INSERT INTO visit_log (what, subject, owner) VALUES ('lost', NEW.name, NEW.name || '#' || NEW.epoch);
    ELSIF TG_OP = 'INSERT' OR NEW.epoch <> OLD.epoch THEN
        INSERT INTO visit_log (what, subject, owner) VALUES ('start', NEW.name, NEW.name || '#' || NEW.epoch);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER log_node AFTER INSERT OR UPDATE ON node FOR EACH ROW EXECUTE FUNCTION log_node();
"""
_SQLITE = """
CREATE TABLE visit_log (
    number integer PRIMARY KEY, at text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    what text NOT NULL, subject text NOT NULL, owner text NOT NULL, late_seconds real
);
CREATE TRIGGER log_begin AFTER UPDATE ON mailbox WHEN NEW.epoch <> OLD.epoch BEGIN
    INSERT INTO visit_log (what, subject, owner, late_seconds) VALUES ('begin', NEW.mailbox_id, NEW.owner,
        86400 * (julianday('now') - julianday(OLD.next_visit_at)) + 0.001);
END;
CREATE TRIGGER log_end AFTER UPDATE ON mailbox
WHEN NEW.epoch = OLD.epoch AND OLD.owner IS NOT NULL AND NEW.owner IS NULL BEGIN
    INSERT INTO visit_log (what, subject, owner) VALUES ('end', NEW.mailbox_id, OLD.owner);
END;
CREATE TRIGGER log_lost AFTER UPDATE ON node WHEN NEW.ended_at IS NOT NULL BEGIN
    INSERT INTO visit_log (what, subject, owner) VALUES ('lost', NEW.name, NEW.name || '#' || NEW.epoch);
END;
CREATE TRIGGER log_start AFTER UPDATE ON node WHEN NEW.ended_at IS NULL AND NEW.epoch <> OLD.epoch BEGIN
    INSERT INTO visit_log (what, subject, owner) VALUES ('start', NEW.name, NEW.name || '#' || NEW.epoch);
END;
CREATE TRIGGER log_first AFTER INSERT ON node BEGIN
    INSERT INTO visit_log (what, subject, owner) VALUES ('start', NEW.name, NEW.name || '#' || NEW.epoch);
END;
"""
"""The same for SQLite, whose clock shows thousandths of a second."""
_READ = "SELECT at, what, subject, owner, coalesce(late_seconds, 0) >= 0 FROM visit_log ORDER BY number"

READS = frozenset({"list_messages", "retrieve_message", "retrieve_chunk", "retrieve_metadata"})
WRITES = frozenset({"acknowledge_message", "send_message", "send_chunk"})
_OF_A_VISIT = READS | {"acknowledge_message"}


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A visit that begins or ends, or a process that starts or whose work is given to others.

    Attributes:
        at: when.
        what: begin, end, start or lost.
        subject: the mailbox, or the node.
        owner: the process: its node and number.
        is_due: of `begin`: whether the mailbox was due.
    """

    at: datetime
    what: str
    subject: str
    owner: str
    is_due: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request that MESH got.

    Attributes:
        at: when.
        operation: which.
        mailbox_id: of which mailbox.
        node: the node that made it.
    """

    at: datetime
    operation: str
    mailbox_id: str
    node: str


@dataclasses.dataclass(slots=True)
class Findings:
    """What is found.

    Attributes:
        visits: how many visits began.
        overlapping: visits that began before the one before had ended, and requests of a visit that a process made in
            the middle of another one's, while the ledger still let it write.
        early: visits of a mailbox that was not due.
        late_reads: requests of a process whose work was given to others before, that change nothing.
        late_acknowledgements: the same, acknowledging. What is acknowledged was recorded before.
        late_sends: the same, sending.
    """

    visits: int = 0
    overlapping: int = 0
    early: int = 0
    late_reads: int = 0
    late_acknowledgements: int = 0
    late_sends: int = 0


def judge(steps: Iterable[Step], requests: Iterable[Request]) -> Findings:
    """Go through what happened in the order of time."""
    found = Findings()
    visiting: dict[str, str] = {}
    lost: set[str] = set()
    both: list[Step | Request] = [*steps, *requests]
    for one in sorted(both, key=lambda one: one.at):
        if isinstance(one, Request):
            if one.node in lost:
                found.late_reads += one.operation in READS
                found.late_acknowledgements += one.operation == "acknowledge_message"
                found.late_sends += one.operation in ("send_message", "send_chunk")
            elif one.operation in _OF_A_VISIT:
                owner = visiting.get(one.mailbox_id)
                found.overlapping += owner is not None and owner.partition("#")[0] != one.node
            continue
        match one.what:
            case "begin":
                found.visits += 1
                # Its own visit before it could not note its end.
                found.overlapping += visiting.get(one.subject, one.owner) != one.owner
                found.early += not one.is_due
                visiting[one.subject] = one.owner
            case "end":
                visiting.pop(one.subject, None)
            case "lost":
                lost.add(one.subject)
            case _:
                lost.discard(one.subject)
    return found


def watch_visits(ledger: str | Path) -> None:
    """Have the database of a ledger note its visits: its URL, or its file."""
    if isinstance(ledger, Path):
        with contextlib.closing(sqlite3.connect(ledger)) as file:
            file.executescript(_SQLITE)
        return
    with psycopg.connect(ledger, autocommit=True) as connection:
        connection.execute(_TABLE)
        connection.execute(_TRIGGERS.encode())


def steps_of(ledger: str | Path) -> list[Step]:
    """Read what the database has noted."""
    if isinstance(ledger, Path):
        with contextlib.closing(sqlite3.connect(ledger)) as file:
            found = file.execute(_READ).fetchall()
        return [Step(datetime.fromisoformat(at).replace(tzinfo=UTC), *rest) for at, *rest in found]
    with psycopg.connect(ledger) as connection:
        rows = connection.execute(_READ.encode()).fetchall()
    return [Step(at.astimezone(UTC), *rest) for at, *rest in rows]


class Requests(threading.Thread):
    """Keeps the requests that the sandbox got, of which it remembers only the last ones itself."""

    def __init__(self, server: Sandbox) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._over = threading.Event()
        self._found: dict[str, Request] = {}

    def run(self) -> None:
        while not self._over.wait(0.5):
            self._keep(self._server.requests())

    def close(self) -> list[Request]:
        """Stop; return the requests."""
        self._over.set()
        self.join()
        self._keep(self._server.requests())
        return list(self._found.values())

    def _keep(self, seen: Iterable[RequestSeen]) -> None:
        for one in seen:
            # A token is made for each request.
            if one.token is not None and one.token not in self._found:
                node = one.headers.get("mex-clientversion", "")
                self._found[one.token] = Request(one.at.astimezone(UTC), one.operation or "", one.mailbox_id, node)
