"""The event loop in a thread that asyncssh runs in (stores/loop.py)."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from nel_mesh.stores import loop as stores_loop
from nel_mesh.stores.loop import LoopThread

FOREVER = 3600.0


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """Yield an event loop in a thread, and end it."""
    running = LoopThread()
    yield running
    running.close()


class Reader(asyncio.Protocol):
    """Counts how often it is told of what has arrived."""

    def __init__(self) -> None:
        self.content = b""
        self.times = 0
        self.enough = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        self.times += 1
        self.content += data
        if self.content.endswith(b"."):
            self.enough.set()


def reader_of(thread: LoopThread, side: socket.socket) -> Reader:
    """Return the reader of a socket in the event loop."""

    async def connect() -> Reader:
        _, reader = await asyncio.get_running_loop().create_connection(Reader, sock=side)
        return reader

    return thread.call(connect)


def test_what_arrives_while_nobody_waits_is_looked_at_together(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores_loop, "_GATHER_SECONDS", 0.5)
    near, far = socket.socketpair()
    with far:
        reader = reader_of(thread, near)
        for _ in range(30):
            far.send(b"x")
            time.sleep(0.005)
        far.send(b".")
        while not reader.content.endswith(b"."):
            time.sleep(0.01)
    assert reader.times < 10


@pytest.mark.parametrize("is_first", [True, False])
def test_a_caller_that_waits_is_told_at_once(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """Whether it begins to wait before or after something has arrived that another moment was given to."""
    monkeypatch.setattr(stores_loop, "_GATHER_SECONDS", FOREVER)
    near, far = socket.socketpair()
    with far:
        reader = reader_of(thread, near)
        call = thread.start(reader.enough.wait)
        if not is_first:
            far.send(b"x")
            time.sleep(0.2)
        threading.Timer(0.2, far.send, (b".",)).start()
        assert call.result()
        assert thread.call(asyncio.sleep, 0, "another call") == "another call"


def test_a_call_that_nobody_waits_for_starts_at_once(thread: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores_loop, "_GATHER_SECONDS", FOREVER)
    near, far = socket.socketpair()
    with far:
        reader_of(thread, near)
        far.send(b"x")
        time.sleep(0.2)
        started = threading.Event()

        async def start() -> None:
            started.set()

        thread.start(start)
        assert started.wait(20)


def test_a_call_has_begun_when_it_and_its_tasks_can_only_wait(thread: LoopThread) -> None:
    async def first(done: list[str], name: str, end: asyncio.Event) -> None:
        done.append(name)
        await end.wait()

    async def both(done: list[str], ends: list[asyncio.Event]) -> str:
        ends.append(asyncio.Event())
        await asyncio.gather(first(done, "one", ends[0]), first(done, "other", ends[0]))
        return "result"

    async def end(ends: list[asyncio.Event]) -> None:
        ends[0].set()

    for _ in range(100):
        done: list[str] = []
        ends: list[asyncio.Event] = []
        call = thread.start(both, done, ends)
        call.wait_begun()
        assert done == ["one", "other"]
        thread.call(end, ends)
        assert call.result() == "result"


def test_nobody_waits_for_a_loop_that_has_ended(thread: LoopThread) -> None:
    started = threading.Event()

    async def wait() -> None:
        started.set()
        await asyncio.sleep(FOREVER)

    call = thread.start(wait)
    assert started.wait(20)
    thread.close()
    call.wait_begun()
    with pytest.raises(asyncio.CancelledError):
        call.result()
