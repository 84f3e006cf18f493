"""Prefetching of chunks: several of one message are fetched at once.

A prefetched chunk is a bonus, and never a risk. It is tried once, and waits in a buffer until its turn comes; only then
is it checked and added to the content. If anything is wrong with it, it is fetched again in its turn, and from then on
the message is fetched one chunk after another: a server that is busy, or breaks, is not asked for more at once.

Senders cut all chunks but the last to one length, so where a chunk will begin can be foretold once one before it is
complete. Its buffer may then be that very place; if the place proves wrong, it does not fit, and is fetched again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from nel_mesh.destinations.base import Upload
from nel_mesh.errors import MeshError
from nel_mesh.io.async_concurrency import AsyncBackgroundTasks, AsyncTask, in_thread
from nel_mesh.io.buffers import PrefetchBuffer
from nel_mesh.protocol import responses, wire

from .http import AsyncResponse
from .mailbox import AsyncMailboxOperations
from .stream import AsyncChunk

MAX_PREFETCH_BYTES = 256 * 1024 * 1024
"""How much content of one chunk may wait for its turn; it may be far longer than it was on the wire."""

FAST_BYTES_PER_SECOND = 100_000_000
"""A connection that delivers this much content keeps a core busy: more than two at once only cost."""

PROGRESS_INTERVAL_SECONDS = 0.25
"""How often a wait for a chunk is interrupted to report progress."""

_MEASURE_SECONDS = 0.1
"""How long a chunk must have been coming before its speed is believed."""


class ConnectionBudget:
    """The connections that may prefetch, of all messages of one client.

    At most half of all connections, and each message under way has one for itself: prefetching must not keep a chunk
    whose turn it is from being fetched.
    """

    def __init__(self, max_connections: int) -> None:
        self._max = max_connections
        self._guard = threading.Lock()
        self._messages = 0
        self._used = 0

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Reserve a connection for a message, while the block runs."""
        with self._guard:
            self._messages += 1
        try:
            yield
        finally:
            with self._guard:
                self._messages -= 1

    def try_acquire(self) -> bool:
        """Take a connection, if one is free for prefetching."""
        with self._guard:
            is_free = self._used < self._max // 2 and self._messages + self._used < self._max
            self._used += is_free
            return is_free

    def release(self) -> None:
        """Give a connection back."""
        with self._guard:
            self._used -= 1


@dataclasses.dataclass
class AsyncPrefetchedChunk:
    """A chunk that arrived before its turn. Its buffer is to be closed by the caller of `AsyncPrefetcher.take`."""

    status: int
    chunk_range: str | None
    buffer: PrefetchBuffer


class _AsyncPrefetch:
    """The fetching of one chunk. Once it is stopped it touches nothing any more, and can be left to end by itself."""

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        budget: ConnectionBudget,
        message_id: str,
        number: int,
        buffer: PrefetchBuffer,
        memory: list[memoryview],
    ) -> None:
        self._mailbox = mailbox
        self._budget = budget
        self._memory = memory
        self._message_id = message_id
        self._number = number
        self._response: AsyncResponse | None = None
        self._claim = threading.Lock()
        """Its holder gives the connection back: `run` at its end, or `stop` if `run` has not begun."""
        self.buffer = buffer

    @property
    def share(self) -> float:
        """How much of the chunk has arrived, from 0 to 1."""
        return self._response.fraction_received if self._response else 0.0

    async def run(self) -> AsyncPrefetchedChunk | None:
        """Fetch the chunk; None if that fails, in whatever way."""
        if not self._claim.acquire(blocking=False):
            return None
        try:
            response = self._response = await self._mailbox.retrieve_chunk(self._message_id, self._number, attempts=1)
            try:
                responses.metadata("receive_file", self._message_id, response.headers)  # refuses another message's
                chunk = AsyncChunk(response, memory=self._memory)
                while (blocks := await chunk.next_blocks()) is not None:
                    await in_thread(self.buffer.write, blocks)
            finally:
                await response.close()
        except MeshError as error:
            self._mailbox.instrumentation.prefetch_failed(
                "receive_file", self._message_id, chunk=self._number, error=error
            )
            return None
        finally:
            self._budget.release()
        return AsyncPrefetchedChunk(response.status, response.headers.get(wire.CHUNK_RANGE), self.buffer)

    def stop(self) -> None:
        """Let it end: it keeps its connection until the next block arrives, or none does within the time limit."""
        self.buffer.close()
        if self._claim.acquire(blocking=False):
            self._budget.release()


class AsyncPrefetcher:
    """The chunks of one message that are fetched before their turn.

    Args:
        mailbox: where they come from.
        upload: where they wait.
        background: where the fetching runs.
        budget: the connections for it, of all messages together.
        message_id: the message.
        max_chunks: how many chunks of it may be on their way, the one whose turn it is included.
    """

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        upload: Upload,
        background: AsyncBackgroundTasks,
        budget: ConnectionBudget,
        message_id: str,
        *,
        max_chunks: int,
    ) -> None:
        self._mailbox = mailbox
        self._upload = upload
        self._background = background
        self._budget = budget
        self._message_id = message_id
        self._allowed = max_chunks
        self._max_chunks = min(2, max_chunks)
        self._length: int | None = None
        """How long all chunks but the last are thought to be; None before one is complete."""
        self.memory: list[memoryview] = []
        """That chunks no longer need, for those after them."""
        self._running: dict[int, tuple[_AsyncPrefetch, AsyncTask[AsyncPrefetchedChunk | None]]] = {}

    async def start(self, after: int, total: int, end: int | None = None) -> None:
        """Start to fetch the chunks after `after`, as far as places and connections are free.

        `end` is where chunk `after` ends in the content; None if it is still arriving.
        """
        free = self._max_chunks - (end is None) - len(self._running) if self._max_chunks > 1 else 0
        for number in range(after + 1, total + 1):
            if number in self._running:
                continue
            if free <= 0 or not self._budget.try_acquire():
                return
            free -= 1
            buffer = self._buffer(end, number - after - 1)
            if buffer is None:
                self._budget.release()
                self.give_up()
                return
            prefetch = _AsyncPrefetch(self._mailbox, self._budget, self._message_id, number, buffer, self.memory)
            try:
                self._running[number] = prefetch, await self._background.start(prefetch.run, stop=prefetch.stop)
            except BaseException as error:
                prefetch.stop()
                # No thread to be had.
                if isinstance(error, RuntimeError):
                    self.give_up()
                    return
                raise

    def _buffer(self, end: int | None, between: int) -> PrefetchBuffer | None:
        if end is None or self._length is None:
            return self._upload.buffer(None, MAX_PREFETCH_BYTES)
        return self._upload.buffer(end + between * self._length, self._length)

    def measure(self, length: int) -> None:
        """Note how long a chunk is, before it is added: if others are not as long, they do not follow it."""
        if self._length not in (None, length):
            self.give_up()
        self._length = length

    async def pace(self, after: int, total: int, length: int, seconds: float) -> None:
        """Note how fast a chunk arrives; if it is slow, the network is the bottleneck, and more chunks may come."""
        is_slow = seconds > _MEASURE_SECONDS and length < FAST_BYTES_PER_SECOND * seconds
        if self._max_chunks < self._allowed and is_slow:
            self._max_chunks = self._allowed
            await self.start(after, total)

    async def is_arriving(self, number: int) -> bool:
        """Whether a chunk is still on its way; wait for it a moment."""
        return number in self._running and not await self._running[number][1].is_done(PROGRESS_INTERVAL_SECONDS)

    async def take(self, number: int, position: int) -> AsyncPrefetchedChunk | None:
        """Return a chunk, if it arrived before its turn and can begin at that position.

        If not, it will be written there in its turn, and nothing else may be written meanwhile.
        """
        if number not in self._running:
            self.close()
            return None
        prefetch, task = self._running[number]
        chunk = await task.result()
        if chunk is None or not prefetch.buffer.fits(position):
            self.give_up()
            return None
        del self._running[number]
        return chunk

    def give_up(self) -> None:
        """Prefetch no more."""
        self.close()
        self._max_chunks = self._allowed = 1

    def arrived(self) -> tuple[int, float]:
        """Return how many bytes, and how many chunks, have arrived before their turn."""
        running = [prefetch for prefetch, _ in self._running.values()]
        return sum(prefetch.buffer.length for prefetch in running), sum(prefetch.share for prefetch in running)

    def close(self) -> None:
        """Drop what arrived, or still arrives, and is not wanted."""
        for prefetch, _ in self._running.values():
            prefetch.stop()
        self._running.clear()
