"""Sources of content: what becomes of the caller's file, stream or pipe when a send fails or is cancelled."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from nel_mesh import AsyncMeshClient, Busy, InvalidArgument, MeshClient, MeshError, Outcome, SendReceipt
from nel_mesh.io.async_content import AsyncOpenContent
from nel_mesh.io.content import OpenContent
from scripted_server import ScriptedServer, Step
from variants import Connector, settings_for

Scripted = Callable[..., tuple[Any, ScriptedServer]]

TO: dict[str, Any] = {"to": "X26ABC2", "workflow_id": "WF"}
SMALL: dict[str, Any] = {"max_chunk_size_in_megabytes": 0.001, "max_attempts": 1}
DATA = bytes(range(256)) * 10
ACCEPTED = Step(202, body=b'{"message_id": "M1"}')
BUSY = Step(503)


class Blocks:
    """An iterator that is no generator: it goes on after an exception in its user."""

    def __init__(self) -> None:
        self._blocks = iter([DATA[:1000], DATA[1000:2000], DATA[2000:]])

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)


class AsyncBlocks:
    """As `Blocks`."""

    def __init__(self) -> None:
        self._blocks = Blocks()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._blocks)
        except StopIteration:
            raise StopAsyncIteration from None


def pipe_with(data: bytes) -> Any:
    """The reading end of a pipe whose writer has finished."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return open(reading, "rb")  # noqa: PTH123 - a descriptor has no path


# R6: the same object again


@pytest.mark.parametrize("failing", [[BUSY], [ACCEPTED, BUSY], [ACCEPTED, ACCEPTED, BUSY]])
@pytest.mark.parametrize("opened", ["file", "raw", "BytesIO", "gzip", "list"])
def test_r6_a_source_that_was_sent_in_vain_is_sent_whole_the_next_time(
    scripted: Scripted, tmp_path: Path, failing: list[Step], opened: str
) -> None:
    """R6: an open file, sent, "not sent", and sent again with the same object."""
    (tmp_path / "data").write_bytes(b"head" + DATA)
    (tmp_path / "data.gz").write_bytes(gzip.compress(b"head" + DATA))
    openers: dict[str, Callable[[], Any]] = {
        "file": lambda: (tmp_path / "data").open("rb"),
        "raw": lambda: (tmp_path / "data").open("rb", buffering=0),
        "BytesIO": lambda: io.BytesIO(b"head" + DATA),
        "gzip": lambda: gzip.open(tmp_path / "data.gz"),
        "list": lambda: [DATA[:5], DATA[5:]],
    }
    source = openers[opened]()
    if opened != "list":
        source.read(4)
    mesh, _ = scripted(*failing, **SMALL)
    with pytest.raises(Busy) as caught:
        mesh.send_message(source, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    mesh, server = scripted(ACCEPTED, **SMALL)
    mesh.send_message(source, **TO)
    assert b"".join(seen.body for seen in server.seen) == DATA
    if opened != "list":
        assert source.read(1) == b"", "what was sent has been read"
        source.close()


@pytest.mark.parametrize("kind", ["pipe", "iterator", "generator", "async iterator"])
def test_r6_a_stream_that_was_sent_in_vain_is_refused_the_next_time(
    scripted: Scripted, connect: Connector, kind: str
) -> None:
    """R6: it cannot be put back, and what is left of it is not the message."""
    if kind == "async iterator" and connect.variant == "sync":
        pytest.skip("the blocking client takes none")
    openers: dict[str, Callable[[], Any]] = {
        "pipe": lambda: pipe_with(DATA),
        "iterator": Blocks,
        "generator": lambda: (block for block in Blocks()),
        "async iterator": AsyncBlocks,
    }
    source = openers[kind]()
    mesh, _ = scripted(BUSY, **SMALL)
    with pytest.raises(Busy):
        mesh.send_message(source, **TO)
    mesh, server = scripted(ACCEPTED, **SMALL)
    with pytest.raises(InvalidArgument, match="a send that failed has read from this stream; open it again") as caught:
        mesh.send_message(source, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.seen == []
    if kind == "pipe":
        source.close()


@pytest.mark.parametrize("bad", [b"x", "text"])
def test_r6_a_stream_that_broke_while_it_was_spooled_is_refused_the_next_time(scripted: Scripted, bad: object) -> None:
    """R6, the same kind: interrupted before anything was sent."""

    class Breaks(Blocks):
        reads = 0

        def __next__(self) -> bytes:
            self.reads += 1
            if self.reads == 2:
                if bad == b"x":
                    raise OSError(5, "Input/output error")
                return bad  # type: ignore[return-value]
            return super().__next__()

    source = Breaks()
    mesh, server = scripted(ACCEPTED)
    with pytest.raises((MeshError, OSError)):
        mesh.send_message(source, **TO)
    with pytest.raises(InvalidArgument, match="open it again"):
        mesh.send_message(source, **TO)
    assert server.seen == []


# R21: cancelled


def cancelled_by_anyio(work: Callable[[], Any], url: str) -> None:
    async def run() -> None:
        async with AsyncMeshClient(settings_for(url)) as mesh:
            with anyio.fail_after(0.2):
                await mesh.send_message(work(), **TO)

    with pytest.raises(TimeoutError):
        anyio.run(run)


def cancelled_on_trio(work: Callable[[], Any], url: str) -> None:
    async def run() -> None:
        async with AsyncMeshClient(settings_for(url)) as mesh:
            with anyio.fail_after(0.2):
                await mesh.send_message(work(), **TO)

    with pytest.raises(TimeoutError):
        anyio.run(run, backend="trio")


def cancelled_by_asyncio(work: Callable[[], Any], url: str) -> None:
    async def run() -> None:
        async with AsyncMeshClient(settings_for(url)) as mesh:
            await asyncio.wait_for(mesh.send_message(work(), **TO), 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(run())


CANCELS = pytest.mark.parametrize("cancelled", [cancelled_by_anyio, cancelled_on_trio, cancelled_by_asyncio])


@CANCELS
@pytest.mark.timeout(20)
def test_r21_a_send_from_a_pipe_whose_writer_pauses_can_be_cancelled(
    serve: Callable[..., ScriptedServer], cancelled: Callable[..., None]
) -> None:
    """R21; and the file object is free again as soon as its read has come back."""
    server = serve(ACCEPTED)
    reading, writing = os.pipe()
    os.write(writing, DATA)
    with open(reading, "rb") as source:  # noqa: PTH123 - a descriptor has no path
        cancelled(lambda: source, server.url)
        threads = [thread for thread in threading.enumerate() if thread.name == "nel-mesh"]
        os.close(writing)
        for thread in threads:
            thread.join(10)
        with MeshClient(settings_for(server.url)) as mesh, pytest.raises(InvalidArgument, match="open it again"):
            mesh.send_message(source, **TO)
    assert server.seen == []


@CANCELS
@pytest.mark.timeout(20)
def test_r21_a_send_of_a_fifo_without_a_writer_can_be_cancelled(
    serve: Callable[..., ScriptedServer], tmp_path: Path, cancelled: Callable[..., None]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    cancelled(lambda: fifo, serve(ACCEPTED).url)
    threads = [thread for thread in threading.enumerate() if thread.name == "nel-mesh"]
    fifo.open("wb").close()
    for thread in threads:
        thread.join(10)


@CANCELS
@pytest.mark.timeout(20)
def test_r21_a_send_that_was_cancelled_while_its_file_was_opened_releases_it(
    serve: Callable[..., ScriptedServer], cancelled: Callable[..., None]
) -> None:
    class Slow(io.BytesIO):
        """Waits once, when it is looked at."""

        waits = threading.Event()

        def tell(self) -> int:
            self.waits.wait(1)
            self.waits.set()
            return super().tell()

    server = serve(ACCEPTED)
    source = Slow(DATA)
    source.waits.clear()
    cancelled(lambda: source, server.url)
    with MeshClient(settings_for(server.url)) as mesh:
        assert mesh.send_message(source, **TO).message_id == "M1"
    assert [seen.body for seen in server.seen] == [DATA]


@pytest.mark.timeout(60)
def test_r21_a_process_can_end_though_a_pipe_is_still_waited_for(serve: Callable[..., ScriptedServer]) -> None:
    program = """
        import asyncio, os, sys
        from nel_mesh import AsyncMeshClient, MeshSettings

        async def main():
            settings = MeshSettings(mailbox_id="X26ABC1", password="p", shared_key="TestKey", url=sys.argv[1])
            reading, writing = os.pipe()
            async with AsyncMeshClient(settings) as mesh:
                await asyncio.wait_for(mesh.send_message(open(reading, "rb"), to="X26ABC2", workflow_id="WF"), 0.2)

        try:
            asyncio.run(main())
        except TimeoutError:
            print("cancelled")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), serve(ACCEPTED).url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "cancelled\n"


def test_r21_an_interrupted_send_leaves_no_claim_on_its_file() -> None:
    source = io.BytesIO(DATA)
    with pytest.raises(KeyboardInterrupt), OpenContent(source, None):
        raise KeyboardInterrupt
    with OpenContent(source, None) as content:
        assert content.read(0, len(DATA)) == DATA
        with pytest.raises(InvalidArgument, match="being sent already"):
            OpenContent(source, None).__enter__()

    async def abandoned() -> None:
        await AsyncOpenContent(source, None).__aenter__()

    anyio.run(abandoned)
    gc.collect()
    with OpenContent(source, None) as content:
        assert content.length == 0, "an abandoned one ends with its owner"


# A11: a named pipe


@pytest.mark.parametrize("with_record", [False, True])
@pytest.mark.timeout(20)
def test_a11_a_named_pipe_is_sent_as_a_file(scripted: Scripted, tmp_path: Path, with_record: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(DATA,))
    writer.start()
    mesh, server = scripted(ACCEPTED)
    receipt = mesh.send_file(fifo, **TO, resume=tmp_path / "record" if with_record else None)
    writer.join()
    assert receipt.bytes == len(DATA)
    assert [seen.body for seen in server.seen] == [DATA]


# A30: natural slips


def test_a30_the_name_of_a_file_as_text_is_warned_of(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.csv").write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    mesh, server = scripted(ACCEPTED)
    with pytest.warns(UserWarning, match="also the name of a file here.*pass a Path, or call send_file"):
        mesh.send_message("results.csv", **TO)
    assert server.seen[0].body == b"results.csv"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ("results", "results.csv\n", "a\0b", "/" + "x" * 300, "x" * 300):
            mesh.send_message(text, **TO)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (b"1,2\n", "not bytes; for content, call send_message"),
        (io.BytesIO(DATA), "not BytesIO; for content, call send_message"),
        (None, "expected the path of a file, not NoneType"),
    ],
)
def test_a30_send_file_takes_a_path(scripted: Scripted, path: object, words: str) -> None:
    mesh, server = scripted(ACCEPTED)
    with pytest.raises(InvalidArgument, match=words) as caught:
        mesh.send_file(path, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.seen == []


RECEIPT = SendReceipt(message_id="M1", local_id="L1", chunks=1, bytes=1, bytes_on_wire=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda mesh, id_: mesh.track_message(id_),
        lambda mesh, id_: mesh.wait_for_delivery(id_),
        lambda mesh, id_: mesh.message_metadata(id_),
        lambda mesh, id_: mesh.acknowledge_message(id_),
        lambda mesh, id_: mesh.receive_file(id_, "never"),
        lambda mesh, id_: mesh.retrieve_message(id_).__enter__(),
    ],
    ids=["track_message", "wait_for_delivery", "message_metadata", "acknowledge_message", "receive_file", "retrieve"],
)
def test_a30_a_message_id_is_text(scripted: Scripted, call: Callable[..., Any]) -> None:
    mesh, server = scripted(ACCEPTED)
    with pytest.raises(InvalidArgument, match="message_id: expected text, not SendReceipt; pass its message_id"):
        call(mesh, RECEIPT)
    with pytest.raises(InvalidArgument, match="message_id: expected text, not int"):
        call(mesh, 7)
    assert server.seen == []
    assert not Path("never").exists()


def test_a30_a_local_id_is_text(scripted: Scripted) -> None:
    mesh, _ = scripted(ACCEPTED)
    with pytest.raises(InvalidArgument, match="local_id: expected text, not SendReceipt; pass its local_id"):
        mesh.resolve_send(RECEIPT)


@pytest.mark.parametrize("client", [MeshClient, AsyncMeshClient])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mesh.json", "expected MeshSettings, not str; for a file, MeshSettings.from_file"),
        (Path("mesh.json"), "for a file, MeshSettings.from_file"),
        ({"mailbox_id": "X"}, "expected MeshSettings, not dict; MeshSettings"),
    ],
)
def test_a30_a_client_takes_settings(client: type, given: object, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        client(given)
