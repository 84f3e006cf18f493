"""HTTP/1.1 requests over one pool of connections. The only module that knows the HTTP package and its exceptions."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import ssl
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from urllib.parse import urlsplit

import httpx2

from nel_mesh.errors import ConnectionFailed, ConnectionLost

_NOT_CONNECTED = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach one server.

    Attributes:
        url: scheme, host, port and leading path.
        ssl_context: for TLS; None for plain HTTP.
        proxy: the proxy's URL, with user and password if it needs them; None for none.
        connect_timeout_in_seconds: for name resolution, TCP and TLS together.
        read_timeout_in_seconds: for each wait for bytes to come.
        write_timeout_in_seconds: for each wait for bytes to go.
        max_connections: how many are open at once; a further request waits for one, as long as a read may.
        advice: what to look at first if the server hangs up without a word.
    """

    url: str
    ssl_context: ssl.SSLContext | None
    proxy: str | None = dataclasses.field(repr=False)
    connect_timeout_in_seconds: float
    read_timeout_in_seconds: float
    write_timeout_in_seconds: float
    max_connections: int
    advice: str = ""

    def timeout(self) -> httpx2.Timeout:
        return httpx2.Timeout(
            connect=self.connect_timeout_in_seconds,
            read=self.read_timeout_in_seconds,
            write=self.write_timeout_in_seconds,
            pool=self.read_timeout_in_seconds,
        )

    def limits(self) -> httpx2.Limits:
        return httpx2.Limits(max_connections=self.max_connections, max_keepalive_connections=self.max_connections)

    def verify(self) -> ssl.SSLContext:
        # Over plain HTTP no context is used, but the package would load the system's certificates to make one.
        return self.ssl_context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Sent:
    """Counts a body's bytes as they go, to tell whether the server may have the whole request."""

    def __init__(self, blocks: Iterable[bytes], length: int) -> None:
        self._blocks = iter(blocks)
        self.left = length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        # Before, not after: once handed over, the network may deliver it whatever is said of it here.
        self.left -= len(block)
        return block


class _AsyncSent:
    """As `_Sent`. Not a generator: one that is abandoned halfway is cleaned up anywhen."""

    def __init__(self, blocks: AsyncIterable[bytes], length: int) -> None:
        self._blocks = aiter(blocks)
        self.left = length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        block = await anext(self._blocks)
        self.left -= len(block)
        return block


class _NotOurRequests(logging.Filter):
    """Keeps the HTTP packages from logging our requests: their headers hold tokens and patient data."""

    ours: ContextVar[bool] = ContextVar("nel_mesh_request", default=False)

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.ours.get()


_filter = _NotOurRequests()
for _name in ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks"))):
    logging.getLogger(_name).addFilter(_filter)


@contextlib.contextmanager
def _translated(sent: _Sent | _AsyncSent | None = None, to: Connection | None = None) -> Iterator[None]:
    """Turns the HTTP package's exceptions into ours; lets everything else through as what it is.

    With `to` while a request is under way to it; without while its answer is read.
    """
    # What the caller is handling already is in the context of every exception raised here, and says nothing of it.
    ambient = sys.exc_info()[1]
    token = _NotOurRequests.ours.set(True)
    try:
        yield
    # Under asyncio an alert that comes with the answer leaves the package as what TLS raised.
    except (httpx2.TransportError, ssl.SSLError) as error:
        causes = _causes(error, ambient)
        for cause in causes:
            if isinstance(cause, httpx2.RequestError):
                # The request's headers hold the token, and may hold patient data.
                cause._request = None
        if to is not None and (isinstance(error, _NOT_CONNECTED) or _is_certificate_refused(causes)):
            failed = ConnectionFailed(_what(error, causes, f"no connection could be made to {urlsplit(to.url).netloc}"))
            failed.transient = not any(isinstance(cause, ssl.SSLError) for cause in causes)
            raise failed from error
        lost = ConnectionLost(_what(error, causes, "the connection broke", to.advice if to else ""))
        lost.request_complete = sent is None or sent.left <= 0
        raise lost from error
    finally:
        _NotOurRequests.ours.reset(token)


_CERTIFICATE_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "HANDSHAKE_FAILURE",
)


def _is_certificate_refused(causes: list[BaseException]) -> bool:
    """In TLS 1.3 a server that refuses our certificate says so only after the handshake, with an alert."""
    return any(
        isinstance(cause, ssl.SSLError)
        and "ALERT" in (cause.reason or "")
        and any(word in cause.reason for word in _CERTIFICATE_ALERTS)
        for cause in causes
    )


def _causes(error: BaseException, ambient: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause is not ambient and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _what(error: BaseException, causes: list[BaseException], otherwise: str, advice: str = "") -> str:
    """The failure in one line: the first text that the package or the operating system has for it."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError) and cause.reason:
            word = cause.reason.lower().replace("_", " ")
            refused = "; the server refuses our certificate, or wants one" if _is_certificate_refused(causes) else ""
            return f"TLS failed: {word}{refused}"
    if isinstance(error, httpx2.TimeoutException):
        return {
            httpx2.ConnectTimeout: "no connection within the connect timeout",
            httpx2.ReadTimeout: "nothing came within the read timeout",
            httpx2.WriteTimeout: "nothing could be sent within the write timeout",
            httpx2.PoolTimeout: "no connection became free; raise max_connections or make fewer calls at once",
        }.get(type(error), otherwise)
    text = next((str(cause) for cause in causes if str(cause)), "")
    return "; ".join(filter(None, (f"{otherwise}: {text}" if text else otherwise, advice)))


def _check_complete(sent: _Sent | _AsyncSent | None, status: int) -> None:
    """A server that says that it took what it cannot have is not to be believed, in either direction."""
    if sent is not None and sent.left > 0 and 200 <= status < 300:
        lost = ConnectionLost("the server answered with success before it had the whole request")
        lost.request_complete = True
        raise lost


class _Answer:
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        """By lower-case name."""
        self.body = b""
        """What `read` has read."""
        self._arrived = 0

    @property
    def share(self) -> float:
        """How much of the body has arrived, from 0 to 1; 0 if its length was not announced."""
        announced = self.headers.get("content-length", "")
        return min(1.0, self._arrived / int(announced)) if announced.isdigit() and int(announced) else 0.0

    def _count(self, block: bytes | None) -> bytes | None:
        self._arrived += len(block or b"")
        return block

    @property
    def is_delimited(self) -> bool:
        """Whether the body's end is announced, so that its lack would be noticed."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers


class Answer(_Answer):
    """A server's answer, its body still to be read."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__(response)
        self._blocks = response.iter_raw()

    def next_block(self) -> bytes | None:
        """The next block of the body as it is on the wire; None at its end.

        Raises ConnectionLost if it ends short of what was announced.
        """
        with _translated():
            return self._count(next(self._blocks, None))

    def read(self, limit: int) -> None:
        """Reads the body, or about its first `limit` bytes, into `body`, and closes."""
        parts = bytearray()
        try:
            while len(parts) < limit and (block := self.next_block()) is not None:
                parts += block
        finally:
            self.body = bytes(parts)
            self.close()

    def close(self) -> None:
        """Gives the connection back, or drops it if the body was not read to its end."""
        self._response.close()


class HttpBroker:
    """Sync HTTP. May be shared between threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = httpx2.Client(
            verify=connection.verify(),
            proxy=connection.proxy,
            timeout=connection.timeout(),
            limits=connection.limits(),
            trust_env=False,
        )

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | None = None,
        length: int = 0,
    ) -> Answer:
        """Sends one request, its body in blocks that add up to `length`, and waits for the answer's head.

        Raises ConnectionFailed or ConnectionLost.
        """
        sent = None if body is None else _Sent(body, length)
        request = self._client.build_request(
            method,
            self._connection.url + path,
            headers={**headers, "content-length": str(length)} if body is not None else dict(headers),
            content=sent,
        )
        with _translated(sent, self._connection):
            answer = Answer(self._client.send(request, stream=True))
        try:
            _check_complete(sent, answer.status)
        except ConnectionLost:
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Closes every connection."""
        self._client.close()


class AsyncAnswer(_Answer):
    """A server's answer, its body still to be read."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__(response)
        self._blocks = response.aiter_raw()

    async def next_block(self) -> bytes | None:
        """The next block of the body as it is on the wire; None at its end.

        Raises ConnectionLost if it ends short of what was announced.
        """
        with _translated():
            return self._count(await anext(self._blocks, None))

    async def read(self, limit: int) -> None:
        """Reads the body, or about its first `limit` bytes, into `body`, and closes."""
        parts = bytearray()
        try:
            while len(parts) < limit and (block := await self.next_block()) is not None:
                parts += block
        finally:
            self.body = bytes(parts)
            await self.close()

    async def close(self) -> None:
        """Gives the connection back, or drops it if the body was not read to its end."""
        await self._response.aclose()
        # The iterator as well: an async generator that is left to the garbage collector is cleaned up anywhen.
        await self._blocks.aclose()


class AsyncHttpBroker:
    """Async HTTP, under asyncio or trio. May be shared between tasks of one event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = httpx2.AsyncClient(
            verify=connection.verify(),
            proxy=connection.proxy,
            timeout=connection.timeout(),
            limits=connection.limits(),
            trust_env=False,
        )

    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: AsyncIterable[bytes] | None = None,
        length: int = 0,
    ) -> AsyncAnswer:
        """Sends one request, its body in blocks that add up to `length`, and waits for the answer's head.

        Raises ConnectionFailed or ConnectionLost.
        """
        sent = None if body is None else _AsyncSent(body, length)
        request = self._client.build_request(
            method,
            self._connection.url + path,
            headers={**headers, "content-length": str(length)} if body is not None else dict(headers),
            content=sent,
        )
        with _translated(sent, self._connection):
            answer = AsyncAnswer(await self._client.send(request, stream=True))
        try:
            _check_complete(sent, answer.status)
        except ConnectionLost:
            await answer.close()
            raise
        return answer

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.aclose()
