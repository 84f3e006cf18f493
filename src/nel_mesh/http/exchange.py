"""One HTTP/1.1 request and its response, as bytes, on h11; it does no I/O.

h11 reads every body whose end must be searched for, and every head that has not the one common form. That form is read
here, and the head of a request is written here: for each of the two h11 took a fifth of the time of a small request. A
body of announced length needs no search: its bytes are passed on as they came, where h11 would copy each five times.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

import h11

from nel_mesh.blocks import Block

ProtocolError = h11.ProtocolError
"""A request or a response that is not HTTP/1.1."""

_MAX_HEAD_BYTES = 100 * 1024
"""The longest head of a response that is read."""

_MAX_INTERIM_RESPONSES = 100
"""How many interim responses (1xx) may come before the final one."""

_REQUEST_HEAD = re.compile(
    rb"[A-Z]++ [!-~]++ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++: (?:[!-~]++(?:[ \t]++[!-~]++)*)?\r\n)*"
    rb"\r\n"
)
"""A request's head in ASCII, no value of which begins or ends with a blank (RFC 9112, 3 and 5).

Each run of characters ends where no other can begin, so nothing is tried twice: the quantifiers are possessive. Those
of groups are not, as CPython before 3.11.5 goes wrong with them (gh-106052)."""

_COMMON_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [ -~]*+)?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[ -~\t]*+\r\n)*)"
    rb"\r\n"
)
"""A response's head in printable ASCII (RFC 9112, 4 and 5). It accepts nothing that h11 would refuse."""

_LENGTH = re.compile(r"[0-9]{1,18}")

_QUOTED = re.compile(r":? b(ytearray\(b)?['\"].*", re.DOTALL)
"""The part of h11's errors that quotes what was sent or came: tokens, or patient data."""


class Exchange:
    """A request's head to send, and the response that the received bytes make up.

    Args:
        method: the request's method; HEAD and CONNECT have responses without a body.
        target: the path; the whole address if it goes by a proxy; host and port for CONNECT.
        headers: the request's headers; `Host` is one of them.
        prepared: further headers, made once by `header_lines`.
    """

    def __init__(self, method: str, target: str, headers: Iterable[tuple[str, str]], prepared: bytes = b"") -> None:
        self._method = method
        self._h11: h11.Connection | None = None
        """Reads the response, if its head has not the common form."""
        self.head = _request_head(f"{method} {target} HTTP/1.1", headers, prepared)
        """The request's head, as it is sent."""
        self.status = 0
        """The response's status; 0 until its head has come."""
        self.headers: Mapping[str, str] = {}
        """The response's headers, by lower-case name."""
        self.complete = False
        """Whether the whole response has come."""
        self.reusable = False
        """Whether the connection can carry another exchange, once this one is complete."""
        self._interim_responses = 0
        self._missing: int | None = None
        """How many bytes of a body of announced length have not come yet; None for any other body."""
        self._announced = 0
        self._ready: Block = b""

    def feed(self, data: Block) -> None:
        """Take received bytes; b"" means that the other side has closed.

        Raise ProtocolError if they are no HTTP response, or if it ends before its end.
        """
        if self._missing is not None:
            self._feed_announced(data)
            return
        if not data and not self.status:
            if self._h11 is None:
                raise h11.RemoteProtocolError("the server disconnected without sending a response")
            raise h11.RemoteProtocolError("the connection was closed before the whole head of a response")
        if self._h11 is None:
            if self._is_common(data):
                return
            self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
            self._h11.send(_minimal_request(self._method))
        self._h11.receive_data(bytes(data))
        if not self.status:
            self._read_head(self._h11)

    def block(self) -> Block:
        """Return what has come of the body since the last block; b"" if there is nothing (yet). Raise as `feed`."""
        if self._missing is not None or self.complete or self._h11 is None or not self.status:
            block, self._ready = self._ready, b""
            return block
        event = _next_event(self._h11)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self.complete = True
            self.reusable = self.reusable and not self._h11.trailing_data[0]
        return b""

    def _is_common(self, data: Block) -> bool:
        """Read a whole head of the common form, with a body of announced length or none; False if it is not one."""
        head = _COMMON_HEAD.match(data)
        if head is None or head.end() > _MAX_HEAD_BYTES:
            return False
        headers = _by_name([line.split(":", 1) for line in head[2].decode("ascii").splitlines()])
        if "transfer-encoding" in headers or not _LENGTH.fullmatch(headers.get("content-length", "")):
            return False
        self._begin(int(head[1]), headers, is_1_1=True)
        self._take(bytes(data[head.end() :]))
        return True

    def _read_head(self, connection: h11.Connection) -> None:
        event = _next_event(connection)
        while isinstance(event, h11.InformationalResponse):
            self._interim_responses += 1
            if self._interim_responses > _MAX_INTERIM_RESPONSES:
                raise h11.RemoteProtocolError("the server sends interim responses without end")
            event = _next_event(connection)
        if not isinstance(event, h11.Response):
            return
        headers = _by_name((name.decode("ascii"), _text(value)) for name, value in event.headers)
        self._begin(event.status_code, headers, is_1_1=event.http_version == b"1.1")
        if self._missing is not None:
            self._take(connection.trailing_data[0])

    def _begin(self, status: int, headers: dict[str, str], *, is_1_1: bool) -> None:
        """Note the head of the response, and where its body ends."""
        self.status, self.headers = status, headers
        self.reusable = is_1_1 and "close" not in headers.get("connection", "").lower()
        chunked = "transfer-encoding" in headers
        if chunked and headers.pop("content-length", None) is not None:
            # RFC 9112, 6.3: the length does not count, and such a response may be an attack.
            self.reusable = False
        if self._method == "HEAD" or status in (204, 304) or (self._method == "CONNECT" and status < 300):
            self._missing = 0
        elif not chunked and "content-length" in headers:
            self._missing = int(headers["content-length"])
        elif not chunked:
            # The body ends where the connection does.
            self.reusable = False
        self._announced = self._missing or 0

    def _feed_announced(self, data: Block) -> None:
        if not data and self._missing:
            received = self._announced - self._missing
            raise h11.RemoteProtocolError(
                f"the connection was closed after {received} of {self._announced} bytes of body"
            )
        self._take(data)

    def _take(self, data: Block) -> None:
        missing = self._missing or 0
        if len(data) > missing:
            # No request was sent that the surplus could respond to.
            self.reusable = False
            data = data[:missing]
        self._missing = missing - len(data)
        self._ready = data if not self._ready else bytes(self._ready) + data
        self.complete = not self._missing


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return headers as they are sent. Raise ProtocolError as for the head of a request."""
    first = "GET / HTTP/1.1"
    return _request_head(first, headers)[len(first) + 2 : -2]


def _request_head(first: str, headers: Iterable[tuple[str, str]], prepared: bytes = b"") -> bytes:
    """Return a request's head. Raise ProtocolError, which quotes none of it, for one that could be read as more."""
    lines = [first, *[f"{name}: {value}" for name, value in headers], "", ""]
    try:
        head = "\r\n".join(lines).encode("ascii")
    except UnicodeEncodeError:
        head = b""
    # A line feed in a value makes two headers of one, which each may be right.
    if not _REQUEST_HEAD.fullmatch(head) or head.count(b"\n") != len(lines) - 1:
        raise h11.LocalProtocolError("illegal request line or header")
    start = len(first) + 2
    return head[:start] + prepared + head[start:]


def _next_event(connection: h11.Connection) -> object:
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        reason = _QUOTED.sub("", str(error))
    # Outside the block above, where h11's own error would be the context of this one.
    raise h11.RemoteProtocolError(reason)


@functools.cache
def _minimal_request(method: str) -> h11.Request:
    """Return all of a request that decides how its response is read."""
    return h11.Request(method=method, target="/", headers=[("host", "-")])


def _by_name(headers: Iterable[Iterable[str]]) -> dict[str, str]:
    """Return the headers by lower-case name, those of one name joined (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.lower(), raw_value.strip(" \t")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
