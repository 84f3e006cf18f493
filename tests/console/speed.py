"""How fast the console is over a ledger with many messages: `make speed`.

It makes a ledger with ROWS messages of a year, with events, copies and hook calls beside them, serves a console over
it, and asks for each page ROUNDS times over one connection. Medians and the worst, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from consoles import ALICE, Served, Visitor, served_console
from sqlalchemy import Connection, insert

from nel_mesh.ledger.schema import copies, events, hook_calls, messages
from nel_mesh.ledger.states import Direction, State

LIMIT_MILLISECONDS = 100.0
_BATCH = 5_000
_OPEN = ((State.QUARANTINED, 5), (State.RETRYING, 40), (State.LISTED, 20), (State.UNKNOWN, 3))


def rows_of(count: int, now: datetime) -> Iterator[dict[str, Any]]:
    """Give messages of a year, half of them sent, with a few of the newest in trouble."""
    step = timedelta(days=365) / count
    troubled = [state for state, number in _OPEN for _ in range(number)]
    for number in range(1, count + 1):
        left = count - number
        is_out = number % 2 == 0
        at = now - step * left
        state = State.COLLECTED if is_out else State.ACKNOWLEDGED
        if number % 500 == 0:
            state = State.UNDELIVERED
        if not is_out and left // 2 < len(troubled):
            state = troubled[left // 2]
        ended = state in (State.COLLECTED, State.ACKNOWLEDGED, State.UNDELIVERED)
        yield {
            "id": number,
            "direction": Direction.OUT if is_out else Direction.IN,
            "mailbox_id": f"X26AB{number % 40:02}",
            "message_id": f"2026{number:016}_{number % 0xFFFFFF:06X}",
            "local_id": f"local-{number}",
            "state": state,
            "reason": None if ended else f"made up, of {number % 3}",
            "attempts": 1,
            "own_failures": 0,
            "message_type": "REPORT" if number % 501 == 0 else "DATA",
            "workflow_id": f"WORKFLOW_{number % 97}" if number % 100_000 else "RARE_WORKFLOW",
            "sender": f"X26CD{number % 900:03}",
            "recipient": f"X26EF{number % 900:03}",
            "bytes": number,
            "is_filed": True,
            "created_at": at,
            "updated_at": at,
            "finished_at": at if ended else None,
            "accepted_at": at if is_out else None,
            # What was undelivered long ago has been seen to.
            "seen_at": at if state is State.UNDELIVERED and left > 5_000 else None,
        }


def fill(connection: Connection, count: int, now: datetime) -> None:
    """Insert the messages, two events for each, a copy of each received one, and some hook calls."""
    batch: list[dict[str, Any]] = []
    for row in rows_of(count, now):
        batch.append(row)
        if len(batch) == _BATCH or row["id"] == count:
            connection.execute(insert(messages), batch)
            said = {"actor": "agent", "details": {"state": "made up"}, "previous": "0" * 64, "hash": "1" * 64}
            connection.execute(
                insert(events),
                [
                    {"at": one["created_at"], "kind": kind, "mailbox_id": one["mailbox_id"], "message": one["id"]}
                    | said
                    for one in batch
                    for kind in ("begun", str(one["state"]))
                ],
            )
            connection.execute(
                insert(copies),
                [
                    {"message": one["id"], "destination": "/srv/mesh/in", "stored_at": one["created_at"], "bytes": 1}
                    for one in batch
                    if one["direction"] is Direction.IN
                ],
            )
            connection.execute(
                insert(hook_calls),
                [
                    {
                        "event": "stored",
                        "message": one["id"],
                        "mailbox_id": one["mailbox_id"],
                        "hook": "made up",
                        "idempotency_key": f"key-{one['id']}",
                        "payload": {},
                        "attempts": 1,
                        "created_at": one["created_at"],
                        "done_at": one["created_at"],
                    }
                    for one in batch[::2]
                ],
            )
            batch = []


_IN_POSTGRESQL = (
    """
    INSERT INTO message (id, direction, mailbox_id, message_id, local_id, state, reason, attempts, own_failures,
        message_type, workflow_id, sender, recipient, bytes, is_filed, created_at, updated_at, finished_at,
        accepted_at, seen_at)
    SELECT n, way, 'X26AB' || lpad((n % 40)::text, 2, '0'),
        '2026' || lpad(n::text, 16, '0') || '_' || lpad(upper(to_hex(n % 16777215)), 6, '0'), 'local-' || n, state,
        CASE WHEN state IN ('quarantined', 'retrying', 'listed', 'unknown') THEN 'made up, of ' || n % 3 END, 1, 0,
        CASE WHEN n % 501 = 0 THEN 'REPORT' ELSE 'DATA' END,
        CASE WHEN n % 100000 = 0 THEN 'RARE_WORKFLOW' ELSE 'WORKFLOW_' || n % 97 END,
        'X26CD' || lpad((n % 900)::text, 3, '0'), 'X26EF' || lpad((n % 900)::text, 3, '0'), n, true, at, at,
        CASE WHEN state IN ('collected', 'acknowledged', 'undelivered') THEN at END,
        CASE WHEN way = 'out' THEN at END,
        CASE WHEN state = 'undelivered' AND COUNT - n > 5000 THEN at END
    FROM (
        SELECT n, CASE WHEN n % 2 = 0 THEN 'out' ELSE 'in' END AS way,
            now() - (COUNT - n) * (interval '365 days' / COUNT) AS at,
            CASE
                WHEN n % 2 = 1 AND (COUNT - n) / 2 < 5 THEN 'quarantined'
                WHEN n % 2 = 1 AND (COUNT - n) / 2 < 45 THEN 'retrying'
                WHEN n % 2 = 1 AND (COUNT - n) / 2 < 65 THEN 'listed'
                WHEN n % 2 = 1 AND (COUNT - n) / 2 < 68 THEN 'unknown'
                WHEN n % 500 = 0 THEN 'undelivered'
                WHEN n % 2 = 0 THEN 'collected'
                ELSE 'acknowledged'
            END AS state
        FROM generate_series(1, COUNT) AS n
    ) AS made
    """,
    """
    INSERT INTO event (at, kind, mailbox_id, message, actor, details, previous, hash)
    SELECT created_at, kind, mailbox_id, id, 'agent', '{"state": "made up"}', repeat('0', 64), repeat('1', 64)
    FROM message, LATERAL (VALUES ('begun'), (state)) AS both_of (kind)
    """,
    """
    INSERT INTO copy (message, destination, stored_at, bytes)
    SELECT id, '/srv/mesh/in', created_at, 1 FROM message WHERE direction = 'in'
    """,
    """
    INSERT INTO hook_call (event, message, mailbox_id, hook, idempotency_key, payload, attempts, created_at, done_at)
    SELECT 'stored', id, mailbox_id, 'made up', 'key-' || id, '{}', 1, created_at, created_at
    FROM message WHERE id % 2 = 1
    """,
)
"""The same rows, made within PostgreSQL, where sending them would take most of the time."""


def fill_postgresql(connection: Connection, count: int) -> None:
    """Make the same rows in PostgreSQL: without the indices, which are made again afterwards."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    indices = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname LIKE 'ix_%'"
    found = list(connection.exec_driver_sql(indices.replace("%", "%%")))
    for name, _ in found:
        connection.exec_driver_sql(f"DROP INDEX {name}")
    for statement in _IN_POSTGRESQL:
        connection.exec_driver_sql(statement.replace("%", "%%").replace("COUNT", str(count)))
    for _, definition in found:
        connection.exec_driver_sql(definition)
    connection.exec_driver_sql("ANALYZE")


def measure(visitor: Visitor, rounds: int, count: int) -> dict[str, list[float]]:
    """Ask for each page; return the milliseconds of each."""
    places = {
        "first page": "/",
        "mailboxes": "/mailboxes",
        "messages": "/messages",
        "messages, the oldest page": "/messages?before=51",
        "messages of a mailbox": f"/messages?mailbox_id={ALICE}",
        "by state, few": "/messages?states=quarantined",
        "by state, many": "/messages?states=collected",
        "by mailbox, way and states": "/messages?mailbox_id=X26AB07&direction=in&states=retrying&states=listed",
        "by workflow": "/messages?workflow_id=WORKFLOW_13",
        "by rare workflow": "/messages?workflow_id=RARE_WORKFLOW",
        "by beginning of workflow, rare": "/messages?workflow_id=RARE*",
        "by beginning of workflow, none": "/messages?workflow_id=NOTHING*",
        "by beginning of workflow, many": "/messages?workflow_id=WORKFLOW_1*",
        "by time": f"/messages?since=2026-01-01&until={datetime.now(UTC) - timedelta(days=100):%Y-%m-%d}",
        "by workflow and mailbox, none": "/messages?workflow_id=WORKFLOW_13&mailbox_id=NOTHING",
        "one message": f"/messages/{count // 2}",
        "outgoing": "/outgoing",
        "reports": "/reports",
        "destinations": "/destinations",
        "nodes": "/nodes",
        "certificates": "/certificates",
        "audit": "/audit",
        "audit by kind": "/audit?kind=undelivered",
    }
    for name, fields in (
        ("by message id", {"identifier": f"2026{count // 3:016}_{(count // 3) % 0xFFFFFF:06X}"}),
        ("by local id", {"identifier": f"local-{count // 4}"}),
        ("by sender or recipient", {"party": "X26CD123"}),
        ("by sender or recipient, none", {"party": "NOBODY"}),
    ):
        places[name] = visitor.post("/messages/search", fields).headers["location"]
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, place in places.items():
            began = time.perf_counter()
            answer = visitor.get(place)
            found.setdefault(name, []).append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, (name, answer.text)
    return found


def run(served: Served, count: int, rounds: int) -> bool:
    """Fill the ledger and measure; print a table, and return whether every median is within the limit."""
    began = time.monotonic()
    with served.ledger.database.write() as connection:
        if connection.dialect.name == "postgresql":
            fill_postgresql(connection, count)
        else:
            fill(connection, count, served.clock.now())
    served.ledger.mailboxes.configure([f"X26AB{number:02}" for number in range(40)])
    print(f"{count:,} messages, {2 * count:,} events, made in {time.monotonic() - began:.0f} s")
    with served.visitor("administrator") as visitor:
        found = measure(visitor, rounds, count)
    print("| page | median | worst |\n| --- | ---: | ---: |")
    for name, times in found.items():
        print(f"| {name} | {statistics.median(times):.0f} ms | {max(times):.0f} ms |")
    slow = [name for name, times in found.items() if statistics.median(times) > LIMIT_MILLISECONDS]
    print(f"over {LIMIT_MILLISECONDS:.0f} ms: {', '.join(slow) or 'none'}")
    return not slow


def main() -> int:
    """Run by `make speed`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--database", help="URL of an empty database; default: SQLite")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="nel-mesh-console-") as name,
        served_console(Path(name), database=options.database) as served,
    ):
        return 0 if run(served, options.rows, options.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
