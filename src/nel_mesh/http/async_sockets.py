"""TCP connections of the async client, under asyncio or trio; see `sockets.py`.

The sockets are the same non-blocking ones, and only the waiting is different: with anyio's streams asyncio took 2.7
times as long to receive, and lost what had come before a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.lowlevel

from nel_mesh.http.async_limits import running_asyncio_loop, time_limit
from nel_mesh.http.limits import Limit, Wait
from nel_mesh.http.sockets import (
    NEXT_ADDRESS_SECONDS,
    Address,
    NameLookup,
    NonBlockingSocket,
    check_connected,
    literal_addresses,
    start_connecting,
)

_TURNS_WITHOUT_A_BREAK = 16
"""How often a socket is served without a wait before other tasks have their turn."""

_SHORT_STALL_SECONDS = 0.05
"""How long sending may stall before it is listened as well: to wait for both takes two tasks, and most stalls less."""


class AsyncSocket(NonBlockingSocket):
    """As `Socket`, under asyncio or trio."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__(raw)
        self._turns = 0
        self._waiter: asyncio.Future[bool] | None = None
        """What a task waits for in asyncio until something has come."""

    @classmethod
    async def connect(cls, host: str, port: int, limit: Limit) -> AsyncSocket:
        """As `Socket.connect`."""
        return cls(await _connect_first(await _resolve(host, port, limit), limit))

    async def receive(self, wait: Wait) -> memoryview:
        """As `Socket.receive`."""
        await self._let_others_run()
        while (block := self._try_receive()) is None:
            await self._until_readable(wait)
        return block

    async def send(self, data: memoryview, wait: Wait) -> int:
        """As `Socket.send`."""
        await self._let_others_run()
        while (length := self._try_send(data)) is None:
            with anyio.move_on_after(min(_SHORT_STALL_SECONDS, wait.seconds)) as short:
                await self._until(anyio.wait_writable)
            if short.cancelled_caught:
                with time_limit(wait):
                    await self._until_either()
        return length

    async def close(self) -> None:
        """Close it; a task that waits for it wakes up."""
        if self._raw.fileno() >= 0:
            self._shut_down()
            self._stop_waiting()
            anyio.notify_closing(self._raw)
            self._raw.close()

    async def _let_others_run(self) -> None:
        self._turns += 1
        if self._turns > _TURNS_WITHOUT_A_BREAK:
            self._turns = 0
            await anyio.lowlevel.checkpoint()

    async def _until_readable(self, wait: Wait) -> None:
        """Wait until something has come, or another task closes it. Raise TimeoutError."""
        loop = running_asyncio_loop()
        if loop is not None:
            # anyio's wait in a cancel scope takes a tenth of the time of a small message.
            waiter: asyncio.Future[bool] = loop.create_future()
            try:
                loop.add_reader(self._raw, _end, waiter, True)
            except NotImplementedError:  # the proactor loop of Windows
                pass
            else:
                self._waiter = waiter
                await self._wait_for(waiter, loop, wait)
                return
        with time_limit(wait):
            await self._until(anyio.wait_readable)

    async def _wait_for(self, waiter: asyncio.Future[bool], loop: asyncio.AbstractEventLoop, wait: Wait) -> None:
        self._turns = 0
        limit = loop.call_later(wait.seconds, _end, waiter, False)
        try:
            if not await waiter:
                raise TimeoutError(wait.message)
        finally:
            limit.cancel()
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        """Have a task that waits in asyncio try again; the loop must not know of the socket when it is closed."""
        waiter, self._waiter = self._waiter, None
        # After a fork the loop is the other process's too.
        if waiter is not None and self.is_own():
            waiter.get_loop().remove_reader(self._raw)
            _end(waiter, True)

    async def _until(self, ready: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._turns = 0
        # If another task closes it meanwhile, the next try says so.
        with contextlib.suppress(anyio.ClosedResourceError):
            await ready(self._raw)

    async def _until_either(self) -> None:
        async def first(ready: Callable[[socket.socket], Awaitable[None]]) -> None:
            await self._until(ready)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(first, anyio.wait_readable)
            group.start_soon(first, anyio.wait_writable)


def _end(waiter: asyncio.Future[bool], is_ready: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_ready)


async def _resolve(host: str, port: int, limit: Limit) -> list[Address]:
    if found := literal_addresses(host, port):
        return found
    lookup = NameLookup(host, port)
    try:
        with time_limit(limit.next_wait()):
            await anyio.wait_readable(lookup.ended)
        return lookup.addresses()
    finally:
        lookup.close()


async def _connect_first(addresses: Sequence[Address], limit: Limit) -> socket.socket:
    """As in `sockets.py`."""
    failure = OSError("the name has no address")
    connected: list[socket.socket] = []

    async def connect(address: Address, ended: anyio.Event) -> None:
        nonlocal failure
        try:
            raw = start_connecting(address)
            try:
                await anyio.wait_writable(raw)
                check_connected(raw)
            except BaseException:
                raw.close()
                raise
            connected.append(raw)
            group.cancel_scope.cancel()
        except OSError as error:
            failure = error
        finally:
            ended.set()

    try:
        with time_limit(limit.next_wait()):
            async with anyio.create_task_group() as group:
                for number, address in enumerate(addresses, 1):
                    ended = anyio.Event()
                    group.start_soon(connect, address, ended)
                    if number < len(addresses):
                        with anyio.move_on_after(NEXT_ADDRESS_SECONDS):
                            await ended.wait()
        if not connected:
            raise failure
        return connected.pop(0)
    finally:
        for raw in connected:
            raw.close()
