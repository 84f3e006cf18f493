"""HTTP/1.1 requests over one pool of connections to one server."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from urllib.parse import urlsplit

from nel_mesh.blocks import Block
from nel_mesh.errors import ConnectionFailed, ConnectionLost, InvalidArgument
from nel_mesh.http.async_slots import AsyncConnectionSlots
from nel_mesh.http.async_sockets import AsyncSocket
from nel_mesh.http.exchange import Exchange, ProtocolError, header_lines
from nel_mesh.http.limits import Deadline, EachWait, Limit, Pace, Wait
from nel_mesh.http.proxy import Origin, Proxy, ProxyRefused
from nel_mesh.http.slots import Slot
from nel_mesh.http.sockets import TransportOptions
from nel_mesh.http.translation import CONNECT_ERRORS, TRANSFER_ERRORS, connect_error, transfer_error

from .connection import AsyncConnection

_COALESCE_LIMIT_BYTES = 16 * 1024
"""A first block of a body up to this length goes with the head: one packet, and one TLS record."""

_WITH_BODY = frozenset({"POST", "PUT"})
"""Methods whose request says that its body is empty; some servers answer 411 to one that does not."""


class _AsyncBody:
    """The body of a request: as much of it as was announced, and no less."""

    def __init__(self, blocks: AsyncIterable[bytes], length: int) -> None:
        self._blocks: AsyncIterator[bytes] = aiter(blocks)
        self._left = length

    async def next_block(self) -> bytes:
        """Return the next block; b"" after the last."""
        if not self._left:
            return b""
        block = await anext(self._blocks, b"")
        self._left -= len(block)
        if not block or self._left < 0:
            # More would be taken for the next request; for less the server would wait.
            raise ValueError("a body that is not as long as announced")
        return block


class AsyncResponse:
    """A server's response, its body still to be read."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        slot: Slot[AsyncConnection],
        connection: AsyncConnection,
        exchange: Exchange,
        limit: Limit,
        *,
        reusable: bool,
    ) -> None:
        self._pool = pool
        self._slot = slot
        self._connection = connection
        self._exchange = exchange
        self._limit = limit
        self._reusable = reusable
        self._closed = False
        self._received = 0
        self.status = exchange.status
        self.headers: Mapping[str, str] = exchange.headers
        """By lower-case name."""
        self.body = b""
        """What `read` has read."""

    @property
    def announced_length(self) -> int | None:
        """How long the body is said to be; None if that is not said."""
        announced = self.headers.get("content-length", "")
        return int(announced) if announced.isdigit() else None

    @property
    def fraction_received(self) -> float:
        """How much of the body has come, from 0 to 1; 0 if its length was not announced."""
        return min(1.0, self._received / announced) if (announced := self.announced_length) else 0.0

    @property
    def is_delimited(self) -> bool:
        """Whether the body's end is announced, so that its lack would be noticed."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    def verified_chain(self) -> list[bytes]:
        """Return the server's certificates as they were verified, DER, the root last; [] without TLS."""
        return self._connection.verified_chain()

    async def next_block(self, into: memoryview | None = None) -> Block | None:
        """Return the next block of the body as it is on the wire, valid until the next call; None at its end.

        A block can be a part of `into`, if that is given: then nothing was copied.
        Raise ConnectionLost if it ends short of its announced length, or comes too slowly.
        """
        if self._closed and not self._exchange.complete:
            raise ConnectionLost("the response was closed before its end was read")
        try:
            while not (block := self._exchange.block()):
                if self._exchange.complete:
                    return None
                self._exchange.feed(await self._connection.receive(self._limit, into))
        except TRANSFER_ERRORS as error:
            raise transfer_error(error) from error
        self._received += len(block)
        return block

    async def read(self, limit: int) -> bool:
        """Read the body, or about its first `limit` bytes, into `body`, and close. Return whether it is all there."""
        parts = bytearray()
        try:
            while (block := await self.next_block()) is not None:
                parts += block
                if len(parts) > limit:
                    return False
        finally:
            self.body = bytes(parts[:limit])
            await self.close()
        return True

    async def close(self) -> None:
        """Give the connection back, or drop it if the body was not read to its end."""
        if self._closed:
            return
        self._closed = True
        reusable = self._reusable and self._exchange.complete and self._exchange.reusable
        await self._pool.release(self._slot, reusable=reusable)


class AsyncConnectionPool:
    """HTTP to one server, over a pool of connections; for all threads, or for all tasks of one event loop."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._path = urlsplit(options.url).path
        self._server = Origin.parse(options.url)
        self._authority = self._server.authority
        self._proxy = Proxy.parse(options.proxy) if options.proxy else None
        self._by_proxy = f"{self._server} by the proxy {self._proxy.origin}" if self._proxy else str(self._server)
        to_proxy = self._proxy.headers if self._proxy and not self._server.is_tls else {}
        self._prepared = header_lines([("host", self._authority), *to_proxy.items()])
        if options.ssl_context is not None:
            options.ssl_context.set_alpn_protocols(["http/1.1"])
        self._read_wait = Wait(options.read_timeout_in_seconds, "nothing came within the read timeout")
        self._write_wait = Wait(options.write_timeout_in_seconds, "nothing could be sent within the write timeout")
        self._slot_wait = Wait(
            options.read_timeout_in_seconds,
            "no connection became free; raise max_connections or make fewer calls at once",
        )
        self._head_wait = Wait(
            options.response_head_timeout_in_seconds,
            "no whole head of a response within response_head_timeout_in_seconds",
        )
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._idle: deque[AsyncConnection] = deque()
        self._slots = AsyncConnectionSlots[AsyncConnection](self._options.max_connections)

    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: AsyncIterable[bytes] | None = None,
        length: int = 0,
        *,
        prepared: bytes = b"",
    ) -> AsyncResponse:
        """Send one request, its body in blocks that add up to `length`, and wait for the head of the response.

        `prepared`: headers from `header_lines`, besides the others. Raise ConnectionFailed or ConnectionLost.
        """
        self._check_open()
        if self._process != os.getpid():
            await self._start_in_fork()
        blocks = None if body is None else _AsyncBody(body, length)
        try:
            slot = await self._slots.acquire(self._slot_wait)
        except CONNECT_ERRORS as error:
            raise connect_error(error, self._by_proxy) from error
        try:
            connection = await self._idle_connection() or await self._connect(slot)
            slot.connection = connection
            # Again: a pool that is closed meanwhile does not know of this connection.
            self._check_open()
            exchange = self._exchange(method, path, headers, None if body is None else length, prepared)
            whole = await self._perform(connection, exchange, blocks)
            self._check_head(exchange, whole=whole)
        except BaseException:
            await self.release(slot, reusable=False)
            raise
        # A refusal may come before the server has read the body, which it may take for the next request.
        reusable = whole and (not length or exchange.status < 300)
        return AsyncResponse(self, slot, connection, exchange, self._pace(self._read_wait), reusable=reusable)

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidArgument("the client has been closed; make another one")

    async def _start_in_fork(self) -> None:
        """Leave the connections, and the slots of threads that do not exist here, to the parent process."""
        connections = [*self._idle.copy(), *self._slots.connections()]
        self._start()
        for connection in connections:
            await connection.close()

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], length: int | None, prepared: bytes
    ) -> Exchange:
        fields = [*headers.items()]
        if length is None and method in _WITH_BODY:
            length = 0
        if length is not None:
            fields.append(("content-length", str(length)))
        target = self._path + path
        if self._proxy and not self._server.is_tls:
            target = f"http://{self._authority}{target}"
        return Exchange(method, target, fields, self._prepared + prepared)

    async def _perform(self, connection: AsyncConnection, exchange: Exchange, body: _AsyncBody | None) -> bool:
        """Send the request and read the head of the response. Return whether the whole request was sent."""
        whole = False
        limit = self._pace(self._write_wait)
        try:
            data, block = exchange.head, await body.next_block() if body else b""
            if len(block) <= _COALESCE_LIMIT_BYTES:
                data, block = data + block, b""
            sent = True
            while data and (sent := await self._is_sent(connection, data, limit, exchange)):
                data, block = block or (await body.next_block() if body else b""), b""
            whole = sent
            head_limit = Deadline(self._head_wait, each=self._read_wait)
            try:
                while not exchange.status:
                    exchange.feed(await connection.receive(head_limit))
            except TRANSFER_ERRORS as error:
                raise self._transfer_error(error, connection) from error
        except ConnectionLost as lost:
            lost.request_complete = whole
            raise
        return whole

    async def _is_sent(self, connection: AsyncConnection, data: bytes, limit: Limit, exchange: Exchange) -> bool:
        """Send data. Return False if the server has answered before, or takes no more.

        A server may refuse a request before it has all of it, and hang up; then its response is there to be read.
        """

        def is_answered(block: Block) -> bool:
            exchange.feed(block)
            return bool(exchange.status)

        try:
            return await connection.send(data, limit, is_answered)
        except TRANSFER_ERRORS as error:
            failure = self._transfer_error(error, connection)
            try:
                if isinstance(failure, ConnectionFailed) or isinstance(error, (TimeoutError, ProtocolError)):
                    raise failure from error
            finally:
                del failure  # its traceback refers to this frame, and so to what was sent
            return False

    def _transfer_error(
        self, error: OSError | ProtocolError, connection: AsyncConnection
    ) -> ConnectionFailed | ConnectionLost:
        return transfer_error(error, advice=self._options.advice, fresh=connection.fresh)

    def _check_head(self, exchange: Exchange, *, whole: bool) -> None:
        if exchange.status == 407 and self._proxy:
            try:
                self._proxy.check(exchange.status, exchange.headers)
            except ProxyRefused as error:
                raise connect_error(error, self._by_proxy) from error
        if not whole and 200 <= exchange.status < 300:
            # A server that claims to have what it cannot have is not to be believed, in either direction.
            lost = ConnectionLost("the server answered with success before it had the whole request")
            lost.request_complete = True
            raise lost

    def _pace(self, wait: Wait) -> Limit:
        options = self._options
        if not options.min_bytes_per_second:
            return EachWait(wait)
        return Pace(wait, options.min_bytes_per_second, options.speed_window_in_seconds)

    async def _idle_connection(self) -> AsyncConnection | None:
        """Return an idle connection that is usable, the latest used first; close those that will not be used again."""
        while True:
            try:
                # Without asking first: another thread may take the last one in between.
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_usable():
                break
            await connection.close()
        for other in self._idle.copy() if self._idle else ():
            if other.is_usable():
                break
            with contextlib.suppress(ValueError):  # another thread has taken it
                self._idle.remove(other)
                await other.close()
        return connection

    async def _connect(self, slot: Slot[AsyncConnection]) -> AsyncConnection:
        try:
            return await self._open_connection(slot)
        except ConnectionFailed:
            # Closing the pool ends what is under way.
            self._check_open()
            raise

    async def _open_connection(self, slot: Slot[AsyncConnection]) -> AsyncConnection:
        options, proxy = self._options, self._proxy
        limit = Deadline(Wait(options.connect_timeout_in_seconds, "no connection within the connect timeout"))
        first = proxy.origin if proxy else self._server
        try:
            connection = slot.connection = AsyncConnection(await AsyncSocket.connect(first.host, first.port, limit))
            if proxy and options.proxy_ssl_context is not None:
                await connection.start_tls(options.proxy_ssl_context, first.tls_name, limit)
        except CONNECT_ERRORS as error:
            place = f"the proxy {first}" if proxy else str(first)
            raise connect_error(error, place, of_proxy=proxy is not None) from error
        if options.ssl_context is not None:
            try:
                if proxy:
                    await self._tunnel(connection, proxy, limit)
                await connection.start_tls(options.ssl_context, self._server.tls_name, limit)
            except CONNECT_ERRORS as error:
                raise connect_error(error, self._by_proxy) from error
        return connection

    async def _tunnel(self, connection: AsyncConnection, proxy: Proxy, limit: Limit) -> None:
        """Have the proxy connect us. Raise ProxyRefused."""
        exchange = proxy.connect(self._server)
        await connection.send(exchange.head, limit)
        try:
            while not exchange.status:
                exchange.feed(await connection.receive(limit))
        except ProtocolError as error:
            raise ProxyRefused(f"the proxy {proxy.origin} does not answer as a proxy: {error}") from None
        proxy.check(exchange.status, exchange.headers)

    async def release(self, slot: Slot[AsyncConnection], *, reusable: bool) -> None:
        """Give a slot back; its connection is kept for the next request, if it can carry one."""
        connection, slot.connection = slot.connection, None
        try:
            if connection is not None:
                if reusable:
                    connection.touch()
                    self._idle.append(connection)
                # After, as another thread may have closed those that were idle by then.
                if self._closed or not reusable:
                    await connection.close()
        finally:
            self._slots.release(slot)

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for connection in [*self._idle.copy(), *self._slots.connections()]:
            await connection.close()
        self._idle.clear()
