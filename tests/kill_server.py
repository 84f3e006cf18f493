"""Runs transfers in processes of their own, each killed with SIGKILL at a chosen point; started again, they go on.

A point is the entry to, or the return from, one of the calls below: each place where something is written, sent or
named. This process imports the library once and forks a child for each job, so that a job takes milliseconds. Jobs come
as JSON lines on standard input; what became of each goes as a JSON line to standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import anyio

from nel_mesh import AsyncMeshClient, MeshClient, MeshSettings
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
    """Counts points, and ends the process at one of them as `kill -9` does."""

    def __init__(self, kill_at: int) -> None:
        self.points = 0
        self._kill_at = kill_at
        self._lock = threading.Lock()

    def watch(self, frame: FrameType, event: str, function: Any) -> None:
        if event not in ("c_call", "c_return") or getattr(function, "__name__", "") not in CALLS:
            return
        with self._lock:
            self.points += 1
            if self.points == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def start(self) -> None:
        threading.setprofile(self.watch)
        sys.setprofile(self.watch)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)


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
                check(mesh.receive_messages(job["folder"]))
            killer.stop()
        return

    async def run() -> None:
        async with AsyncMeshClient(settings, clock=AsyncShortClock()) as mesh:
            killer.start()
            if job["operation"] == "send":
                await mesh.send_file(job["path"], **send)
            else:
                check(await mesh.receive_messages(job["folder"]))
            killer.stop()

    anyio.run(run, backend=job["variant"])


def check(result: Any) -> None:
    if result.failed:
        raise result.failed[0].error


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 1
            try:
                killer = Killer(job["kill_at"])
                transfer(job, killer)
                os.write(writing, str(killer.points).encode())
                code = 0
            except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
                os.write(writing, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        done = not killed and os.WEXITSTATUS(status) == 0
        print(json.dumps({"killed": killed, "done": done, "said": said}), flush=True)


if __name__ == "__main__":
    main()
