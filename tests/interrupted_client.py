"""A process whose signal handler raises at random moments of a blocking client's calls; see test_interrupts.py.

    python tests/interrupted_client.py pool|client COUNT SEED

Prints one line of JSON: how many calls were interrupted, and how many connection slots are left at the end.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

from nel_mesh import MeshClient, MeshSettings
from nel_mesh._sync.http import ConnectionPool
from nel_mesh._sync.transport import transport_options

SLOTS = 3
LONG_SECONDS = 20.0
BODY = bytes(200_000)


class Interrupt(BaseException):
    """What the handler raises; like KeyboardInterrupt, and not to be confused with it."""


class Handler(BaseHTTPRequestHandler):
    """Answers every request with a small inbox; takes the body first, if there is one."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()
            return
        self.close_connection = True

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        body = b'{"messages": ["20261122120000000000_000001"]}'
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Many connections end in the middle of something."""

    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def blocks() -> Iterator[bytes]:
    for start in range(0, len(BODY), 50_000):
        yield BODY[start : start + 50_000]


def pool_calls(settings: MeshSettings) -> tuple[ConnectionPool, Callable[[], object]]:
    """Requests with and without a body, over half of the slots at once."""
    pool = ConnectionPool(transport_options(settings))

    def call() -> None:
        first = pool.send("GET", "/first", {})
        second = pool.send("POST", "/second", {}, blocks(), len(BODY))
        first.read(1000)
        second.read(1000)

    return pool, call


def client_calls(settings: MeshSettings) -> tuple[ConnectionPool, Callable[[], object]]:
    """The same by the public client."""
    client = MeshClient(settings)
    pool = client._transport._pool_for(settings)

    def call() -> None:
        client.list_messages()
        client.acknowledge_message("20261122120000000000_000001")

    return pool, call


class Interrupter:
    """Interrupts a call once, or twice in a row: the second may come while the first is dealt with."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._left = 0
        self.count = 0
        signal.signal(signal.SIGALRM, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._left:
            self._left -= 1
            self.count += 1
            if not self._left:
                # A timer that goes on would leave no time for anything else.
                signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interrupt

    def interrupt(self, call: Callable[[], object], usual_seconds: float) -> None:
        """Interrupt a call at a random moment of the time that it usually takes."""
        twice = self._chance.random() < 0.3
        # One `except` for each that may come, wherever it does.
        try:
            try:
                try:
                    self._left = 1 + twice
                    first = 1e-6 + self._chance.random() * usual_seconds
                    second = 1e-5 + self._chance.random() * usual_seconds / 4 if twice else 0
                    signal.setitimer(signal.ITIMER_REAL, first, second)
                    call()
                except Interrupt:
                    pass
                self._left = 0
            except Interrupt:
                pass
            self._left = 0
        except Interrupt:
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)


def free_slots(pool: ConnectionPool) -> int:
    """How many requests can be under way at once."""
    held = [pool.send("GET", "/held", {}) for _ in range(SLOTS)]
    for one in held:
        one.read(1000)
    return len(held)


def duration(call: Callable[[], object]) -> float:
    """How many seconds a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def main() -> None:
    which, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = MeshSettings(
        mailbox_id="X26ABC1",
        password="p",
        shared_key="k",
        # A name is looked up in a thread, for each connection.
        url=f"http://{'127.0.0.1' if which == 'pool' else 'localhost'}:{server.server_port}",
        proxy="none",
        max_connections=SLOTS,
        max_attempts=1,
        read_timeout_in_seconds=LONG_SECONDS,
    )
    pool, call = (pool_calls if which == "pool" else client_calls)(settings)
    call()
    usual = min(duration(call) for _ in range(20))
    interrupter = Interrupter(random.Random(seed))
    while interrupter.count < count:
        before = interrupter.count // 100
        interrupter.interrupt(call, usual)
        if interrupter.count // 100 > before:
            free_slots(pool)
    left = free_slots(pool)
    call()
    print(json.dumps({"interrupts": interrupter.count, "slots": left}))


if __name__ == "__main__":
    main()
