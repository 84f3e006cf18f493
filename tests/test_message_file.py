"""A message is a binary file: what the standard library and others read from files, they read from it."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import AsyncMeshClient, ConnectionLost, IntegrityError, InvalidArgument, MeshClient, StorageError
from scripted_server import ScriptedServer, Step
from test_client_receiving import DATA, MEX, chunk
from variants import settings_for

Scripted = Callable[..., tuple[Any, ScriptedServer]]

TABLE = "id,name\r\n1,Zoë\r\n2,Ånna\r\n".encode()


@pytest.fixture
def served(serve: Callable[..., ScriptedServer]) -> Iterator[Callable[..., MeshClient]]:
    """A blocking client of a server with these responses."""
    clients: list[MeshClient] = []

    def make(*steps: Step) -> MeshClient:
        clients.append(MeshClient(settings_for(serve(*steps).url, max_attempts=1, chunks_at_once=1)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("cut", [1, 9, 13, 14, len(TABLE) - 1])
def test_text_and_tables_are_read_from_it(served: Callable[..., MeshClient], cut: int) -> None:
    """A character, and a line end, may be cut anywhere between two chunks."""
    mesh = served(chunk(1, 2, TABLE[:cut]), chunk(2, 2, TABLE[cut:]))
    with mesh.retrieve_message("M1") as message, io.TextIOWrapper(message, encoding="utf-8", newline="") as text:
        assert list(csv.reader(text)) == [["id", "name"], ["1", "Zoë"], ["2", "Ånna"]]
        assert message.complete
    assert message.closed


def test_other_readers_take_it(served: Callable[..., MeshClient]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    mesh = served(
        chunk(1, 2, DATA[:10]), chunk(2, 2, DATA[10:]),
        chunk(1, 2, DATA[:10]), chunk(2, 2, DATA[10:]),
        Step(200, MEX, packed.getvalue()), Step(200, MEX, gzip.compress(DATA)), Step(200, MEX, b""),
    )  # fmt: skip
    with mesh.retrieve_message("M1") as message:
        target = io.BytesIO()
        shutil.copyfileobj(message, target)
        assert target.getvalue() == DATA
        assert message.complete
    with mesh.retrieve_message("M1") as message:
        buffered = io.BufferedReader(message, 7)
        assert buffered.read() == DATA
        assert message.readinto(bytearray(3)) == 0
    with mesh.retrieve_message("M1") as message, tarfile.open(fileobj=message, mode="r|gz") as archive:
        assert archive.getnames() == ["empty"]
    with mesh.retrieve_message("M1") as message, gzip.GzipFile(fileobj=io.BufferedReader(message)) as unpacked:
        assert unpacked.read() == DATA
    with mesh.retrieve_message("M1") as message:
        with pytest.raises(io.UnsupportedOperation, match="save it first"):
            message.seek(0)
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(message)
        traits = (message.readable(), message.writable(), message.seekable(), message.isatty(), message.closed)
        assert traits == (True, False, False, False, False)
        message.flush()


def test_a_file_that_breaks_has_no_end(served: Callable[..., MeshClient]) -> None:
    mesh = served(chunk(1, 2, TABLE[:12]), Step(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n1,2"))
    with mesh.retrieve_message("M1") as message:
        text = io.TextIOWrapper(message, encoding="utf-8")
        assert text.readline() == "id,name\n"
        with pytest.raises((ConnectionLost, IntegrityError)):
            text.read()
        with pytest.raises((ConnectionLost, IntegrityError)):
            message.read1(10)


class _Reluctant(io.RawIOBase):
    """A stream that takes three bytes at a time, and at some time none."""

    def __init__(self, most: int) -> None:
        self.taken = b""
        self.most = most

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int | None:
        if len(self.taken) >= self.most:
            return None
        self.taken += bytes(block[:3])
        return len(block[:3])


class _Silent:
    """A stream whose `write` returns nothing."""

    taken = b""

    def write(self, block: Any) -> None:
        self.taken += bytes(block)


def test_it_is_written_to_a_stream(scripted: Scripted) -> None:
    for stream in (io.BytesIO(), _Reluctant(10_000), _Silent()):
        mesh, _ = scripted(chunk(1, 2, DATA[:11]), chunk(2, 2, DATA[11:]))
        with mesh.retrieve_message("M1") as message:
            assert message.write_to(stream) == len(DATA)
            assert message.complete
        assert (stream.getvalue() if isinstance(stream, io.BytesIO) else stream.taken) == DATA


def test_a_stream_that_does_not_take_it(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(200, MEX, DATA))
    with (
        mesh.retrieve_message("M1") as message,
        pytest.raises(StorageError, match="Resource temporarily unavailable") as caught,
    ):
        message.write_to(_Reluctant(6))
    assert caught.value.message_id == "M1"
    mesh, _ = scripted(Step(200, MEX, DATA))
    with mesh.retrieve_message("M1") as message, pytest.raises(InvalidArgument, match="a binary stream"):
        message.write_to(io.StringIO())
    if Path("/dev/full").exists():
        mesh, _ = scripted(Step(200, MEX, DATA))
        with (
            Path("/dev/full").open("wb", buffering=0) as full,
            mesh.retrieve_message("M1") as message,
            pytest.raises(StorageError, match="No space left"),
        ):
            message.write_to(full)


@pytest.mark.parametrize("name", ["read", "save", "iter_bytes", "metadata", "write_to"])
def test_a30_a_message_is_opened_by_a_with_block(name: str) -> None:
    mesh = MeshClient(settings_for("http://127.0.0.1:9"))
    with pytest.raises(TypeError, match=f"open the message in a with block, and call {name} of what"):
        getattr(mesh.retrieve_message("M1"), name)
    with pytest.raises(AttributeError):
        getattr(mesh.retrieve_message("M1"), "no_such_thing")  # noqa: B009 - it has no such attribute for a type checker

    async def asynchronously() -> None:
        async with AsyncMeshClient(settings_for("http://127.0.0.1:9")) as client:
            getattr(client.retrieve_message("M1"), name)

    with pytest.raises(TypeError, match="with block"):
        asyncio.run(asynchronously())


SAVING = """
import sys
from nel_mesh import MeshClient, MeshSettings
url, path = sys.argv[1:]
with MeshClient(MeshSettings(mailbox_id="X26ABC1", password="password", shared_key="TestKey", url=url)) as mesh:
    with mesh.retrieve_message("M1") as message:
        message.save(path)
"""


def test_r26_a_save_that_was_killed_leaves_a_hidden_file_and_no_other(
    serve: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    """R26: as docs/promises.md says."""
    killed = threading.Event()
    server = serve(Step(200, MEX, bytes(8_000_000), halfway=lambda: killed.wait(20)))
    saving = subprocess.Popen([sys.executable, "-c", SAVING, server.url, str(tmp_path / "results.csv")])
    try:
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            assert saving.poll() is None
            time.sleep(0.01)
    finally:
        saving.kill()
        saving.wait()
        killed.set()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    assert left.name.endswith(".part")
