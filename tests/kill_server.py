"""Run transfers in processes of their own, each killed or interrupted at a chosen point; started again, they resume.

A point is the entry to, or the return from, one of the calls below: each place where something is written, sent or
named. This process imports the library once and forks a child for each job, so that a job takes milliseconds. Jobs come
as JSON lines on standard input; the result of each goes as a JSON line to standard output.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio

from nel_mesh import AsyncMeshClient, AsyncMessage, MeshClient, MeshSettings, open_destination
from nel_mesh.io.clock import AsyncClock, Clock

CALLS = {
    "write", "send", "sendall", "connect", "fsync", "replace", "rename", "link", "unlink", "truncate", "mkdir",
    "execute", "flock", "do_handshake", "shutdown",
}  # fmt: skip
SHORT_SECONDS = 0.1


class ShortClock(Clock):
    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, SHORT_SECONDS))


class AsyncShortClock(AsyncClock):
    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, SHORT_SECONDS))


class Killer:
    """Counts points, and sends a signal to the process at one of them."""

    def __init__(self, kill_at: int, number: int) -> None:
        self.points = 0
        self._kill_at = kill_at
        self._number = number
        self._lock = threading.Lock()

    def watch(self, frame: FrameType, event: str, function: Any) -> None:
        if event not in ("c_call", "c_return") or getattr(function, "__name__", "") not in CALLS:
            return
        with self._lock:
            self.points += 1
            if self.points == self._kill_at:
                # Two trials stood still in a profiled thread that was busy and came no further, while the main thread
                # had the signal to handle (CPython 3.11).
                sys.setprofile(None)
                os.kill(os.getpid(), self._number)

    def start(self) -> None:
        if not self._kill_at:
            return  # watching makes everything several times slower
        start_new_thread = _thread.start_new_thread

        def watched(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
            def run(*given: Any) -> None:
                sys.setprofile(self.watch)
                function(*given)

            return start_new_thread(run, arguments)

        # The library's own threads are not of the `threading` module, whose hook below serves those of anyio.
        _thread.start_new_thread = watched  # type: ignore[assignment]
        threading.setprofile(self.watch)
        sys.setprofile(self.watch)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)


def keep(folder: str, message_id: str, content: bytes) -> None:
    """Store content as an idempotent handler does: under the message id, durably, replacing what is there."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{message_id}-{os.getpid()}-{threading.get_ident()}"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place / message_id)


def receive(mesh: MeshClient, job: dict[str, Any]) -> None:
    folder, journal = job["folder"], f"{job['folder']}.journal"
    if job["form"] == "iterator":
        for message in mesh.iter_messages(journal=journal):
            keep(folder, message.metadata.message_id, message.read())
        return
    destination: Any = folder
    if job["form"] == "handler":
        destination = lambda message: keep(folder, message.metadata.message_id, message.read())  # noqa: E731
    given = None if job["form"] == "folder" else journal
    mesh.receive_messages(destination, concurrency=job["concurrency"], journal=given).raise_for_failed()


async def receive_async(mesh: AsyncMeshClient, job: dict[str, Any]) -> None:
    folder, journal = job["folder"], f"{job['folder']}.journal"
    if job["form"] == "iterator":
        async for message in mesh.iter_messages(journal=journal):
            keep(folder, message.metadata.message_id, await message.read())
        return

    async def handle(message: AsyncMessage) -> None:
        keep(folder, message.metadata.message_id, await message.read())

    destination: Any = handle if job["form"] == "handler" else folder
    given = None if job["form"] == "folder" else journal
    result = await mesh.receive_messages(destination, concurrency=job["concurrency"], journal=given)
    result.raise_for_failed()


def transfer(job: dict[str, Any], killer: Killer) -> None:
    settings = MeshSettings.from_file(
        job["settings"], max_chunk_size_in_megabytes=job["megabytes"], chunks_at_once=job["at_once"]
    )
    send = {"to": "X26ABC2", "workflow_id": "WF", "compress": job["compress"], "resume": job.get("record")}
    if job["variant"] == "sync":
        with MeshClient(settings, clock=ShortClock()) as mesh:
            killer.start()
            if job["operation"] == "send":
                mesh.send_file(job["path"], **send)
            else:
                receive(mesh, job)
            killer.stop()
        return

    async def run() -> None:
        async with AsyncMeshClient(settings, clock=AsyncShortClock()) as mesh:
            killer.start()
            if job["operation"] == "send":
                await mesh.send_file(job["path"], **send)
            else:
                await receive_async(mesh, job)
            killer.stop()

    anyio.run(run, backend=job["variant"])


def main() -> None:
    imported: set[str] = set()
    for line in sys.stdin:
        job = json.loads(line)
        os.environ.clear()
        os.environ.update(job["environment"])
        scheme, is_store, _ = job.get("folder", "").partition("://")
        if is_store and scheme not in imported:
            # The store's library is imported once, and not in each child.
            open_destination(job["folder"]).close()
            imported.add(scheme)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 1
            try:
                # A shell starts what it runs in the background with SIGINT ignored.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                killer = Killer(job["kill_at"], job.get("signal", signal.SIGKILL))
                transfer(job, killer)
                os.write(writing, str(killer.points).encode())
                code = 0
            except BaseException as error:  # noqa: BLE001 - reported to the parent, whatever it is
                os.write(writing, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        done = not killed and os.WEXITSTATUS(status) == 0
        # An interrupt that came after the transfer was done, or between two points, changes nothing.
        killed = killed or (not done and said.startswith(("KeyboardInterrupt", "CancelledError")))
        print(json.dumps({"killed": killed, "done": done, "said": said}), flush=True)


if __name__ == "__main__":
    main()
