"""The floor of a row: only the work that no client of this machine can leave out.

Raw TLS sockets, requests of fixed bytes, two chunks at a time into their places in one file, and a sync before the end.
It checks, retries, resumes and acknowledges nothing that it does not have to, and knows beforehand what will come.
"""

from __future__ import annotations

import hashlib
import os
import queue
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from isal import igzip_lib
from measure import job, measured, report

BLOCK = 112 * 1024
# As long as a token of MESH.
TOKEN = f"NHSMESH BENCH01:{'0' * 36}:0:202611271200:{'0' * 64}"


class Connection:
    """One TLS connection, for one request after another."""

    def __init__(self, asked: dict[str, Any]) -> None:
        context = ssl.create_default_context(cafile=asked["authority"])
        context.load_cert_chain(asked["client"])
        place = urlsplit(asked["url"])
        raw = socket.create_connection((place.hostname, place.port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw, server_hostname=place.hostname)
        self._buffer = memoryview(bytearray(BLOCK))

    def send(self, request: bytes | memoryview) -> None:
        """Send a request, or a part of one, whole."""
        self._socket.sendall(request)

    def body(self) -> Iterator[memoryview]:
        """Give a response's body in blocks, each valid until the next."""
        length = 0
        while (end := bytes(self._buffer[:length]).find(b"\r\n\r\n")) < 0:
            length += self._socket.recv_into(self._buffer[length:])
        head = bytes(self._buffer[:end]).lower()
        if not head.startswith(b"http/1.1 20"):
            sys.exit(f"nginx refused: {head[:40]!r}")
        left = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        block = self._buffer[end + 4 : length]
        while True:
            left -= len(block)
            if block:
                yield block
            if not left:
                return
            block = self._buffer[: self._socket.recv_into(self._buffer)]


def request(asked: dict[str, Any], method: str, path: str, content: bytes = b"", more: str = "") -> bytes:
    """A request with the headers that MESH wants; with the length of its content, unless `more` has it."""
    length = "" if method == "GET" or "Content-Length" in more else f"Content-Length: {len(content)}\r\n"
    path = f"/messageexchange/{asked['mailbox']}/{path}"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {TOKEN}\r\n{more}{length}\r\n"
    return head.encode() + content


def receive(asked: dict[str, Any]) -> None:
    """Receive one message into a file; hash it chunk by chunk while the others come, if it has a checksum."""
    file = os.open(Path(asked["folder"]) / "floor.dat", os.O_RDWR | os.O_CREAT)
    idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()

    def fetch(number: int) -> range:
        connection = Connection(asked) if idle.empty() else idle.get()
        connection.send(request(asked, "GET", f"inbox/{asked['parts'][number]}", more="Accept-Encoding: gzip\r\n"))
        start = end = number * asked["cut"]
        blocks = connection.body()
        for block in _decompressed(blocks) if asked["gzipped"] else blocks:
            end += os.pwrite(file, block, end)
        os.fdatasync(file)
        idle.put(connection)
        return range(start, end)

    digest = hashlib.sha256()
    with ThreadPoolExecutor(2) as pool:
        for place in pool.map(fetch, range(len(asked["parts"]))):
            for start in place[:: 1024 * 1024] if asked.get("digest") else ():
                digest.update(os.pread(file, min(1024 * 1024, place.stop - start), start))
    os.close(file)


def _decompressed(blocks: Iterator[memoryview]) -> Iterator[bytes]:
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    for block in blocks:
        yield member.decompress(block, BLOCK)
        while not member.eof and not member.needs_input:
            yield member.decompress(b"", BLOCK)


def send(asked: dict[str, Any]) -> None:
    """Send one chunk after another over one connection, from files of their own, as one client must."""
    connection = Connection(asked)
    buffer = memoryview(bytearray(BLOCK))
    for number, part in enumerate(asked["parts"], 1):
        with Path(part).open("rb", buffering=0) as file:
            left = os.fstat(file.fileno()).st_size
            more = f"Content-Length: {left}\r\nMex-Chunk-Range: {number}:{len(asked['parts'])}\r\n"
            connection.send(request(asked, "POST", f"outbox{'' if number == 1 else f'/BENCH1/{number}'}", more=more))
            while length := file.readinto(buffer):
                connection.send(buffer[:length])
        for _ in connection.body():
            pass


def send_many(asked: dict[str, Any]) -> None:
    """Send one request after another, all of the same bytes."""
    connection = Connection(asked)
    more = "Mex-From: BENCH01\r\nMex-To: X26ABC2\r\nMex-WorkflowID: BENCH\r\nMex-LocalID: " + "0" * 36 + "\r\n"
    whole = request(asked, "POST", "outbox", Path(asked["path"]).read_bytes(), more)
    for _ in range(asked["count"]):
        connection.send(whole)
        for _ in connection.body():
            pass


def empty_inbox(asked: dict[str, Any]) -> None:
    """Get and acknowledge messages on many connections: a request on each, then the response on each."""
    with ThreadPoolExecutor(asked["at_once"]) as pool:
        connections = list(pool.map(lambda _: Connection(asked), range(asked["at_once"])))
    folder = Path(asked["folder"])
    ids = [f"S{number:06d}" for number in range(asked["count"])]
    for start in range(0, len(ids), len(connections)):
        batch = list(zip(ids[start:], connections, strict=False))
        for message_id, connection in batch:
            connection.send(request(asked, "GET", f"inbox/{message_id}"))
        for message_id, connection in batch:
            file = os.open(folder / f".{message_id}", os.O_WRONLY | os.O_CREAT)
            for block in connection.body():
                os.write(file, block)
            os.fsync(file)
            os.close(file)
            (folder / f".{message_id}").rename(folder / message_id)
            connection.send(request(asked, "PUT", f"inbox/{message_id}/status/acknowledged"))
        for _, connection in batch:
            for _ in connection.body():
                pass


JOBS = {"receive": receive, "send": send, "send_many": send_many, "empty_inbox": empty_inbox}

if __name__ == "__main__":
    work = job()
    with measured() as result:
        JOBS[work["operation"]](work)
    report(result)
