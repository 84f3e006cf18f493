"""A proxy on loopback that makes a network slow in a stated way: a round trip, and a rate for each connection.

It passes bytes on as they are, TLS and all, in a process of its own. Half of the round trip is added each way, and one
whole to the first bytes of a connection, for the TCP handshake that loopback answers at once. Without a rate it holds
nothing back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import selectors
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO, cast

from benchmarks.measuring import running

_MOST_WAITING = 64 * 1024 * 1024
_MOST_WAITING_IN_SECONDS = 0.25
"""How far ahead of the rate is read. As a router's queue: enough never to run dry, and no more."""


class Pipe:
    """One direction of a connection: what comes in goes out again when it is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float, rate: float, first_delay: float) -> None:
        self._loop = loop
        self._delay = delay
        self._rate = rate
        self._not_before = loop.time() + first_delay
        self._queue: deque[tuple[float, bytes]] = deque()
        self._waiting = 0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._held = False
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None

    def take(self, data: bytes) -> None:
        """Has come in; b"" is the end."""
        start = max(self._loop.time(), self._free_at, self._not_before)
        self._free_at = start + (len(data) / self._rate if self._rate else 0.0)
        self._queue.append((self._free_at + self._delay, data))
        self._waiting += len(data)
        self._hold_source()
        self._plan()

    def hold(self, held: bool) -> None:
        """The far end takes no more for now, or takes it again."""
        self._held = held
        self._plan()

    def begin(self, sink: asyncio.Transport) -> None:
        """The far end is there."""
        self.sink = sink
        self._plan()

    def _plan(self) -> None:
        if self._timer is None and self._queue and self.sink is not None and not self._held:
            self._timer = self._loop.call_at(self._queue[0][0], self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now and self.sink is not None and not self._held:
            data = self._queue.popleft()[1]
            self._waiting -= len(data)
            if self.sink.is_closing():
                continue
            if data:
                self.sink.write(data)
            else:
                # No client here ends only one direction. What stayed half open would use up the 1,024 of `select`.
                self.sink.close()
        self._hold_source()
        self._plan()

    def _hold_source(self) -> None:
        if self.source is None or self.source.is_closing():
            return
        ahead = self._free_at - self._loop.time() if self._rate else 0.0
        if self._waiting > _MOST_WAITING or ahead > _MOST_WAITING_IN_SECONDS:
            self.source.pause_reading()
            if not self._queue:
                # Nothing will come out that would look again.
                self._loop.call_later(ahead, self._hold_source)
        else:
            self.source.resume_reading()


class End(asyncio.Protocol):
    """One end of a connection: the client's or the server's."""

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._incoming.source = self.transport
        self._outgoing.begin(self.transport)

    def data_received(self, data: bytes) -> None:
        self._incoming.take(data)

    def eof_received(self) -> bool:
        self._incoming.take(b"")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        self._outgoing.hold(True)

    def resume_writing(self) -> None:
        self._outgoing.hold(False)


async def serve(to_port: int, round_trip: float, rate: float) -> asyncio.Server:
    """Listens on a free port."""
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[None]] = set()

    def accept() -> End:
        there = Pipe(loop, round_trip / 2, rate, first_delay=round_trip)
        back = Pipe(loop, round_trip / 2, rate, first_delay=0.0)
        near, far = End(there, back), End(back, there)
        near.other, far.other = far, near

        async def connect() -> None:
            try:
                await loop.create_connection(lambda: far, "127.0.0.1", to_port)
            except OSError:
                if near.transport is not None:
                    near.transport.abort()

        task = loop.create_task(connect())
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return near

    return await loop.create_server(accept, "127.0.0.1", 0, backlog=1024)


@contextlib.contextmanager
def shaped(to_port: int, *, round_trip: float = 0.0, rate: float = 0.0) -> Iterator[int]:
    """The proxy in a process of its own; gives its port. `round_trip` in seconds, `rate` in bytes a second each way."""
    arguments = ["--to", str(to_port), "--round-trip", str(round_trip), "--rate", str(rate)]
    with running([sys.executable, "-m", "benchmarks.shaping", *arguments]) as process:
        yield int(cast(IO[bytes], process.stdout).readline())


def main() -> None:
    """Runs the proxy until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--round-trip", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    given = parser.parse_args()

    async def run() -> None:
        server = await serve(given.to, given.round_trip, given.rate)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    # Its timers are exact; those of `epoll`, which is usual, are whole milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
