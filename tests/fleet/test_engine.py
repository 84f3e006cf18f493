"""The engine of a fleet, where its database is not there."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from nel_mesh import StorageError
from nel_mesh.agent.runner import Task
from nel_mesh.fleet.engine import Engine
from nel_mesh.ledger.ledger import Ledger
from postgresql_server import PostgreSQL, temporary_postgresql
from stores import skipped_if_missing


def connections(server: PostgreSQL) -> int:
    with psycopg.connect(server.url("fleet")) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'fleet' AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def work_without_database(engine: Engine, server: PostgreSQL) -> int:
    """Look for jobs while there is no database; return how many connections are left once it is there again."""
    server.stop()
    with pytest.raises(StorageError, match="the jobs cannot be fetched: no connection within 8 s"):
        await engine.work(1)
    server.start()
    # Long enough for whatever would still try to connect.
    await asyncio.sleep(2)
    return connections(server)


def test_a_database_that_is_away_is_told_as_such_and_leaves_no_connection_behind() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(skipped_if_missing())
        server = stack.enter_context(temporary_postgresql())
        url = stack.enter_context(server.database("fleet", "template1"))
        with Ledger(url) as ledger:
            engine = Engine(ledger.database, work=lambda task: None)
            engine.make_tables()
            engine.defer([Task("visit", "X26ABC1")])
            ledger.database.close()
            assert asyncio.run(work_without_database(engine, server)) == 0
