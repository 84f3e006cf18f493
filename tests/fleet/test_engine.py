"""The engine of a fleet, where its database is not there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

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


@contextlib.contextmanager
def served_engine(work: Callable[[Task], Any]) -> Iterator[tuple[PostgreSQL, Ledger, Engine]]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(skipped_if_missing())
        server = stack.enter_context(temporary_postgresql())
        url = stack.enter_context(server.database("fleet", "template1"))
        with Ledger(url) as ledger:
            engine = Engine(ledger.database, work)
            engine.make_tables()
            yield server, ledger, engine


def test_a_database_that_is_away_is_told_as_such_and_leaves_no_connection_behind() -> None:
    with served_engine(lambda task: None) as (server, ledger, engine):
        engine.defer([Task("visit", "X26ABC1")])
        ledger.database.close()
        assert asyncio.run(work_without_database(engine, server)) == 0


ABANDONED = """
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args, status, worker_id)
SELECT 'nel_mesh', 'nel_mesh.task', 'visit X26ABC1', '{"kind": "visit", "subject": "X26ABC1"}', 'doing', max(id)
FROM procrastinate_workers
"""
"""What a stop of the database leaves in the moment in which a worker says that a job has ended: the worker lives on."""


def test_a_job_that_a_living_worker_does_not_do_keeps_its_mailbox_from_nothing() -> None:
    begun, slow, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(task: Task) -> None:
        # One that takes long is no abandoned one.
        if task.subject == "SLOW":
            begun.set()
            await slow.wait()
        else:
            done.set()

    async def run(server: PostgreSQL, engine: Engine) -> list[str]:
        working = asyncio.create_task(engine.work(2))
        engine.defer([Task("visit", "SLOW")])
        with psycopg.connect(server.url("fleet"), autocommit=True) as connection:
            await begun.wait()
            connection.execute(ABANDONED)
            engine.defer([Task("visit", "X26ABC1")])
            async with asyncio.timeout(20):
                await done.wait()
            left = connection.execute("SELECT lock FROM procrastinate_jobs WHERE status = 'doing'").fetchall()
        slow.set()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return [str(lock) for (lock,) in left]

    with served_engine(work) as (server, _, engine):
        assert "visit SLOW" in asyncio.run(run(server, engine))
