"""Chunks of a message that are fetched before their turn, so that several come at once.

It is a bonus, and never a risk: a chunk is tried once, and waits, up to a limit, until its turn comes; only then is it
taken for a part of the file. If anything is wrong with it, it is fetched again in its turn, and from then on the
message comes one chunk after another: a server that is busy, or breaks, is not asked for more at once.

Where a chunk will begin is known once one is there to its end, as senders cut all but the last to one length. The first
ones wait in nameless files; later ones are written to where they will probably belong, and if that proves wrong, are
fetched again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator

from nel_mesh.errors import MeshError, StorageError
from nel_mesh.io.async_concurrency import AsyncBackgroundTasks, AsyncTask
from nel_mesh.io.partial import AsyncAhead, AsyncPart
from nel_mesh.protocol import responses, wire

from .http import AsyncResponse
from .mailbox import AsyncMailboxOperations
from .message import AsyncChunk

_logger = logging.getLogger("nel_mesh")

MAX_PREFETCH_BYTES = 256 * 1024 * 1024
"""How much of one chunk may wait for its turn; it may be far longer than it was on the wire."""

FAST_BYTES_PER_SECOND = 100_000_000
"""Bytes of content a second. A connection that brings as much keeps a core busy: more than two only cost."""

PROGRESS_INTERVAL_SECONDS = 0.25
"""How often a wait for a chunk is interrupted to tell how far things are."""


class ConnectionBudget:
    """The connections that may fetch chunks before their turn.

    At most half of them, and each message that is on its way has one for itself: what is early must not keep what is
    due from being fetched.
    """

    def __init__(self, max_connections: int) -> None:
        self._all = max_connections
        self._guard = threading.Lock()
        self._messages = 0
        self._taken = 0

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """While a message is on its way."""
        with self._guard:
            self._messages += 1
        try:
            yield
        finally:
            with self._guard:
                self._messages -= 1

    def try_take(self) -> bool:
        """Takes one, if one is to spare; whether there was."""
        with self._guard:
            free = self._taken < self._all // 2 and self._messages + self._taken < self._all
            self._taken += free
            return free

    def give_back(self) -> None:
        """Gives one back."""
        with self._guard:
            self._taken -= 1


@dataclasses.dataclass
class AsyncPrefetchedChunk:
    """A chunk that came before its turn. Whoever takes it closes its content."""

    status: int
    chunk_range: str | None
    content: AsyncAhead


class _AsyncPrefetch:
    """One chunk on its way before its turn. When it is stopped it touches nothing any more, and can be left."""

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        spare: ConnectionBudget,
        message_id: str,
        number: int,
        content: AsyncAhead,
    ) -> None:
        self._mailbox = mailbox
        self._spare = spare
        self._message_id = message_id
        self._number = number
        self._answer: AsyncResponse | None = None
        self._claim = threading.Lock()
        """Who has it gives the connection back: whoever runs it, at its end, or who stops it before it has begun."""
        self.content = content

    @property
    def share(self) -> float:
        """How much of the chunk has come, from 0 to 1."""
        return self._answer.share if self._answer else 0.0

    async def run(self) -> AsyncPrefetchedChunk | None:
        """Fetches the chunk; None if that fails, in whatever way."""
        if not self._claim.acquire(blocking=False):
            return None
        try:
            answer = self._answer = await self._mailbox.retrieve_chunk(self._message_id, self._number, attempts=1)
            try:
                responses.metadata("receive_file", self._message_id, answer.headers)  # refuses another message's
                chunk = AsyncChunk(answer)
                while (blocks := await chunk.next_blocks(AsyncPart.WORTH_WRITING)) is not None:
                    await self.content.write(blocks)
            finally:
                await answer.close()
        except MeshError as error:
            _logger.debug("receive_file: chunk %d was not to be had ahead (%s)", self._number, type(error).__name__)
            return None
        finally:
            self._spare.give_back()
        return AsyncPrefetchedChunk(answer.status, answer.headers.get(wire.CHUNK_RANGE), self.content)

    def stop(self) -> None:
        """Nobody waits for it any more. It has its connection until the next block comes, or none within the limit."""
        self.content.close()
        if self._claim.acquire(blocking=False):
            self._spare.give_back()


class AsyncPrefetcher:
    """The chunks of one message that are on their way before their turn.

    Args:
        mailbox: where they come from.
        part: the file that they are for.
        beside: where the work is done.
        spare: the connections for it, of all messages together.
        message_id: the message.
        at_once: how many chunks of it may be on their way, the one whose turn it is included.
    """

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        part: AsyncPart,
        background: AsyncBackgroundTasks,
        spare: ConnectionBudget,
        message_id: str,
        *,
        at_once: int,
    ) -> None:
        self._mailbox = mailbox
        self._part = part
        self._background = background
        self._spare = spare
        self._message_id = message_id
        self._wished = at_once
        self._at_once = min(2, at_once)
        self._begun: dict[int, tuple[_AsyncPrefetch, AsyncTask[AsyncPrefetchedChunk | None]]] = {}
        self._length: int | None = None
        """What all chunks but the last are thought to be long; None before one is here."""

    async def open(self, after: int, total: int, end: int | None = None) -> None:
        """Sees to it that the chunks after that one are on their way, as far as lanes and connections are free.

        `end` is where that one ends in the part; None if it is still being written there.
        """
        free = self._at_once - (end is None) - len(self._begun) if self._at_once > 1 else 0
        for number in range(after + 1, total + 1):
            if number in self._begun:
                continue
            if free <= 0 or not self._spare.try_take():
                return
            free -= 1
            lane: _AsyncPrefetch | None = None
            try:
                content = await self._room(end, number - after - 1)
                lane = _AsyncPrefetch(self._mailbox, self._spare, self._message_id, number, content)
                self._begun[number] = lane, self._background.start(lane.run, stop=lane.stop)
            except BaseException as error:
                if lane is None:
                    self._spare.give_back()
                else:
                    lane.stop()
                # No room on the disk, or no thread to be had.
                if isinstance(error, (StorageError, RuntimeError)):
                    self.give_up()
                    return
                raise

    async def _room(self, end: int | None, between: int) -> AsyncAhead:
        if end is None or self._length is None:
            return await self._part.holding(MAX_PREFETCH_BYTES)
        return await self._part.window(end + between * self._length, self._length)

    async def pace(self, after: int, total: int, length: int, seconds: float) -> None:
        """Takes note of how fast a chunk comes; if it is slow, the network is what is waited for, and more may come."""
        if self._at_once < self._wished and seconds > 0.1 and length < FAST_BYTES_PER_SECOND * seconds:
            self._at_once = self._wished
            await self.open(after, total)

    def measure(self, length: int) -> None:
        """Takes note of how long a chunk is, before it goes to its place: if others are not, they do not follow it."""
        if self._length not in (None, length):
            self.give_up()
        self._length = length

    async def is_coming(self, number: int) -> bool:
        """Whether a chunk is still on its way; waits for that a moment."""
        return number in self._begun and not await self._begun[number][1].is_done(PROGRESS_INTERVAL_SECONDS)

    async def take(self, number: int, start: int) -> AsyncPrefetchedChunk | None:
        """The chunk, if it came before its turn, and can begin there.

        If not, it will be written to the part, and nothing else may be.
        """
        if number not in self._begun:
            self.close()
            return None
        lane, pending = self._begun[number]
        early = await pending.result()
        if early is None or not lane.content.fits(start):
            self.give_up()
            return None
        del self._begun[number]
        return early

    def give_up(self) -> None:
        """From here on, one chunk after another."""
        self.close()
        self._at_once = self._wished = 1

    def arrived(self) -> tuple[int, float]:
        """How many bytes, and how many chunks, have come before their turn."""
        lanes = [lane for lane, _ in self._begun.values()]
        return sum(lane.content.length for lane in lanes), sum(lane.share for lane in lanes)

    def close(self) -> None:
        """Lets go of what came, or still comes, and is not wanted."""
        for lane, _ in self._begun.values():
            lane.stop()
        self._begun.clear()
