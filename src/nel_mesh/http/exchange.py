"""One HTTP/1.1 request and its answer, as bytes; on h11, and without a wire.

h11 writes and reads the heads, and every body whose end must be looked for. A body of announced length needs no
looking: its bytes are handed on as they came, where h11 would copy each of them five times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import h11

ProtocolError = h11.ProtocolError
"""What is sent, or comes, is not HTTP/1.1."""

_HEAD_LIMIT = 100 * 1024
"""The longest head of an answer that is read."""

_INTERIM_LIMIT = 100
"""How many interim answers (1xx) may come before the real one."""

_QUOTED = re.compile(r":? b(ytearray\(b)?['\"].*", re.DOTALL)
"""Where h11's errors quote what was sent or came: tokens, or patient data."""


class Exchange:
    """A request's head to be sent, and the answer that its bytes turn into.

    Args:
        method: the request's method; HEAD and CONNECT have answers without a body.
        target: the path, or the whole address if it goes by a proxy, or host and port for CONNECT.
        headers: the request's headers; `Host` among them.
    """

    def __init__(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> None:
        self._method = method
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        self.head = self._written(method, target, headers)
        """The request's head, as it goes on the wire."""
        self.status = 0
        """The answer's status; 0 until its head has come."""
        self.headers: Mapping[str, str] = {}
        """The answer's headers, by lower-case name."""
        self.complete = False
        """Whether the whole answer has come."""
        self.reusable = False
        """Whether another exchange may follow on the same connection, once this one is complete."""
        self._received = False
        self._interim = 0
        self._left: int | None = None
        self._announced = 0
        self._ready: bytes = b""

    def feed(self, data: bytes) -> None:
        """Takes what has come from the wire; b"" says that the other side has closed.

        Raises ProtocolError for what is no answer, or for its end before the end of the answer.
        """
        if self._left is not None:
            self._feed_announced(data)
            return
        if not data and not self._received:
            raise h11.RemoteProtocolError("the server disconnected without sending a response")
        self._received = True
        self._h11.receive_data(data)
        if not self.status:
            self._read_head()

    def block(self) -> bytes:
        """What has come of the body since the last block; b"" if there is nothing (yet). Raises as `feed`."""
        if self._left is not None or self.complete or not self.status:
            block, self._ready = self._ready, b""
            return block
        event = self._next_event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self.complete = True
            self.reusable = self.reusable and not self._h11.trailing_data[0]
        return b""

    def _written(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
        try:
            return self._h11.send(h11.Request(method=method, target=target, headers=list(headers))) or b""
        except h11.LocalProtocolError as error:
            what = _QUOTED.sub("", str(error))
        raise h11.LocalProtocolError(what)

    def _next_event(self) -> object:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            what = _QUOTED.sub("", str(error))
        # Out of the block above, as h11's own error would be the context of this one.
        raise h11.RemoteProtocolError(what)

    def _read_head(self) -> None:
        event = self._next_event()
        while isinstance(event, h11.InformationalResponse):
            self._interim += 1
            if self._interim > _INTERIM_LIMIT:
                raise h11.RemoteProtocolError("the server sends interim answers without end")
            event = self._next_event()
        if not isinstance(event, h11.Response):
            return
        headers = _by_name(event.headers)
        self.status, self.headers = event.status_code, headers
        self.reusable = event.http_version == b"1.1" and "close" not in headers.get("connection", "").lower()
        chunked = "transfer-encoding" in headers
        if chunked and headers.pop("content-length", None) is not None:
            # RFC 9112, 6.3: the length does not count, and such an answer may be meant to confuse.
            self.reusable = False
        if self._method == "HEAD" or self.status in (204, 304) or (self._method == "CONNECT" and self.status < 300):
            self._left = 0
        elif not chunked and "content-length" in headers:
            self._left = int(headers["content-length"])
        elif not chunked:
            # Its end will be the connection's.
            self.reusable = False
        if self._left is not None:
            self._announced = self._left
            self._take(self._h11.trailing_data[0])

    def _feed_announced(self, data: bytes) -> None:
        if not data and self._left:
            raise h11.RemoteProtocolError(
                f"the connection was closed after {self._announced - self._left} of {self._announced} bytes of body"
            )
        self._take(data)

    def _take(self, data: bytes) -> None:
        left = self._left or 0
        if len(data) > left:
            # Nothing was asked for that could be the beginning of the next answer.
            self.reusable = False
            data = data[:left]
        self._left = left - len(data)
        self._ready += data
        self.complete = not self._left


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers by lower-case name, those of one name joined (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("ascii").lower(), _text(raw_value)
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
