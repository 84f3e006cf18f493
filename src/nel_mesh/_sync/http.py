# Generated from _async/http.py by tools/unasync.py: edit that file, then run `make generate`.
"""HTTP/1.1 requests over one pool of connections to one server."""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from nel_mesh.errors import ConnectionLost, InvalidArgument
from nel_mesh.http.exchange import Exchange, ProtocolError
from nel_mesh.http.sockets import (
    Deadline,
    ProxyRefused,
    Socket,
    Tls,
    TransportOptions,
    Turns,
    Wait,
    translate_connect_errors,
    translate_transfer_errors,
)

_COALESCE_LIMIT_BYTES = 16 * 1024
"""A first block of a body up to this length goes with the head: one packet, and one TLS record."""

_WITH_BODY = frozenset({"POST", "PUT"})
"""Methods whose request says that its body is empty; some servers answer 411 to one that does not."""


class Connection:
    """A connection to the server: TCP, and as many layers of TLS over it as there are."""

    def __init__(self, raw: Socket, below: Connection | None = None, tls: Tls | None = None) -> None:
        self._raw = raw
        self._below = below
        self._tls = tls
        self.fresh = True
        """Whether it has carried no exchange yet."""

    def start_tls(self, context: ssl.SSLContext, host: str, until: Deadline) -> Connection:
        """Lays TLS over what there is. Raises TimeoutError if that is not done `until` then."""
        tls = Tls(context, host)
        try:
            while not tls.shake_hands():
                self._flush(tls, until)
                tls.feed(self.receive(until.left()))
        except ssl.SSLError:
            # The alert that says why. Whether it can still be sent does not matter beside the reason itself.
            with contextlib.suppress(OSError):
                self._flush(tls, until)
            raise
        self._flush(tls, until)
        return Connection(self._raw, self, tls)

    def _flush(self, tls: Tls, until: Deadline) -> None:
        if data := tls.to_send():
            self.send(data, until.left())

    def receive(self, wait: Wait) -> bytes:
        """What has come; b"" if the other side has closed."""
        tls, below = self._tls, self._below
        if tls is None or below is None:
            return self._raw.receive(wait)
        while not (block := tls.decrypt()) and not tls.ended:
            if asked := tls.to_send():
                # In the middle of the content TLS may want new keys (1.3), or a new handshake (1.2).
                below.send(asked, wait)
            tls.feed(below.receive(wait))
        return block

    def send(self, data: bytes, wait: Wait) -> None:
        """Sends all of it; the limit is for each wait."""
        tls, below = self._tls, self._below
        if tls is None or below is None:
            self._raw.send(data, wait)
            return
        while data:
            length = tls.encrypt(data)
            data = data[length:]
            if encrypted := tls.to_send():
                below.send(encrypted, wait)
            if not length:
                tls.feed(below.receive(wait))

    def is_usable(self) -> bool:
        """Whether it may carry another exchange."""
        return (self._tls is None or self._tls.is_quiet()) and (self._below or self._raw).is_usable()

    def touch(self) -> None:
        """Notes that it has just been used."""
        self.fresh = False
        self._raw.touch()

    def close(self) -> None:
        """Closes it."""
        self._raw.close()


class _Sent:
    """Counts a body's bytes as they go, to tell whether the server may have the whole request."""

    def __init__(self, blocks: Iterable[bytes], length: int) -> None:
        self._blocks: Iterator[bytes] = iter(blocks)
        self.left = length

    def next_block(self) -> bytes:
        """The next block; b"" after the last."""
        block = next(self._blocks, b"")
        # Before, not after: once handed over, the network may deliver it whatever is said of it here.
        self.left -= len(block)
        if self.left < 0 or (self.left and not block):
            # More would be taken for the next request; for less the server would wait.
            raise ValueError("a body that is not as long as announced")
        return block


class Response:
    """A server's answer, its body still to be read."""

    def __init__(self, broker: ConnectionPool, line: Connection, exchange: Exchange, *, sent: bool) -> None:
        self._broker = broker
        self._line = line
        self._exchange = exchange
        self._sent = sent
        self._closed = False
        self._arrived = 0
        self.status = exchange.status
        self.headers: Mapping[str, str] = exchange.headers
        """By lower-case name."""
        self.body = b""
        """What `read` has read."""

    @property
    def share(self) -> float:
        """How much of the body has arrived, from 0 to 1; 0 if its length was not announced."""
        announced = self.headers.get("content-length", "")
        return min(1.0, self._arrived / int(announced)) if announced.isdigit() and int(announced) else 0.0

    @property
    def is_delimited(self) -> bool:
        """Whether the body's end is announced, so that its lack would be noticed."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    def next_block(self) -> bytes | None:
        """The next block of the body as it is on the wire; None at its end.

        Raises ConnectionLost if it ends short of what was announced.
        """
        if self._closed and not self._exchange.complete:
            raise ConnectionLost("the answer was closed before its end was read")
        with translate_transfer_errors(ProtocolError):
            while not (block := self._exchange.block()):
                if self._exchange.complete:
                    return None
                self._exchange.feed(self._broker.receive(self._line))
        self._arrived += len(block)
        return block

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
        if self._closed:
            return
        self._closed = True
        exchange = self._exchange
        self._broker.give_back(self._line, reusable=self._sent and exchange.complete and exchange.reusable)


class ConnectionPool:
    """HTTP to one server, over a pool of connections. May be shared by all who have the same event loop."""

    def __init__(self, connection: TransportOptions) -> None:
        self._connection = connection
        self._url = urlsplit(connection.url)
        self._host = _host(self._url)
        self._proxy = urlsplit(connection.proxy) if connection.proxy else None
        if connection.ssl_context is not None:
            connection.ssl_context.set_alpn_protocols(["http/1.1"])
        self._read = Wait(connection.read_timeout_in_seconds, "nothing came within the read timeout")
        self._write = Wait(connection.write_timeout_in_seconds, "nothing could be sent within the write timeout")
        self._turn = Wait(
            connection.read_timeout_in_seconds,
            "no connection became free; raise max_connections or make fewer calls at once",
        )
        self._turns = Turns(connection.max_connections)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | None = None,
        length: int = 0,
    ) -> Response:
        """Sends one request, its body in blocks that add up to `length`, and waits for the answer's head.

        Raises ConnectionFailed or ConnectionLost.
        """
        self._check_open()
        sent = None if body is None else _Sent(body, length)
        with translate_connect_errors(self._url.netloc):
            self._turns.take(self._turn)
        line: Connection | None = None
        try:
            line = self._idle_line()
            if line is None:
                with translate_connect_errors(self._url.netloc):
                    line = self._connect()
            self._busy.add(line)
            # Again: what is closed meanwhile does not know of this line.
            self._check_open()
            exchange = self._exchange(method, path, headers, None if body is None else length)
            whole = self._converse(line, exchange, sent)
            _check_complete(exchange, whole=whole)
        except BaseException:
            if line is None:
                self._turns.give_back()
            else:
                self.give_back(line, reusable=False)
            raise
        return Response(self, line, exchange, sent=whole)

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidArgument("the client has been closed; make another one")

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], length: int | None) -> Exchange:
        fields = [("host", self._host), *headers.items()]
        if length is None and method in _WITH_BODY:
            length = 0
        if length is not None:
            fields.append(("content-length", str(length)))
        target = self._url.path + path
        if self._proxy and self._connection.ssl_context is None:
            target = f"{self._url.scheme}://{self._host}{target}"
            fields += _proxy_authorization(self._proxy)
        return Exchange(method, target, fields)

    def _converse(self, line: Connection, exchange: Exchange, sent: _Sent | None) -> bool:
        """Sends the request and reads the answer's head; whether the whole request was sent."""
        data = exchange.head
        whole = True
        try:
            block = sent.next_block() if sent else b""
            if len(block) <= _COALESCE_LIMIT_BYTES:
                data, block = data + block, b""
            while data and (whole := self._is_sent(line, data)):
                data = block or (sent.next_block() if sent else b"")
                block = b""
            with translate_transfer_errors(ProtocolError, advice=self._connection.advice, fresh=line.fresh):
                while not exchange.status:
                    exchange.feed(self.receive(line))
        except ConnectionLost as lost:
            lost.request_complete = sent is None or sent.left <= 0
            raise
        return whole

    def _is_sent(self, line: Connection, data: bytes) -> bool:
        """Sends it; False if the other side takes no more.

        A server may refuse a request before it has all of it, and hang up; then its answer is there to be read.
        """
        try:
            with translate_transfer_errors(advice=self._connection.advice, fresh=line.fresh):
                line.send(data, self._write)
        except ConnectionLost as failure:
            if isinstance(failure.__cause__, TimeoutError):
                raise
            return False
        return True

    def receive(self, line: Connection) -> bytes:
        """What has come on a connection of this pool."""
        return line.receive(self._read)

    def _idle_line(self) -> Connection | None:
        while True:
            try:
                # Without asking first: another thread may take the last one in between.
                line = self._idle.pop()
            except IndexError:
                return None
            if line.is_usable():
                return line
            line.close()

    def _connect(self) -> Connection:
        until = Deadline(self._connection.connect_timeout_in_seconds, "no connection within the connect timeout")
        first = self._proxy or self._url
        raw = Socket.connect(first.hostname or "", _port(first), until.left())
        try:
            line = Connection(raw)
            if self._proxy and self._proxy.scheme == "https":
                line = line.start_tls(ssl.create_default_context(), self._proxy.hostname or "", until)
            if self._connection.ssl_context is not None:
                if self._proxy:
                    self._tunnel(line, self._proxy, until)
                line = line.start_tls(self._connection.ssl_context, self._url.hostname or "", until)
        except BaseException:
            raw.close()
            raise
        return line

    def _tunnel(self, line: Connection, proxy: SplitResult, until: Deadline) -> None:
        """Has the proxy connect us. Raises ProxyRefused."""
        target = _host(self._url, with_port=True)
        exchange = Exchange("CONNECT", target, [("host", target), *_proxy_authorization(proxy)])
        line.send(exchange.head, until.left())
        while not exchange.status:
            try:
                exchange.feed(line.receive(until.left()))
            except ProtocolError as error:
                raise ProxyRefused(f"the proxy does not answer as a proxy: {error}") from None
        if not 200 <= exchange.status < 300:
            raise ProxyRefused(f"the proxy refuses: status {exchange.status}")

    def give_back(self, line: Connection, *, reusable: bool) -> None:
        """Ends a line's turn; it is kept for the next request, if it may carry one."""
        self._busy.discard(line)
        try:
            if reusable:
                line.touch()
                self._idle.append(line)
            # After, as another thread may have closed those that were idle by then.
            if self._closed or not reusable:
                line.close()
        finally:
            self._turns.give_back()

    def close(self) -> None:
        """Closes every connection."""
        self._closed = True
        for line in [*self._idle, *self._busy]:
            line.close()
        self._idle.clear()


def _check_complete(exchange: Exchange, *, whole: bool) -> None:
    """A server that says that it took what it cannot have is not to be believed, in either direction."""
    if not whole and 200 <= exchange.status < 300:
        lost = ConnectionLost("the server answered with success before it had the whole request")
        lost.request_complete = True
        raise lost


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _host(url: SplitResult, *, with_port: bool = False) -> str:
    """The host as HTTP writes it, with the port only if that is not the usual one, unless asked for."""
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host.encode("idna").decode()
    usual = _port(url) == (443 if url.scheme == "https" else 80)
    return host if usual and not with_port else f"{host}:{_port(url)}"


def _proxy_authorization(proxy: SplitResult) -> list[tuple[str, str]]:
    if proxy.username is None:
        return []
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [("proxy-authorization", "Basic " + base64.b64encode(user.encode()).decode())]
