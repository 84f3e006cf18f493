"""The service: a receive loop in the background, and its results over HTTP."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response

from nel_mesh import AsyncMeshClient, AsyncMessage, MeshError, MeshSettings, Report
from results_service.database import Database, Row

WORKFLOW_ID = "PATH_RESULTS"
POLL_SECONDS = float(os.environ.get("RESULTS_POLL_SECONDS", "300"))  # MESH asks for 5 minutes or more
STOP_SECONDS = float(os.environ.get("RESULTS_STOP_SECONDS", "10"))
HANDSHAKE_EVERY = timedelta(hours=24)

logger = logging.getLogger("results_service")


class Receiver:
    """Polls the inbox until it is told to stop."""

    def __init__(self, mesh: AsyncMeshClient, database: Database) -> None:
        self._mesh = mesh
        self._database = database
        self._handshake: datetime | None = None
        self.last_poll: datetime | None = None

    async def run(self, stopping: anyio.Event) -> None:
        """Receive until `stopping` is set; finish the current message first."""
        while not stopping.is_set():
            try:
                await self._poll(stopping)
            except MeshError as error:
                logger.warning("retry in %s s: %s", POLL_SECONDS, error)
            with anyio.move_on_after(POLL_SECONDS):
                await stopping.wait()

    async def _poll(self, stopping: anyio.Event) -> None:
        now = datetime.now(UTC)
        if self._handshake is None or now >= self._handshake + HANDSHAKE_EVERY:
            await self._mesh.handshake()
            self._handshake = now
        result = await self._mesh.receive_messages(
            self._store, on_report=self._store_report, workflow_filter=WORKFLOW_ID, stop=stopping.is_set
        )
        for failed in result.failed:
            logger.error("message %s stays in the inbox: %s", failed.message_id, failed.error)
        if result.error is not None:
            raise result.error
        self.last_poll = now

    async def _store(self, message: AsyncMessage) -> None:
        """Store a message, which is acknowledged after this returns; until then it can be delivered again."""
        content = await message.read()
        metadata = message.metadata
        await anyio.to_thread.run_sync(self._database.store, metadata.message_id, metadata.sender, content)

    async def _store_report(self, report: Report) -> None:
        """Store a report as it came, for a person to look at."""
        content = report.model_dump_json(exclude_none=True).encode()
        await anyio.to_thread.run_sync(self._database.store, report.message_id, report.sender, content)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the loop with the application; at shutdown, end it between two messages or after STOP_SECONDS."""
    database = Database(Path(os.environ.get("RESULTS_DATABASE", "results.sqlite")))
    stopping = anyio.Event()
    async with AsyncMeshClient(MeshSettings()) as mesh, anyio.create_task_group() as tasks:
        receiver = Receiver(mesh, database)
        tasks.start_soon(receiver.run, stopping)
        app.state.database, app.state.receiver = database, receiver
        yield
        stopping.set()
        # A message that is cancelled then is not lost: it was not acknowledged.
        tasks.cancel_scope.deadline = anyio.current_time() + STOP_SECONDS


app = FastAPI(title="Results", lifespan=lifespan)


@app.get("/results")
def results(request: Request) -> list[Row]:
    """List every result."""
    database: Database = request.app.state.database
    return database.results()


@app.get("/unreadable")
def unreadable(request: Request) -> list[Row]:
    """List the messages that a person must look at; the database has their content."""
    database: Database = request.app.state.database
    return database.unreadable()


@app.get("/health")
def health(request: Request, response: Response) -> dict[str, datetime | None]:
    """Return the time of the last poll; 503 if one is overdue."""
    receiver: Receiver = request.app.state.receiver
    last_poll = receiver.last_poll
    if last_poll is None or datetime.now(UTC) - last_poll > timedelta(seconds=3 * POLL_SECONDS + 60):
        response.status_code = 503
    return {"last_poll": last_poll}
