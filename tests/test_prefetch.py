"""Chunks that come before their turn: several at once, the same file as one after another, and never a risk."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import errno
import gc
import gzip
import hashlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from nel_mesh import (
    AsyncMeshClient,
    IntegrityError,
    MeshClient,
    MeshError,
    Outcome,
    ReceiveProgress,
    Report,
    SendProgress,
    SourceError,
    StorageError,
)
from nel_mesh._async.prefetch import ConnectionBudget
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.buffers import PrefetchBuffer
from scripted_server import ScriptedServer, Seen, Step, raw_answer
from variants import AsyncTestClock, Connector, TestClock, settings_for

MEX = {"Mex-MessageID": "M1", "Mex-From": "X26ABC2", "Mex-WorkflowID": "WF", "Mex-MessageType": "DATA"}
Serve = Callable[..., ScriptedServer]
SECONDS = 20


def contents(*lengths: int) -> list[bytes]:
    return [random.Random(k).randbytes(length) for k, length in enumerate(lengths)]


class Served:
    """Serves one message's chunks, each by its number, in whatever order they are asked for.

    Attributes:
        asked: the numbers, as they were asked for; 0 for a HEAD.
        instead: for a chunk, what to answer first, one after another, before it is served as it should be.
        together: so many requests are waited for before chunks after the first are served.
    """

    def __init__(self, pieces: list[bytes], **headers: str) -> None:
        self.pieces = pieces
        self.data = b"".join(pieces)
        self.headers = {**MEX, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.asked: list[int] = []
        self.instead: dict[int, list[Step | Callable[[Step], Step]]] = {}
        self.together = 1
        self.met = 0
        self._waiting = 0
        self._changed = threading.Condition()

    def chunk(self, number: int) -> Step:
        total = len(self.pieces)
        body = self.pieces[number - 1]
        return Step(200 if number == total else 206, {**self.headers, "Mex-Chunk-Range": f"{number}:{total}"}, body)

    def __call__(self, seen: Seen) -> Step:
        if seen.method == "HEAD":
            with self._changed:
                self.asked.append(0)
            return Step(200, self.headers)
        last = seen.path.rsplit("/", 1)[1]
        number = int(last) if last.isdigit() else 1
        with self._changed:
            self.asked.append(number)
            self._changed.notify_all()
            if number > 1:
                self._waiting += 1
                self.met = max(self.met, self._waiting)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self.met >= self.together, SECONDS)
                self._waiting -= 1
            instead = self.instead.get(number)
            step = instead.pop(0) if instead else None
        right = self.chunk(number)
        return right if step is None else step if isinstance(step, Step) else step(right)

    def await_asked(self, *numbers: int) -> None:
        """Waits until these have been asked for."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(numbers) <= set(self.asked), SECONDS), self.asked


class Gate:
    """Where a server stops in the middle of a body: tells that it is there, and waits until it may go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        self.opened.wait(SECONDS)

    def halfway(self, step: Step) -> Step:
        step.halfway = self
        return step


@pytest.fixture
def gate() -> Iterator[Gate]:
    """One that is open at the end, whatever happens, so that the server can be closed."""
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def receiver(connect: Connector, serve: Serve) -> Callable[..., Any]:
    def start(message: Served, **keywords: Any) -> Any:
        return connect(settings_for(serve(message).url, **keywords))

    return start


def open_in(folder: Path) -> list[str]:
    """What this process has open in a folder, also if it has no name any more."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            targets.append(str(descriptor.readlink()))
    return [target for target in targets if str(folder) in target]


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Several at once


@pytest.mark.parametrize(("at_once", "connections"), [(4, 100), (2, 100), (4, 6)])
def test_chunks_come_at_once(
    connect: Connector, receiver: Callable[..., Any], tmp_path: Path, at_once: int, connections: int
) -> None:
    message = Served(contents(*[1000] * 8), Mex_FileName="a.csv")
    message.together = min(at_once, connections // 2)
    mesh = receiver(message, chunks_at_once=at_once, max_connections=connections)
    connect.clock.step = 1.0  # a slow network
    received = mesh.receive_file("M1", tmp_path)
    assert received.path.read_bytes() == message.data
    assert left(tmp_path) == ["a.csv"]
    assert message.met == message.together
    assert sorted(message.asked) == list(range(1, 9)), "each is asked for once"


def test_on_a_fast_network_two_come_at_once(connect: Connector, receiver: Callable[..., Any], tmp_path: Path) -> None:
    message = Served(contents(*[1000] * 8))
    message.together = 2
    mesh = receiver(message)
    connect.clock.step = 0.0
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == message.data
    assert message.met == 2


@pytest.mark.parametrize("keywords", [{"chunks_at_once": 1}, {"max_connections": 1}])
def test_one_after_another(receiver: Callable[..., Any], tmp_path: Path, keywords: dict[str, int]) -> None:
    message = Served(contents(*[1000] * 5))
    assert receiver(message, **keywords).receive_file("M1", tmp_path).path.read_bytes() == message.data
    assert message.asked == [1, 2, 3, 4, 5]
    assert message.met == 1


def test_a_message_in_one_chunk_needs_one_request_and_no_thread(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    start = _thread.start_new_thread

    def note(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
        begun.append(function)
        return start(function, arguments)

    monkeypatch.setattr(_thread, "start_new_thread", note)
    data = contents(1000)[0]
    message = Served([data], Mex_Content_Checksum=hashlib.sha256(data).hexdigest())
    with MeshClient(settings_for(serve(message).url)) as mesh:
        assert mesh.receive_file("M1", tmp_path).verified is True
    assert (message.asked, begun) == ([1], [])


LENGTHS = {
    "equal": [1000] * 6,
    "the last is shorter": [1000, 1000, 1000, 10],
    "the last is longer": [1000, 1000, 1000, 5000],
    "the first is short": [10, 1000, 1000, 1000, 1000],
    "the first is long": [5000, 1000, 1000, 1000, 1000],
    "the second is short": [1000, 10, 10, 10, 10],
    "only the second is short": [1000, 10, 1000, 1000, 1000, 1000],
    "the second is long": [1000, 3500, 1000, 1000, 1000],
    "one in the middle": [1000, 1000, 1000, 999, 1000, 1000, 1001, 1000],
    "empty ones": [0, 0, 1000, 0, 0],
    "all differ": [400, 300, 700, 100, 900, 200],
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("packed", "slow"), [(False, False), (True, True)])
def test_chunks_of_any_length_are_joined_in_order(
    connect: Connector, receiver: Callable[..., Any], tmp_path: Path, lengths: list[int], packed: bool, slow: bool
) -> None:
    pieces = contents(*lengths)
    data = b"".join(pieces)
    checksum = hashlib.sha256(data).hexdigest()
    message = Served([gzip.compress(piece) for piece in pieces] if packed else pieces, Mex_Content_Checksum=checksum)
    if packed:
        message.headers["Content-Encoding"] = "gzip"
    # All that can be early is there, in what place so ever, before it is known how long the second is.
    message.together = min(4 if slow else 2, len(pieces) - 1) if lengths[0] else 1
    mesh = receiver(message)
    connect.clock.step = float(slow)
    told: list[ReceiveProgress] = []
    received = mesh.receive_file("M1", tmp_path, progress=told.append)
    assert received.path.read_bytes() == data
    assert (received.bytes, received.verified) == (len(data), True)
    assert left(tmp_path) == ["M1.dat"]
    assert all(0 <= one.share <= 1 for one in told)
    assert (told[-1].share, told[-1].bytes_done) == (1, len(data)) or not lengths[-1]
    assert max(map(message.asked.count, message.asked)) <= 2


def test_what_was_written_to_a_place_that_proves_wrong_does_not_stay(
    connect: Connector, receiver: Callable[..., Any], gate: Gate, tmp_path: Path
) -> None:
    message = Served(contents(1000, 10, 10, 10))
    message.instead[2] = [gate.halfway]
    mesh = receiver(message)
    connect.clock.step = 0.0

    def progress(arriving: ReceiveProgress) -> None:
        if arriving.bytes_done >= 1010:  # of the third, where the third would be if the second were like the first
            gate.opened.set()

    received = mesh.receive_file("M1", tmp_path, progress=progress)
    assert received.path.read_bytes() == message.data


# What goes wrong with one


def _range(text: str) -> Callable[[Step], Step]:
    return lambda right: Step(right.status, {**right.headers, "Mex-Chunk-Range": text}, right.body)


def _without_length(right: Step) -> Step:
    head = "".join(f"{name}: {value}\r\n" for name, value in right.headers.items())
    return Step(raw=f"HTTP/1.1 {right.status} X\r\n{head}\r\n".encode() + right.body)


def _cut(right: Step) -> Step:
    named = {name.replace("-", "_"): value for name, value in right.headers.items()}
    return raw_answer(right.status, right.body[:300], announced=1000, **named)


FAILURES: dict[str, Step | Callable[[Step], Step]] = {
    "404": Step(404),
    "403": Step(403),
    "429": Step(429, {"Retry-After": "1"}),
    "500": Step(500),
    "503": Step(503),
    "dropped": Step(drop=True),
    "no HTTP": Step(raw=b"what?\r\n\r\n"),
    "cut": _cut,
    "another chunk": _range("2:6"),
    "another total": _range("3:7"),
    "no range": _range("3"),
    "said to be the last": lambda right: Step(200, right.headers, right.body),
    "another message's": lambda right: Step(206, {**right.headers, "Mex-MessageID": "M2"}, bytes(1000)),
    "damaged": lambda right: Step(206, {**right.headers, "Content-Encoding": "gzip"}, b"\x1f\x8b damaged"),
    "an unknown coding": lambda right: Step(206, {**right.headers, "Content-Encoding": "br"}, right.body),
    "of no announced length": _without_length,
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_what_fails_before_its_turn_is_fetched_in_its_turn(
    connect: Connector, receiver: Callable[..., Any], tmp_path: Path, failure: Step | Callable[[Step], Step]
) -> None:
    message = Served(contents(*[1000] * 6))
    message.headers["Mex-Content-Checksum"] = hashlib.sha256(message.data).hexdigest()
    message.instead[3] = [failure]
    message.together = 3
    mesh = receiver(message, max_attempts=1, max_connections=6)
    connect.clock.step = 1.0
    received = mesh.receive_file("M1", tmp_path)
    assert received.path.read_bytes() == message.data
    assert (received.verified, left(tmp_path)) == (True, ["M1.dat"])
    assert message.asked.count(3) == 2
    assert max(map(message.asked.count, message.asked)) <= 2
    again = [n for k, n in enumerate(message.asked) if n in message.asked[:k]]
    assert again == sorted(again), "after it, one after another"
    assert connect.clock.waits == [], "and without a wait"


def test_what_is_wrong_in_its_turn_too_is_said(receiver: Callable[..., Any], tmp_path: Path) -> None:
    message = Served(contents(*[1000] * 4))
    message.instead[3] = [Step(404)] * 2
    mesh = receiver(message)
    with pytest.raises(IntegrityError, match="chunk 3 of 4 is missing") as caught:
        mesh.receive_file("M1", tmp_path)
    assert (caught.value.message_id, caught.value.operation) == ("M1", "receive_file")
    assert message.asked.count(3) == 2
    record = json.loads((tmp_path / ".M1.json").read_text())
    assert (record["chunks_done"], record["length"]) == (2, 2000)
    assert left(tmp_path) == [".M1.json", ".M1.part"]
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == message.data


@pytest.mark.parametrize("refused", ["to be buffered", "to be joined"])
def test_no_room_for_what_is_early_costs_nothing_but_that(
    receiver: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    failed: list[str] = []
    full = OSError(errno.ENOSPC, "No space left on device")
    if refused == "to be buffered":
        opened = tempfile.TemporaryFile

        def hold(*args: Any, **keywords: Any) -> Any:
            if keywords.get("dir") != tmp_path:
                return opened(*args, **keywords)
            failed.append(refused)
            raise full

        monkeypatch.setattr(tempfile, "TemporaryFile", hold)
    else:

        def copy(source: int, target: int, count: int) -> int:
            os.write(target, b"some of it")
            failed.append(refused)
            raise ValueError("not an OSError, as then it is tried without the kernel")

        monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    message = Served(contents(*[1000] * 5))
    assert receiver(message).receive_file("M1", tmp_path).path.read_bytes() == message.data
    assert set(failed) == {refused}
    assert left(tmp_path) == ["M1.dat"]


def test_a_prefetch_buffer_is_bounded_and_ends_when_it_is_closed(tmp_path: Path) -> None:
    buffer = PrefetchBuffer(tmp_path, 25)
    assert buffer.write([b"0123456789", b"0123456789"]) == 20
    with pytest.raises(StorageError):
        buffer.write([b"012345"])
    assert buffer.length == 20
    buffer.close()
    for block in (b"x", b""):
        with pytest.raises(StorageError):
            buffer.write([block])
    assert left(tmp_path) == []


def test_whoever_closes_a_buffer_waits_for_one_block_only(tmp_path: Path) -> None:
    buffer = PrefetchBuffer(tmp_path, 1000)

    def blocks() -> Iterator[bytes]:
        yield b"a"
        buffer.close()
        yield b"b"

    with pytest.raises(StorageError):
        buffer.write(blocks())
    assert buffer.length == 1


def test_without_a_thread_one_after_another(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = Served(contents(*[1000] * 4))
    message.headers["Mex-Content-Checksum"] = hashlib.sha256(message.data).hexdigest()
    with MeshClient(settings_for(serve(message).url), clock=TestClock()) as mesh:

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(_thread, "start_new_thread", refuse)
        assert mesh.receive_file("M1", tmp_path).verified is True
    assert message.asked == [1, 2, 3, 4]


# Interrupted


class _Enough(Exception):
    pass


@pytest.mark.parametrize("done", [0, 1, 2])
def test_progress_that_raises_ends_it_and_it_goes_on(
    connect: Connector, receiver: Callable[..., Any], gate: Gate, tmp_path: Path, done: int
) -> None:
    message = Served(contents(*[1000] * 5))
    mesh = receiver(message)
    connect.clock.step = 0.0

    def once_the_next_is_on_its_way(step: Step) -> Step:
        step.halfway = lambda: message.await_asked(done + 2)
        return step

    message.instead[done + 1] = [once_the_next_is_on_its_way]
    message.instead[done + 2] = [gate.halfway]  # which never comes to its end

    def stop(arriving: ReceiveProgress) -> None:
        if arriving.bytes_done > done * 1000 + 500:
            raise _Enough

    with pytest.raises(_Enough):
        mesh.receive_file("M1", tmp_path, progress=stop)
    # It is left behind, and may still bring something: nothing of that may come into the file.
    asked = len(message.asked)
    received = mesh.receive_file("M1", tmp_path)
    gate.opened.set()
    assert received.path.read_bytes() == message.data
    assert left(tmp_path) == ["M1.dat"]
    assert sorted(n for n in message.asked[asked:] if n) == list(range(done + 1, 6))


@pytest.mark.parametrize("backend", ["asyncio", "asyncio's own", "trio"])
@pytest.mark.parametrize("due", [1, 2, 3])
def test_cancelled_at_any_chunk_it_goes_on(serve: Serve, gate: Gate, tmp_path: Path, backend: str, due: int) -> None:
    message = Served(contents(*[1000] * 6))
    message.instead[due] = [gate.halfway]  # the one after it is asked for when this one's turn has come
    server = serve(message)

    def until_due() -> None:
        gate.reached.wait(SECONDS)
        message.await_asked(due + 1)

    async def run() -> None:
        clock = AsyncTestClock()
        clock.step = 0.0
        async with AsyncMeshClient(settings_for(server.url), clock=clock) as mesh:
            if backend == "asyncio's own":
                task = asyncio.ensure_future(mesh.receive_file("M1", tmp_path))
                await anyio.to_thread.run_sync(until_due)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await mesh.receive_file("M1", tmp_path)
                assert asyncio.all_tasks() == {asyncio.current_task()}
            else:
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as group:

                        async def cancel() -> None:
                            await anyio.to_thread.run_sync(until_due)
                            scope.cancel()

                        group.start_soon(cancel)
                        await mesh.receive_file("M1", tmp_path)
                assert scope.cancelled_caught
            assert left(tmp_path) == ([".M1.json", ".M1.part"] if due > 1 else [".M1.part"])
            asked = len(message.asked)
            received = await mesh.receive_file("M1", tmp_path)
            assert received.path.read_bytes() == message.data
            assert sorted(n for n in message.asked[asked:] if n) == list(range(due, 7))
            assert left(tmp_path) == ["M1.dat"]

    anyio.run(run, backend=backend.split("'")[0])


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to one thread")
@pytest.mark.parametrize("due", [1, 2, 3])
def test_interrupted_at_any_chunk_it_goes_on(serve: Serve, gate: Gate, tmp_path: Path, due: int) -> None:
    message = Served(contents(*[1000] * 6))
    message.instead[due] = [gate.halfway]
    main = threading.get_ident()

    def interrupt() -> None:
        gate.reached.wait(SECONDS)
        message.await_asked(due + 1)
        signal.pthread_kill(main, signal.SIGINT)

    clock = TestClock()
    clock.step = 0.0
    with MeshClient(settings_for(serve(message).url), clock=clock) as mesh:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            mesh.receive_file("M1", tmp_path)
        thread.join()
        asked = len(message.asked)
        received = mesh.receive_file("M1", tmp_path)
        # Now what was left behind brings the rest.
        gate.opened.set()
        assert received.path.read_bytes() == message.data
        assert sorted(n for n in message.asked[asked:] if n) == list(range(due, 7))
        assert left(tmp_path) == ["M1.dat"]
    for left_behind in threading.enumerate():
        if left_behind.name == "nel-mesh":
            left_behind.join(SECONDS)
            assert not left_behind.is_alive()
    assert received.path.read_bytes() == message.data


@needs_proc
@pytest.mark.parametrize("failing", [0, 3])
def test_nothing_stays_open(connect: Connector, receiver: Callable[..., Any], tmp_path: Path, failing: int) -> None:
    message = Served(contents(*[1000] * 6))
    if failing:
        message.instead[failing] = [Step(404)] * 2
    mesh = receiver(message, max_attempts=1)
    with contextlib.suppress(MeshError):
        mesh.receive_file("M1", tmp_path)
    assert open_in(tmp_path) == []


def test_what_fails_after_its_caller_has_gone_is_not_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(SECONDS)
        raise StorageError("closed meanwhile")

    async def run() -> None:
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(begun.wait, SECONDS)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    gc.collect()
    assert caplog.records == []


# Several messages


def test_each_message_has_a_connection_for_itself() -> None:
    spare = ConnectionBudget(4)
    with spare.message(), spare.message(), spare.message():
        assert spare.try_acquire()
        assert not spare.try_acquire()
    assert spare.try_acquire()
    assert not spare.try_acquire(), "half of them at most"
    spare.release()
    assert spare.try_acquire()
    assert not ConnectionBudget(1).try_acquire()


@pytest.mark.parametrize(("connections", "concurrency"), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (2, 4), (12, 4)])
def test_several_messages_at_once_share_the_connections(
    connect: Connector, serve: Serve, tmp_path: Path, connections: int, concurrency: int
) -> None:
    ids = [f"M{k}" for k in range(1, 6)]
    waiting = [*ids, "R1"]
    pieces = contents(*[1000] * 4)
    total = len(pieces)

    def answer(seen: Seen) -> Step:
        if "/inbox/" not in seen.path:
            return Step(200, {"Content-Type": "application/json"}, json.dumps({"messages": waiting}).encode())
        if seen.method == "PUT":
            waiting.remove(seen.path.split("/")[-3])
            return Step(200)
        words = seen.path.split("/inbox/")[1].split("/")
        headers = {**MEX, "Mex-MessageID": words[0], "Mex-FileName": f"{words[0]}.csv"}
        if words[0] == "R1":
            return Step(200, {**headers, "Mex-MessageType": "REPORT"})
        number = int(words[1]) if len(words) > 1 else 1
        return Step(
            200 if number == total else 206, {**headers, "Mex-Chunk-Range": f"{number}:{total}"}, pieces[number - 1]
        )

    # A wait for a connection that is never free would end as a failure, within the test's own time.
    settings = settings_for(serve(answer).url, max_connections=connections, read_timeout_in_seconds=15, max_attempts=1)
    mesh = connect(settings)
    reports: list[Report] = []

    def told(report: Report) -> None:
        reports.append(report)

    async def told_async(report: Report) -> None:
        reports.append(report)

    on_report = told if connect.variant == "sync" else told_async
    result = mesh.receive_messages(tmp_path, concurrency=concurrency, on_report=on_report)
    assert result.failed == []
    assert sorted(result.delivered) == ids
    assert [report.message_id for report in reports] == ["R1"]
    assert {(tmp_path / f"{one}.csv").read_bytes() for one in ids} == {b"".join(pieces)}
    assert waiting == []


# Sending: while a chunk goes, the next is compressed

TO = {"to": "X26ABC2", "workflow_id": "WF", "compress": True}
ACCEPTED = Step(202, body=b'{"message_id": "M1"}')


class Source(io.BytesIO):
    """Tells when it is read beyond a place, and may fail there."""

    def __init__(self, data: bytes, place: int, error: Exception | None = None) -> None:
        super().__init__(data)
        self.beyond = threading.Event()
        self._place = place
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._place:
            self.beyond.set()
            if self._error:
                raise self._error
        return super().read(size)


def test_the_next_chunk_is_compressed_while_one_goes(connect: Connector, serve: Serve) -> None:
    source = Source(contents(3500)[0], 1000)
    in_time: list[bool] = []

    def first(seen: Seen) -> Step:
        in_time.append(source.beyond.wait(SECONDS))
        return ACCEPTED

    server = serve(first, ACCEPTED)
    sent = connect(settings_for(server.url, max_chunk_size_in_megabytes=0.001)).send_message(source, **TO)
    assert in_time == [True]
    assert [gzip.decompress(seen.body) for seen in server.seen] == [
        source.getvalue()[start : start + 1000] for start in range(0, 3500, 1000)
    ]
    assert sent.bytes_on_wire == sum(len(seen.body) for seen in server.seen)


@pytest.mark.parametrize("failing", [2, 3, 4])
def test_what_fails_beforehand_is_said_when_its_turn_comes(connect: Connector, serve: Serve, failing: int) -> None:
    source = Source(contents(3500)[0], 1000 * (failing - 1), OSError(errno.EIO, "Input/output error"))

    def accept(seen: Seen) -> Step:
        if seen.headers["mex-chunk-range"] == f"{failing - 1}:4":
            assert source.beyond.wait(SECONDS)
        return ACCEPTED

    server = serve(accept)
    told: list[SendProgress] = []
    mesh = connect(settings_for(server.url, max_chunk_size_in_megabytes=0.001))
    with pytest.raises(SourceError, match="Input/output error") as caught:
        mesh.send_message(source, **TO, progress=told.append)
    assert (caught.value.message_id, caught.value.outcome) == ("M1", Outcome.NOT_SENT)
    assert caught.value.operation == "send_message"
    assert [seen.headers["mex-chunk-range"] for seen in server.seen] == [f"{k}:4" for k in range(1, failing)]
    assert told[-1].bytes_done == 1000 * (failing - 1)


def test_what_fails_beforehand_leaves_a_record_of_what_was_sent(
    connect: Connector, serve: Serve, tmp_path: Path
) -> None:
    spool, record, source = tmp_path / "spool", tmp_path / "record.json", tmp_path / "extract.csv"
    spool.mkdir()
    source.write_bytes(b"".join(contents(*[6_000_000] * 3)))
    server = serve(ACCEPTED, ACCEPTED, Step(403), ACCEPTED)
    settings = settings_for(server.url, max_chunk_size_in_megabytes=6, spool_directory=spool)
    with pytest.raises(MeshError) as caught:
        connect(settings).send_file(source, **TO, resume=record)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert json.loads(record.read_text())["chunks_done"] == 2
    connect(settings).send_file(source, **TO, resume=record)
    assert b"".join(gzip.decompress(server.seen[k].body) for k in (0, 1, 3)) == source.read_bytes()


@needs_proc
@pytest.mark.parametrize("how", ["refused", "stopped"])
def test_what_was_compressed_beforehand_is_let_go(connect: Connector, serve: Serve, tmp_path: Path, how: str) -> None:
    source = Source(contents(12_000_000)[0], 11_000_000)

    def refuse(seen: Seen) -> Step:
        assert source.beyond.wait(SECONDS)
        return Step(403)

    def progress(done: SendProgress) -> None:
        if how == "stopped":
            raise _Enough

    settings = settings_for(serve(refuse).url, max_chunk_size_in_megabytes=6, spool_directory=tmp_path)
    mesh = connect(settings)
    with pytest.raises((MeshError, _Enough)):
        mesh.send_message(source, **TO, progress=progress)
    assert open_in(tmp_path) == []
    assert left(tmp_path) == []
