"""procrastinate, as far as a fleet needs it: jobs in the ledger's database, and a worker that fetches them.

A job is a task by its names; its lock and its queueing lock are the task's key, so that one runs and one waits. What a
task has done is in the ledger, so a job carries nothing else, and one that is lost is simply made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Set
from typing import Any

import procrastinate
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job, Status
from procrastinate.schema import SchemaManager
from procrastinate.worker import Worker
from sqlalchemy import Connection

from nel_mesh.agent.runner import Task
from nel_mesh.errors import StorageError
from nel_mesh.ledger.database import Database

QUEUE = "nel_mesh"
HEARTBEAT_SECONDS = 2.0
STALLED_SECONDS = 10.0
_FORGOTTEN_SECONDS = 120.0
"""After so long a worker's row is removed. Earlier, after a while without database, live ones would lose theirs."""

_TASK = "nel_mesh.task"
_SCHEMA_LOCK = 1852140654
_TICK_LOCK = 1852140655
_WAITING = "SELECT queueing_lock FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = 'nel_mesh'"
_POLL_SECONDS = 5.0
_OPEN_SECONDS = 8.0
"""After so long without a first connection the database is away. One that is slow has 5 s to answer."""
_AT_ONCE = 1000


class Engine:
    """The jobs of a fleet.

    Args:
        database: the ledger's.
        work: does a task, in a thread; awaited.
    """

    def __init__(self, database: Database, work: Callable[[Task], Any]) -> None:
        self._database = database
        self._work = work
        # It logs each step of each job, and failures with their traceback; what matters of them is said here.
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)

    def make_tables(self) -> None:
        """Make the tables of the jobs, if they are not there. Raises StorageError."""
        with self._database.write() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
            if connection.exec_driver_sql("SELECT to_regclass('procrastinate_jobs')").scalar_one() is None:
                _raw(connection).execute(SchemaManager.get_schema())

    def defer(self, tasks: Iterable[Task]) -> int:
        """Have tasks done by any machine of the fleet, but for those that wait already; return how many those are.

        One machine does so at a time; what another leaves out, its next call finds.
        """
        wanted = {task.key: task for task in tasks}
        if not wanted:
            return 0
        with self._database.write() as connection:
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_TICK_LOCK})").scalar_one():
                return 0
            waiting = set(connection.exec_driver_sql(_WAITING).scalars())
            jobs = [_job(task) for key, task in wanted.items() if key not in waiting][:_AT_ONCE]
            if jobs:
                manager = procrastinate.App(connector=procrastinate.SyncPsycopgConnector()).job_manager
                try:
                    manager.batch_defer_jobs(jobs, connection=_raw(connection))
                except ConnectorException as error:
                    raise StorageError(f"{self._database.place}: jobs cannot be added: {_reason(error)}") from None
        return len(jobs)

    async def work(self, concurrency: int) -> None:
        """Fetch jobs and do them, until this is cancelled.

        Raises:
            StorageError: the database was lost. Tasks that run go on in their threads.
        """
        connector = procrastinate.PsycopgConnector(
            conninfo=self._database.connection_text(),
            min_size=1,
            max_size=4,
            timeout=_POLL_SECONDS,
            reconnect_timeout=_POLL_SECONDS,
        )
        app = procrastinate.App(connector=connector)

        running: set[int | None] = set()

        async def do(context: JobContext, kind: str, subject: str) -> None:
            running.add(context.job.id)
            try:
                await self._work(Task(kind, subject))
            finally:
                running.discard(context.job.id)

        app.task(name=_TASK, queue=QUEUE, pass_context=True)(do)
        worker = Worker(
            app,
            queues=[QUEUE],
            concurrency=concurrency,
            install_signal_handlers=False,
            delete_jobs="always",
            fetch_job_polling_interval=_POLL_SECONDS,
            abort_job_polling_interval=60.0,
            update_heartbeat_interval=HEARTBEAT_SECONDS,
            stalled_worker_timeout=_FORGOTTEN_SECONDS,
            # Tasks go on in their threads.
            shutdown_graceful_timeout=0.0,
        )
        asyncio.get_running_loop().set_exception_handler(_not_told)
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(app.close_async)
                # The pool would wait for its first connection for half a minute, and try ever more rarely.
                try:
                    async with asyncio.timeout(_OPEN_SECONDS):
                        await app.open_async()
                except TimeoutError:
                    text = f"the jobs cannot be fetched: no connection within {_OPEN_SECONDS:.0f} s"
                    raise StorageError(f"{self._database.place}: {text}") from None
                rescue = asyncio.create_task(self._remove_abandoned(worker, running))
                stack.callback(rescue.cancel)
                await worker.run()  # type: ignore[no-untyped-call] # procrastinate has not annotated it
        except (ConnectorException, OSError, TimeoutError) as error:
            raise StorageError(f"{self._database.place}: the jobs cannot be fetched: {_reason(error)}") from None
        # A side task of the worker failed, which ends it without an error.
        raise StorageError(f"{self._database.place}: the jobs cannot be fetched: the connection was lost")

    async def _remove_abandoned(self, worker: Worker, running: Set[int | None]) -> None:
        """Remove the jobs that nobody does any more. What is still to be done is deferred again.

        They are those of workers that are gone, and those of this one that it does not do: the database was lost for a
        moment in which it said that a job has ended, or was given one. Such a job would keep its mailbox from ever
        being visited, as this worker's heartbeats go on.

        They are not run again as they are: a worker that was only frozen would then end the job that another one runs.
        Twice the same task does no harm: the ledger lets one process visit a mailbox, and one have a message.
        """
        manager = worker.app.job_manager
        left: set[int | None] = set()
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                stalled = await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_SECONDS)
                abandoned = {job.id for job in stalled}
                if worker.worker_id is not None:
                    doing = await manager.list_jobs_async(status=Status.DOING.value, worker_id=worker.worker_id)
                    # At one look, a job can be about to begin, or to be said to have ended.
                    before, left = left, {job.id for job in doing} - running
                    abandoned |= before & left
                for number in abandoned:
                    if number is not None:
                        await manager.finish_job_by_id_async(number, Status.ABORTED, delete_job=True)
            except ConnectorException:
                # Another machine was quicker, or the database is gone: then the worker notices it too.
                continue


def _not_told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Pass over what nobody awaits: the end of a job that was removed meanwhile, or whose database is away."""
    if not isinstance(context.get("exception"), ConnectorException):
        loop.default_exception_handler(context)


def _job(task: Task) -> Job:
    arguments: dict[str, Any] = {"kind": task.kind, "subject": task.subject}
    return Job(queue=QUEUE, lock=task.key, queueing_lock=task.key, task_name=_TASK, task_kwargs=arguments)


def _raw(connection: Connection) -> Any:
    """The driver's own connection, in whose transaction this one is."""
    return connection.connection.driver_connection


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
