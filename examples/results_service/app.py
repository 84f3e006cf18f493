"""The service: a receive loop in the background, and what it received over HTTP."""

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

from nel_mesh import AsyncMeshClient, AsyncMessage, MeshError, MeshSettings
from results_service.database import Database, Row

WORKFLOW_ID = "PATH_RESULTS"
POLL_SECONDS = float(os.environ.get("RESULTS_POLL_SECONDS", "300"))  # MESH asks for 5 minutes or more
STOP_SECONDS = float(os.environ.get("RESULTS_STOP_SECONDS", "10"))
HANDSHAKE_EVERY = timedelta(hours=24)

logger = logging.getLogger("results_service")


class Receiver:
    """Goes through the inbox again and again, until it is told to stop."""

    def __init__(self, mesh: AsyncMeshClient, database: Database) -> None:
        self._mesh = mesh
        self._database = database
        self._handshake: datetime | None = None
        self.last_round: datetime | None = None

    async def run(self, stopping: anyio.Event) -> None:
        """Receives until `stopping` is set; a message under way is finished first."""
        while not stopping.is_set():
            try:
                await self._round(stopping)
            except MeshError as error:
                logger.warning("trying again in %s s: %s", POLL_SECONDS, error)
            with anyio.move_on_after(POLL_SECONDS):
                await stopping.wait()

    async def _round(self, stopping: anyio.Event) -> None:
        now = datetime.now(UTC)
        if self._handshake is None or now >= self._handshake + HANDSHAKE_EVERY:
            await self._mesh.handshake()
            self._handshake = now
        collection = await self._mesh.receive_messages(self._store, workflow_filter=WORKFLOW_ID, stop=stopping.is_set)
        for failed in collection.failed:
            logger.error("message %s stays in the inbox: %s", failed.message_id, type(failed.error).__name__)
        self.last_round = now

    async def _store(self, message: AsyncMessage) -> None:
        """Once this has returned, the message is acknowledged; before that, it can come again at any time."""
        content = await message.read()
        metadata = message.metadata
        await anyio.to_thread.run_sync(self._database.store, metadata.message_id, metadata.sender, content)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Starts the loop with the application, and ends it between two messages, if that does not take too long."""
    database = Database(Path(os.environ.get("RESULTS_DATABASE", "results.sqlite")))
    stopping = anyio.Event()
    async with AsyncMeshClient(MeshSettings()) as mesh, anyio.create_task_group() as tasks:
        receiver = Receiver(mesh, database)
        tasks.start_soon(receiver.run, stopping)
        app.state.database, app.state.receiver = database, receiver
        yield
        stopping.set()
        # What is broken off after that, such as a long wait for a busy MESH, loses nothing: it was not acknowledged.
        tasks.cancel_scope.deadline = anyio.current_time() + STOP_SECONDS


app = FastAPI(title="Results", lifespan=lifespan)


@app.get("/results")
def results(request: Request) -> list[Row]:
    """Every result that was received."""
    database: Database = request.app.state.database
    return database.results()


@app.get("/unreadable")
def unreadable(request: Request) -> list[Row]:
    """Messages that a person must look at; they are in the database as they came."""
    database: Database = request.app.state.database
    return database.unreadable()


@app.get("/health")
def health(request: Request, response: Response) -> dict[str, datetime | None]:
    """When the inbox was last gone through; 503 if it should have been since."""
    receiver: Receiver = request.app.state.receiver
    last_round = receiver.last_round
    if last_round is None or datetime.now(UTC) - last_round > timedelta(seconds=3 * POLL_SECONDS + 60):
        response.status_code = 503
    return {"last_round": last_round}
