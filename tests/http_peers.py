"""HTTP servers for tests, byte by byte, so that they can misbehave in every way."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import trustme

LONG = 10.0
"""Seconds; no test waits so long unless it fails."""


class Peer:
    """A server's end of one connection; TLS as bytes, so that a test can send any part of it, or too much."""

    def __init__(self, raw: socket.socket, tls: ssl.SSLContext | None = None, below: Peer | None = None) -> None:
        self.raw = raw
        self._below = below
        self._held = b""
        self._tls = tls
        self._lock = threading.RLock()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if tls is not None:
            self.tls_object = tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._step(self.tls_object.do_handshake)
            self._send_below(self._outgoing.read())

    def _step(self, call: Callable[[], Any]) -> Any:
        while True:
            with self._lock:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    self._send_below(self._outgoing.read())
                except ssl.SSLError:
                    self._send_below(self._outgoing.read())
                    raise
            self._feed(self._receive_below())

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _send_below(self, data: bytes) -> None:
        if self._below:
            self._below.send(data)
        else:
            self.raw.sendall(data)

    def _receive_below(self) -> bytes:
        return self._below.receive() if self._below else self.raw.recv(65536)

    def receive(self) -> bytes:
        """Return what comes; b"" at the end."""
        if self._tls is None:
            return self._receive_below()
        try:
            return bytes(self._step(lambda: self.tls_object.read(65536)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def encoded(self, data: bytes) -> bytes:
        """Return the data as it is sent, in TLS if there is any."""
        if self._tls is None:
            return data
        self.tls_object.write(data)
        return self._outgoing.read()

    def close_notify(self) -> bytes:
        """Return a close_notify alert."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls_object.unwrap()
        return self._outgoing.read()

    def alert(self) -> bytes:
        """Return a fatal alert, as for a bad record."""
        self._incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        with contextlib.suppress(ssl.SSLError):
            self.tls_object.read(1)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        with self._lock:
            self._send_below(self.encoded(data))

    def head(self) -> bytes:
        """Return a request's head; b"" if there is none."""
        while b"\r\n\r\n" not in self._held:
            block = self.receive()
            if not block:
                return b""
            self._held += block
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        return head + b"\r\n"

    def request(self) -> tuple[bytes, bytes]:
        """Return a request's head and its whole body."""
        head = self.head()
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
        return head, self.take(int(found[1]) if found else 0)

    def take(self, length: int) -> bytes:
        """Return so many bytes of what comes."""
        held = bytearray(self._held)
        while len(held) < length:
            block = self.receive()
            assert block, "a request whose body is cut"
            held += block
        self._held = bytes(held[length:])
        return bytes(held[:length])

    def wait_for_the_end(self) -> bytes:
        """Read until the client closes the connection; return what came."""
        said, self._held = self._held, b""
        with contextlib.suppress(ConnectionError):
            while block := self.receive():
                said += block
        return said

    def reset(self) -> None:
        """Reset the connection."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.raw.close()


class Server:
    """Give each connection to `serve`, in a thread of its own. An exception there fails the test."""

    def __init__(
        self,
        serve: Callable[[Peer], object],
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        plain_until_asked: bool = False,
    ) -> None:
        self.connections = 0
        self.ended = threading.Semaphore(0)
        self.failures: list[BaseException] = []
        self._serve = serve
        self._tls = None if plain_until_asked else tls
        self._open: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.socket(family)
        self._listening.bind((host, 0))
        self._listening.listen(50)
        self.port: int = self._listening.getsockname()[1]
        host = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(raw)
            thread = threading.Thread(target=self._run, args=(raw,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, raw: socket.socket) -> None:
        raw.settimeout(LONG)
        # What is sent has arrived when `send` returns.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._serve(Peer(raw, self._tls))
        except BaseException as error:  # noqa: BLE001 - raised when the test ends
            # A client that hangs up, or does not trust us, is what many tests are about.
            if isinstance(error, TimeoutError) or not isinstance(error, OSError):
                self.failures.append(error)
        finally:
            raw.close()
            self.ended.release()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for raw in self._open:
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONG)
        if error is None and self.failures:
            raise self.failures[0]


def response(body: bytes = b"", status: int = 200, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


def echo(peer: Peer) -> None:
    """Respond to every request with its body, or with its head if it has none."""
    while True:
        head, body = peer.request()
        if not head:
            return
        peer.send(response(body or head))


def server_tls(authority: trustme.CA, name: str = "127.0.0.1", version: str = "TLSv1_3") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    authority.issue_cert(name).configure_cert(context)
    return context


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
