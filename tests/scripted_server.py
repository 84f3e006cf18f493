"""A server on a real socket that answers as it is told, however wrong that is, and writes down what it was asked."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclasses.dataclass
class Seen:
    """A request, as far as it was read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclasses.dataclass
class Step:
    """What to do with one request.

    Attributes:
        status, headers, body: the answer; its length is announced unless `raw` is given.
        raw: these bytes instead, and then the connection is closed.
        read: how much of the request's body to read first; None for all of it.
        drop: close the connection without an answer.
        halfway: called when half of the body has been sent; the rest goes when it comes back.
    """

    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    raw: bytes | None = None
    read: int | None = None
    drop: bool = False
    halfway: Callable[[], object] | None = None


Rule = Step | Callable[[Seen], Step]


class ScriptedServer:
    """Follows its steps in order; the last one serves for every request after. With `tls`, over TLS."""

    def __init__(self, *steps: Rule, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.given: list[tuple[str, Step]] = []
        """What was answered, to which path."""
        self._steps = list(steps)
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError as error:
                    self.close_connection = True
                    if isinstance(error, ssl.SSLError):
                        # What the client still sends must be taken, or the reset overtakes the alert.
                        with contextlib.suppress(OSError):
                            while socket.socket.recv(self.connection, 65536):
                                pass

            def handle_any(self) -> None:
                outer._handle(self)

            do_GET = do_POST = do_PUT = do_HEAD = do_CONNECT = handle_any  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        seen = Seen(
            handler.command, handler.path, {name.lower(): value for name, value in handler.headers.items()}, b""
        )
        with self._lock:
            number = len(self.seen)
            self.seen.append(seen)
        rule = self._steps[min(number, len(self._steps) - 1)]
        step = rule if isinstance(rule, Step) else None
        length = int(seen.headers.get("content-length", "0"))
        seen.body = handler.rfile.read(length if step is None or step.read is None else min(step.read, length))
        if step is None:
            assert callable(rule)
            step = rule(seen)
        self.given.append((seen.path, step))
        if step.drop:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if step.raw is not None:
            handler.wfile.write(step.raw)
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        handler.send_response_only(step.status)
        headers = {name.lower(): value for name, value in step.headers.items()}
        headers.setdefault("content-length", str(len(step.body)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        half = len(step.body) // 2 if step.halfway else 0
        if step.halfway:
            handler.wfile.write(step.body[:half])
            step.halfway()
        handler.wfile.write(step.body[half:])

    def refuse(self) -> None:
        """Takes no more connections; from a step, so that the next one is refused."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def raw_answer(status: int, body: bytes, *, announced: int | None = None, **headers: str) -> Step:
    """An answer whose announced length need not be true; the connection is closed after it."""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body) if announced is None else announced}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return Step(raw=head.encode() + b"\r\n" + body)
