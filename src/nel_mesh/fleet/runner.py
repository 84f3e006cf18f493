"""The runner of a fleet: tasks that any machine can do go through the engine, the others stay in this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from nel_mesh.agent.runner import Do, Task, ThreadRunner
from nel_mesh.errors import MeshError
from nel_mesh.fleet.engine import Engine
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.database import Database

logger = logging.getLogger("nel_mesh.agent")

_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 1.0


class FleetRunner:
    """Does tasks together with the other machines that have the same database.

    Args:
        database: the ledger's.
        workers: how many tasks of the fleet this process does at once.
        clock: where time comes from.
        do: does a task.
        on_error: called with the key of a task, and the error that it raised.
        is_drained: whether this process is to begin nothing.
    """

    def __init__(
        self,
        database: Database,
        workers: int,
        clock: Clock,
        do: Do,
        on_error: Callable[[str, Exception], object],
        *,
        is_drained: Callable[[], bool],
    ) -> None:
        self._engine = Engine(database, self._work)
        self._workers = workers
        self._clock = clock
        self._do = do
        self._on_error = on_error
        self._is_drained = is_drained
        self._local = ThreadRunner(workers, clock, do, self._on_error)
        # A task can go on after the engine has lost its database, beside those of its next worker.
        self._threads = ThreadPoolExecutor(2 * workers, thread_name_prefix="fleet")
        self._running: dict[str, datetime] = {}
        self._guard = threading.Lock()

    def enqueue(self, tasks: Iterable[Task]) -> None:
        """Have tasks done soon, each by any machine, but for those that only this one can do."""
        tasks = list(tasks)
        self._local.enqueue(task for task in tasks if task.is_local)
        self._engine.defer(task for task in tasks if not task.is_local)

    def every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do short work again and again, in the thread of `run`."""

        said = ""

        def watched() -> None:
            nonlocal said
            try:
                work()
            except MeshError as error:
                # A lost database fails it each second: that is told once.
                if str(error) != said:
                    said = str(error)
                    raise
            else:
                said = ""

        self._local.every(seconds, watched)

    def wake(self) -> None:
        """Do what is repeated now, not at its time."""
        self._local.wake()

    def running(self) -> dict[str, datetime]:
        """Return the keys of the tasks that run in this process, and since when."""
        with self._guard:
            return {**self._local.running(), **self._running}

    def run(self, is_over: Callable[[], bool]) -> None:
        """Work until it is over, then wait for what is running."""
        self._engine.make_tables()
        thread = threading.Thread(target=lambda: asyncio.run(self._fetch(is_over)), name="engine", daemon=True)
        thread.start()
        try:
            self._local.run(is_over)
        finally:
            thread.join()
            self._threads.shutdown(wait=True)

    async def _fetch(self, is_over: Callable[[], bool]) -> None:
        """Have the engine work, and begin again whenever it has lost its database."""
        is_lost = False
        while not is_over():
            if self._is_drained():
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            work = asyncio.create_task(self._engine.work(self._workers))
            began = self._clock.monotonic()
            while not (work.done() or is_over() or self._is_drained()):
                await asyncio.wait([work], timeout=_LOOK_SECONDS)
                if is_lost and self._clock.monotonic() - began > 2 * _RETRY_SECONDS:
                    logger.info("Jobs are fetched again")
                    is_lost = False
            work.cancel()
            try:
                await work
            except asyncio.CancelledError:
                continue
            except MeshError as error:
                if not is_lost:
                    logger.warning("%s; it is tried again", error)
            except Exception as error:  # noqa: BLE001 - without the engine this process would do nothing, and not say so
                self._on_error("fetching jobs", error)
            is_lost = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def _work(self, task: Task) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._do_task, task)

    def _do_task(self, task: Task) -> None:
        with self._guard:
            if task.key in self._running:
                # It was begun for a worker before this one, which lost its database.
                return
            self._running[task.key] = self._clock.now()
        try:
            self._do(task)
        except Exception as error:  # noqa: BLE001 - one mailbox's bug must not stop the others
            self._on_error(task.key, error)
        finally:
            with self._guard:
                self._running.pop(task.key, None)
