"""Bytes to and from one server: TCP and TLS with a limit to every wait, and the network's failures in our words."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import anyio
import anyio.abc

from nel_mesh.errors import ConnectionFailed, ConnectionLost

NETWORK_BLOCK = 112 * 1024
"""How many bytes are taken from the network at a time, at most."""

_IDLE_LIMIT_IN_SECONDS = 5.0
"""A connection that has not been used for longer is not used again: the server may be about to close it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
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


class Wait(NamedTuple):
    """How long one wait may take, and what to say if it takes longer."""

    seconds: float
    otherwise: str


class Deadline:
    """The end of the time for several steps together."""

    def __init__(self, seconds: float, otherwise: str) -> None:
        self._end = time.monotonic() + seconds
        self._otherwise = otherwise

    def left(self) -> Wait:
        """What is left of it. Raises TimeoutError if nothing is."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError(self._otherwise)
        return Wait(seconds, self._otherwise)


class Tls:
    """The TLS side of a connection, as bytes in and bytes out; any stream can carry them, even another TLS."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._read: Callable[[int, memoryview], int] = cast("Any", self._object.read)
        self._buffer = memoryview(bytearray(NETWORK_BLOCK))
        self._failure: ssl.SSLError | None = None
        self.ended = False
        """Whether the other side has said, or shown, that nothing more will come."""

    def shake_hands(self) -> bool:
        """Goes on with the handshake; True when it is done. Raises ssl.SSLError if it cannot be."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        """Takes what has come; b"" for the stream's end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        """What must go to the other side."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> int:
        """Turns data into bytes to send; how much of it. 0 if something must come first."""
        try:
            return self._object.write(data)
        except ssl.SSLWantReadError:
            return 0

    def decrypt(self) -> bytes:
        """What of the content can be had from what has come; b"" if there is none (yet). Raises ssl.SSLError."""
        if self._failure is not None:
            raise self._failure
        length = 0
        try:
            # OpenSSL gives one record of 16 KiB at a time.
            while length < NETWORK_BLOCK:
                read = self._read(NETWORK_BLOCK - length, self._buffer[length:])
                if not read:
                    self.ended = True
                    break
                length += read
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        except ssl.SSLError as error:
            # OpenSSL says it once, and calls it the end when asked again.
            self._failure = error
            if not length:
                raise
            # What came before it counts: it may be the whole answer.
        return bytes(self._buffer[:length])

    def is_quiet(self) -> bool:
        """Whether all that has come has been handed out, and nothing says that it is over."""
        over = self.ended or self._failure is not None
        return not (over or self._incoming.pending or self._object.pending())


class _Socket:
    """What both variants know of a socket."""

    def __init__(self) -> None:
        self._used = time.monotonic()
        self._process = os.getpid()

    def _fileno(self) -> int:
        raise NotImplementedError

    def touch(self) -> None:
        """Notes that it has just been used."""
        self._used = time.monotonic()

    def is_usable(self) -> bool:
        """Whether it may carry another exchange: used lately, and not closed, nor spoken on, by the other side."""
        return (
            time.monotonic() - self._used < _IDLE_LIMIT_IN_SECONDS
            and self._is_own()
            and not _is_readable(self._fileno())
        )

    def _is_own(self) -> bool:
        """Whether it was made here; one that a fork has copied is still the other process's."""
        return self._process == os.getpid()


class Socket(_Socket):
    """A TCP connection; sync. Raises OSError, and TimeoutError for a wait that was too long."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__()
        self._raw = raw
        self._buffer = memoryview(bytearray(NETWORK_BLOCK))

    @classmethod
    def connect(cls, host: str, port: int, wait: Wait) -> Socket:
        """Opens a connection, to the first of the host's addresses that answers."""
        until = Deadline(*wait)
        failure = OSError("the name has no address")
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            # Each has its share of the time, or one that is never heard of would leave none for the next, and for TLS.
            share = until.left().seconds / (len(addresses) - number)
            try:
                return cls(_connected(family, kind, protocol, address, share))
            except OSError as error:
                failure = TimeoutError(wait.otherwise) if isinstance(error, TimeoutError) else error
        raise failure

    def receive(self, wait: Wait) -> bytes:
        """What has come; b"" if the other side has closed."""
        self._raw.settimeout(wait.seconds)
        try:
            length = self._raw.recv_into(self._buffer)
        except TimeoutError:
            raise TimeoutError(wait.otherwise) from None
        return bytes(self._buffer[:length])

    def send(self, data: bytes, wait: Wait) -> None:
        """Sends all of it; the limit is for each wait."""
        view = memoryview(data)
        self._raw.settimeout(wait.seconds)
        try:
            while view:
                view = view[self._raw.send(view) :]
        except TimeoutError:
            raise TimeoutError(wait.otherwise) from None

    def close(self) -> None:
        """Closes it; a thread that waits for it wakes up."""
        if self._is_own():
            with contextlib.suppress(OSError):
                self._raw.shutdown(socket.SHUT_RDWR)
        self._raw.close()

    def _fileno(self) -> int:
        return self._raw.fileno()


class AsyncSocket(_Socket):
    """As `Socket`, under asyncio or trio."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        super().__init__()
        self._stream = stream

    @classmethod
    async def connect(cls, host: str, port: int, wait: Wait) -> AsyncSocket:
        """As `Socket.connect`."""
        with _limit(wait):
            return cls(await anyio.connect_tcp(host, port))

    async def receive(self, wait: Wait) -> bytes:
        """As `Socket.receive`."""
        with _limit(wait), _as_os_error():
            try:
                return await self._stream.receive(NETWORK_BLOCK)
            except anyio.EndOfStream:
                return b""

    async def send(self, data: bytes, wait: Wait) -> None:
        """As `Socket.send`."""
        with _limit(wait), _as_os_error():
            await self._stream.send(data)

    async def close(self) -> None:
        """Closes it, even when the task is being cancelled."""
        # Not `aclose_forcefully`: where it is cancelled, older versions of anyio go on sending what is in their buffer.
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()

    def _fileno(self) -> int:
        return self._stream.extra(anyio.abc.SocketAttribute.raw_socket).fileno()  # noqa: S610 - not Django's


class Turns:
    """A number of turns, so that no more than so many have one at once; for threads."""

    def __init__(self, number: int) -> None:
        self._free = threading.Semaphore(number)

    def take(self, wait: Wait) -> None:
        """Waits for a turn. Raises TimeoutError."""
        if not self._free.acquire(timeout=wait.seconds):
            raise TimeoutError(wait.otherwise)

    def give_back(self) -> None:
        """Ends a turn."""
        self._free.release()


class AsyncTurns:
    """As `Turns`, for tasks."""

    def __init__(self, number: int) -> None:
        self._free = anyio.Semaphore(number)

    async def take(self, wait: Wait) -> None:
        """As `Turns.take`."""
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            with _limit(wait):
                await self._free.acquire()

    def give_back(self) -> None:
        """As `Turns.give_back`."""
        self._free.release()


@contextlib.contextmanager
def _limit(wait: Wait) -> Iterator[None]:
    with anyio.move_on_after(wait.seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimeoutError(wait.otherwise)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        cause = error.__cause__ or error.__context__
        raise cause if isinstance(cause, OSError) else ConnectionResetError(str(error)) from None


def _connected(family: int, kind: int, protocol: int, address: Any, seconds: float) -> socket.socket:
    raw = socket.socket(family, kind, protocol)
    try:
        raw.settimeout(seconds)
        raw.connect(address)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        raw.close()
        raise
    return raw


def _is_readable(descriptor: int) -> bool:
    if descriptor < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])  # pragma: no cover - Windows


@contextlib.contextmanager
def translate_connect_errors(where: str) -> Iterator[None]:
    """Says of a failure while a connection is made that nothing was sent: ConnectionFailed."""
    try:
        yield
    except (OSError, ProxyRefused) as error:
        failed = ConnectionFailed(_what(error, f"no connection could be made to {where}"))
        # A server that hangs up in the middle has said nothing of our certificate.
        failed.transient = not isinstance(error, ssl.SSLError) or isinstance(error, _HUNG_UP)
        raise failed from error


_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class ProxyRefused(Exception):
    """The proxy will not connect us."""


@contextlib.contextmanager
def translate_transfer_errors(*also: type[Exception], advice: str = "", fresh: bool = False) -> Iterator[None]:
    """Says of a failure on an open connection that it broke: ConnectionLost.

    `also` are what else than the network's own failures means that. While the connection is `fresh`, and nothing has
    been answered on it, an alert may say that the server refuses our certificate: ConnectionFailed.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except kinds as error:
        if fresh and _is_certificate_refused(error):
            failed = ConnectionFailed(_what(error, "TLS failed"))
            failed.transient = False
            raise failed from error
        raise ConnectionLost(_what(error, "the connection broke", advice)) from error


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


def _is_certificate_refused(error: Exception) -> bool:
    """In TLS 1.3 a server that refuses our certificate says so only after the handshake, with an alert."""
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and any(word in reason for word in _CERTIFICATE_ALERTS)


def _what(error: Exception, otherwise: str, advice: str = "") -> str:
    """The failure in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        word = error.reason.lower().replace("_", " ")
        refused = "; the server refuses our certificate, or wants one" if _is_certificate_refused(error) else ""
        return f"TLS failed: {word}{refused}"
    if isinstance(error, TimeoutError) and not error.errno:
        return str(error) or otherwise
    text = str(error)
    return "; ".join(filter(None, (f"{otherwise}: {text}" if text else otherwise, advice)))
