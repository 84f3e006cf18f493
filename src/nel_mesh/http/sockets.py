"""TCP connections of the blocking client: non-blocking sockets, and a limit to every wait."""

from __future__ import annotations

import _thread
import contextlib
import dataclasses
import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from nel_mesh.http.limits import Limit, Wait
from nel_mesh.http.tls import BLOCK_BYTES

_IDLE_LIMIT_SECONDS = 5.0
"""A connection that was idle for longer is not used again: the server may be about to close it."""

NEXT_ADDRESS_SECONDS = 0.25
"""How long one address has before the next one is tried beside it (RFC 8305, 5)."""

Address = tuple[Any, Any, int, str, Any]
"""Family, type, protocol, name and address, as `socket.getaddrinfo` returns them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """How to reach one server.

    Attributes:
        url: scheme, host, port and leading path.
        ssl_context: for TLS; None for plain HTTP.
        proxy: the proxy's URL, with user and password if it needs them; None for none.
        proxy_ssl_context: for TLS to the proxy, if its URL is https.
        connect_timeout_in_seconds: for name resolution, TCP and TLS together.
        read_timeout_in_seconds: for each wait for bytes to come.
        write_timeout_in_seconds: for each wait for bytes to go.
        response_head_timeout_in_seconds: for the whole head of a response, once the request has gone.
        min_bytes_per_second: the lowest speed of a body, in either direction, over `speed_window_in_seconds`.
        max_connections: how many are open at once; a further request waits for one, as long as a read may.
        advice: what to look at first if the server hangs up without a word.
    """

    url: str
    ssl_context: ssl.SSLContext | None
    proxy: str | None = dataclasses.field(repr=False)
    proxy_ssl_context: ssl.SSLContext | None = None
    connect_timeout_in_seconds: float
    read_timeout_in_seconds: float
    write_timeout_in_seconds: float
    response_head_timeout_in_seconds: float
    min_bytes_per_second: float
    speed_window_in_seconds: float = 60.0
    max_connections: int
    advice: str = ""


class NonBlockingSocket:
    """The part of a connected socket that does not wait."""

    def __init__(self, raw: socket.socket) -> None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = raw
        self._buffer = memoryview(bytearray(BLOCK_BYTES))
        self._used = time.monotonic()
        self._process = os.getpid()
        self._is_quiet = False
        """Whether it was just found that nothing has come."""
        self._awaits_response = False
        """Whether something was sent since the last time that something came."""

    def touch(self) -> None:
        """Note that it has just been used."""
        self._used = time.monotonic()

    def is_usable(self) -> bool:
        """Return whether it can carry another exchange: used lately, and the other side neither closed nor spoke."""
        if time.monotonic() - self._used >= _IDLE_LIMIT_SECONDS or not self.is_own():
            return False
        self._is_quiet = not self._is_readable()
        return self._is_quiet

    def is_own(self) -> bool:
        """Return whether this process made it; a fork copies it, and it stays the other process's."""
        return self._process == os.getpid()

    def _is_readable(self) -> bool:
        try:
            self._raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass  # to be raised by the next call
        return True

    def _try_receive(self) -> memoryview | None:
        """Return what has come, valid until the next call; None if there is nothing yet, or hardly can be."""
        self._check_own()
        if self._awaits_response:
            self._awaits_response = False
            return None
        try:
            return self._buffer[: self._raw.recv_into(self._buffer)]
        except BlockingIOError:
            return None

    def _try_send(self, data: memoryview) -> int | None:
        """Send what can go at once and return its length; 0 if something has come first, None if nothing can go."""
        self._check_own()
        if not self._is_quiet and self._is_readable():
            return 0
        self._is_quiet = False
        try:
            length = self._raw.send(data)
        except BlockingIOError:
            return None
        self._awaits_response = True
        return length

    def _check_own(self) -> None:
        if not self.is_own():
            raise OSError("the connection belongs to the process that forked this one")

    def _shut_down(self) -> None:
        """End the connection, and wake up a thread that waits for it."""
        if self.is_own():
            with contextlib.suppress(OSError):
                self._raw.shutdown(socket.SHUT_RDWR)


class Socket(NonBlockingSocket):
    """A TCP connection. Its methods raise OSError, and TimeoutError for a wait that was too long."""

    @classmethod
    def connect(cls, host: str, port: int, limit: Limit) -> Socket:
        """Open a connection to the host's address that answers first."""
        return cls(_connect_first(resolve(host, port, limit), limit))

    def receive(self, wait: Wait) -> memoryview:
        """Return what comes, valid until the next call; b"" if the other side has closed."""
        while (block := self._try_receive()) is None:
            _wait_for(self._raw, wait, to_write=False)
        return block

    def send(self, data: memoryview, wait: Wait) -> int:
        """Send some of it and return its length; 0 if something has come first."""
        while (length := self._try_send(data)) is None:
            _wait_for(self._raw, wait, to_write=True)
        return length

    def close(self) -> None:
        """Close it; a thread that waits for it wakes up."""
        self._shut_down()
        self._raw.close()


class NameLookup:
    """The addresses of a name, asked for in a thread: the system's resolver has no time limit and no interruption."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._found: list[Address] = []
        self._failure: OSError | None = None
        self.ended, self._theirs = socket.socketpair()
        """Readable once the answer is there."""
        self.ended.setblocking(False)
        try:
            # Not threading.Thread: an interrupt in its start can leave a lock of that module held for ever.
            _thread.start_new_thread(self._run, ())
        except RuntimeError as error:
            self.close()
            self._theirs.close()
            raise OSError(f"{host} cannot be looked up: {error}") from error

    def _run(self) -> None:
        try:
            self._found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            self._failure = error
        except UnicodeError as error:
            self._failure = OSError(f"{self._host} is not a name: {error}")
        finally:
            self._theirs.close()

    def addresses(self) -> list[Address]:
        """Return what was found, once it has ended. Raise OSError."""
        if self._failure is not None:
            raise self._failure
        return self._found

    def close(self) -> None:
        """Stop waiting for the answer."""
        self.ended.close()


def literal_addresses(host: str, port: int) -> list[Address]:
    """Return the address that the host is already; nothing if it is a name."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []


def start_connecting(address: Address) -> socket.socket:
    """Return a socket that connects to an address, and is writable when that has ended."""
    family, kind, protocol, _, place = address
    raw = socket.socket(family, kind, protocol)
    try:
        raw.setblocking(False)
        _check(raw.connect_ex(place), *_UNDER_WAY)
    except BaseException:
        raw.close()
        raise
    return raw


def check_connected(raw: socket.socket) -> None:
    """Raise OSError if the connection could not be made."""
    _check(raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def _check(error: int, *harmless: int) -> None:
    if error and error not in harmless:
        raise OSError(error, os.strerror(error))


_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", 0))


def resolve(host: str, port: int, limit: Limit) -> list[Address]:
    """Return the addresses of a host. Raise OSError."""
    if found := literal_addresses(host, port):
        return found
    lookup = NameLookup(host, port)
    try:
        _wait_for(lookup.ended, limit.next_wait(), to_write=False)
        return lookup.addresses()
    finally:
        lookup.close()


def _connect_first(addresses: Sequence[Address], limit: Limit) -> socket.socket:
    """Connect to the address that answers first, each tried a moment after the one before (RFC 8305)."""
    failure = OSError("the name has no address")
    left = list(addresses)
    begun: list[socket.socket] = []
    try:
        while left or begun:
            if left:
                try:
                    begun.append(start_connecting(left.pop(0)))
                except OSError as error:
                    failure = error
                    continue
            wait = limit.next_wait()
            for raw in _wait((), begun, min(wait.seconds, NEXT_ADDRESS_SECONDS) if left else wait.seconds):
                begun.remove(raw)
                try:
                    check_connected(raw)
                except OSError as error:
                    failure = error
                    raw.close()
                else:
                    return raw
    finally:
        for raw in begun:
            raw.close()
    raise failure


def _wait_for(raw: socket.socket, wait: Wait, *, to_write: bool) -> None:
    """Wait until a socket is readable, or writable as well if that is asked for. Raise TimeoutError."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(_descriptor(raw), select.POLLIN | select.POLLOUT * to_write)
        is_ready = bool(poll.poll(_milliseconds(wait.seconds)))
    else:  # pragma: no cover - Windows
        is_ready = bool(_wait((raw,), (raw,) if to_write else (), wait.seconds))
    if not is_ready:
        raise TimeoutError(wait.message)


def _wait(readers: Sequence[socket.socket], writers: Sequence[socket.socket], seconds: float) -> list[socket.socket]:
    """Wait until one of these sockets is ready, or has failed; return those that are."""
    if not hasattr(select, "poll"):  # pragma: no cover - Windows
        ready = select.select(readers, writers, writers, seconds)
        return [raw for raw in {*readers, *writers} if any(raw in one for one in ready)]
    poll = select.poll()
    sockets = {_descriptor(raw): raw for raw in (*readers, *writers)}
    for number, raw in sockets.items():
        poll.register(number, select.POLLIN * (raw in readers) | select.POLLOUT * (raw in writers))
    return [sockets[number] for number, _ in poll.poll(_milliseconds(seconds))]


def _descriptor(raw: socket.socket) -> int:
    number = raw.fileno()
    if number < 0:
        raise OSError(errno.EBADF, "the connection was closed")
    return number


def _milliseconds(seconds: float) -> int:
    # A limit below a millisecond is no reason to spin.
    return max(1, round(seconds * 1000)) if seconds else 0
