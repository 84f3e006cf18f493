"""One request over a socket of its own, byte by byte, so that a broken answer is seen as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TypeVar

from raw_mesh import V2, RawMesh

_T = TypeVar("_T")


@dataclasses.dataclass
class Answer:
    """What came back until the server ended the connection, or had sent all that it announced."""

    status: int
    headers: dict[str, str]
    body: bytes


class Tls:
    """TLS over a socket. Python's own tells a reset and an end apart on some systems only; this does on all."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self.plain = plain
        self.said_farewell = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._do(self._tls.do_handshake)

    def sendall(self, data: bytes) -> None:
        self._do(lambda: self._tls.write(data))

    def recv(self, limit: int) -> bytes:
        try:
            return self._do(lambda: self._tls.read(limit))
        except ssl.SSLZeroReturnError:
            self.said_farewell = True
            return b""
        except ssl.SSLEOFError:
            return b""

    def _do(self, step: Callable[[], _T]) -> _T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self.plain.recv(1 << 16):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self.plain.sendall(data)


Connection = socket.socket | Tls


@contextlib.contextmanager
def connected(raw: RawMesh, context: ssl.SSLContext | None = None) -> Iterator[Connection]:
    """A connection to the sandbox, with TLS if it has that: by its own context if none is given."""
    with socket.create_connection(("127.0.0.1", raw.mesh.port), timeout=20) as plain:
        if raw.mesh.configuration.tls:
            yield Tls(plain, context or raw.mesh.client_context())
        else:
            yield plain


def head(raw: RawMesh, method: str, path: str, *, mailbox_id: str = "X26ABC1", **headers: str) -> bytes:
    """The head of a request, with a fresh token unless one is given; keywords are headers, with _ for -."""
    all_headers = {
        "host": "localhost",
        "accept": V2,
        "authorization": raw.token(mailbox_id),
        "content-length": "0",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} /messageexchange/{mailbox_id}{path} HTTP/1.1"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in all_headers.items()), "", ""]).encode()


def send_head(raw: RawMesh, length: int, **headers: str) -> bytes:
    """The head of a request that sends a message of so many bytes."""
    return head(raw, "POST", "/outbox", content_length=str(length), mex_to="X26ABC2", mex_workflowid="TEST", **headers)


def until_the_end(connection: Connection) -> bytes:
    """All that comes until the connection ends."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def get(raw: RawMesh, path: str, *, mailbox_id: str = "X26ABC2", **headers: str) -> Answer:
    """The answer to a GET, as far as the server sent it before it ended the connection."""
    with connected(raw) as connection:
        connection.sendall(head(raw, "GET", path, mailbox_id=mailbox_id, **headers))
        return parsed(until_the_end(connection))


def parsed(answer: bytes) -> Answer:
    """An answer's parts; its body as it was on the wire."""
    start, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = start.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in headers.items()}, body)
