"""Injection of faults into requests. The operation itself, and its true response, come from the app."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from nel_mesh.protocol import wire
from nel_mesh.protocol.chunks import ChunkRange
from nel_mesh.sandbox.faults import TRICKLE_SECONDS, DueFault, Effect
from nel_mesh.sandbox.listener import RawConnection
from nel_mesh.sandbox.operations import Operation
from nel_mesh.sandbox.request import RequestSeen
from nel_mesh.sandbox.routes import Call

_GZIP_TRAILER: Final = 8
_STEPS_PER_SECOND: Final = 20
_BODILESS: Final = (204, 304)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FaultedRequest:
    """A request with a due fault.

    Attributes:
        work: does the operation of a call, and returns the true response.
        consume_token: uses the request's token up, for a fault before the operation.
        chunks: the number of chunks of the message in the call; 0 if there is no such message.
    """

    scope: Scope
    receive: Receive
    send: Send
    seen: RequestSeen
    call: Call
    due: DueFault
    chunks: int
    work: Callable[[Call], Awaitable[Response]]
    consume_token: Callable[[], None]

    @property
    def connection(self) -> RawConnection:
        """The TCP connection of the request."""
        return RawConnection(self.scope, self.receive)

    def mark_fired(self) -> None:
        """Note the fault, before the client can see any effect of it."""
        self.seen.fault = self.due.fault
        self.due.mark_fired()

    async def respond(self, response: Response, send: Send | None = None) -> None:
        """Send a response, through `send` if it is given."""
        self.seen.status = response.status_code
        await response(self.scope, self.receive, send or self.send)


async def inject(faulted: FaultedRequest) -> None:
    """Respond to a request, with the fault if that is possible; if not, it waits for the next request."""
    try:
        await _INJECTIONS[Effect(faulted.due.fault.effect)](faulted)
    finally:
        faulted.due.mark_skipped()


async def _cut_before_body(faulted: FaultedRequest) -> None:
    faulted.consume_token()
    faulted.mark_fired()
    await faulted.connection.reset()


async def _cut_during_body(faulted: FaultedRequest) -> None:
    faulted.consume_token()
    wanted = faulted.due.fault.at_byte
    if wanted is None:
        announced = faulted.seen.headers.get("content-length", "")
        wanted = int(announced) // 2 if announced.isdigit() else 1
    await _read(faulted.receive, wanted)
    faulted.mark_fired()
    await faulted.connection.reset()


async def _cut_after_body(faulted: FaultedRequest) -> None:
    faulted.consume_token()
    await _read(faulted.receive)
    faulted.mark_fired()
    await faulted.connection.reset()


async def _lose_response(faulted: FaultedRequest) -> None:
    await faulted.work(faulted.call)
    faulted.mark_fired()
    await faulted.connection.reset()


async def _delay(faulted: FaultedRequest) -> None:
    response = await faulted.work(faulted.call)
    faulted.mark_fired()
    if await faulted.connection.pause(faulted.due.fault.seconds or 0):
        await faulted.respond(response)


async def _respond(faulted: FaultedRequest) -> None:
    fault = faulted.due.fault
    if fault.done:
        await faulted.work(faulted.call)
    else:
        faulted.consume_token()
        await _read(faulted.receive)
    status = fault.status or 500
    content_type, body = "text/html", f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    if status == 500:
        content_type, body = (
            "text/xml",
            '<?xml version="1.0"?><error><code>500</code><text>Internal error</text></error>',
        )
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    faulted.mark_fired()
    await faulted.respond(
        Response(
            None if status in _BODILESS else body if fault.body is None else fault.body,
            status_code=status,
            headers=headers,
            media_type=fault.content_type or content_type,
        )
    )


async def _missing_chunk(faulted: FaultedRequest) -> None:
    faulted.mark_fired()
    await faulted.respond(await faulted.work(dataclasses.replace(faulted.call, message_id="")))


async def _skip_chunk(faulted: FaultedRequest) -> None:
    await _other_chunk(faulted, +1, relabel=False)


async def _repeat_chunk(faulted: FaultedRequest) -> None:
    await _other_chunk(faulted, -1, relabel=False)


async def _repeat_content(faulted: FaultedRequest) -> None:
    await _other_chunk(faulted, -1, relabel=True)


async def _other_chunk(faulted: FaultedRequest, step: int, *, relabel: bool) -> None:
    number = _number(faulted.call)
    if not 1 <= number + step <= faulted.chunks:
        await faulted.respond(await faulted.work(faulted.call))
        return
    other = dataclasses.replace(faulted.call, operation=Operation.RETRIEVE_CHUNK, chunk_number=str(number + step))
    response = await faulted.work(other)
    if _is_chunk(response):
        faulted.mark_fired()
        if relabel:
            response.headers[wire.CHUNK_RANGE] = str(ChunkRange(number, faulted.chunks))
            response.status_code = 200 if number == faulted.chunks else 206
    await faulted.respond(response)


async def _wrong_range(faulted: FaultedRequest) -> None:
    number = _number(faulted.call)
    response = await faulted.work(faulted.call)
    wrong = number - 1 or 2
    if _is_chunk(response) and wrong <= faulted.chunks:
        faulted.mark_fired()
        response.headers[wire.CHUNK_RANGE] = str(ChunkRange(wrong, faulted.chunks))
    await faulted.respond(response)


async def _cut_response(faulted: FaultedRequest) -> None:
    response = await faulted.work(faulted.call)
    length, wanted = _length(response), faulted.due.fault.at_byte
    if not length and length is not None:
        await faulted.respond(response)
        return
    faulted.mark_fired()
    await _send_part(faulted, response, _position(wanted, length, (length or 0) // 2))
    await faulted.connection.flush()
    await faulted.connection.abandon()


async def _truncate_gzip(faulted: FaultedRequest) -> None:
    response = await _measured(faulted, await faulted.work(faulted.call))
    length = _length(response)
    if not length or not _is_gzip(response):
        await faulted.respond(response)
        return
    keep = _position(faulted.due.fault.at_byte, length, length // 2)
    response.headers["content-length"] = str(keep)
    faulted.mark_fired()
    await _send_part(faulted, response, keep)
    await faulted.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _corrupt_gzip(faulted: FaultedRequest) -> None:
    response = await _measured(faulted, await faulted.work(faulted.call))
    length = _length(response)
    if not length or not _is_gzip(response):
        await faulted.respond(response)
        return
    at = _position(faulted.due.fault.at_byte, length, length - _GZIP_TRAILER)
    faulted.mark_fired()
    await faulted.respond(response, _Corrupting(faulted.send, at))


async def _trickle(faulted: FaultedRequest) -> None:
    response = await faulted.work(faulted.call)
    faulted.mark_fired()
    await faulted.respond(response, _Trickling(faulted))


async def _longer_length(faulted: FaultedRequest) -> None:
    await _wrong_length(faulted, faulted.due.fault.by_bytes or 1)


async def _shorter_length(faulted: FaultedRequest) -> None:
    await _wrong_length(faulted, -(faulted.due.fault.by_bytes or 1))


async def _wrong_length(faulted: FaultedRequest, by: int) -> None:
    response = await _measured(faulted, await faulted.work(faulted.call))
    length = _length(response)
    if length is None or length + by < 0:
        await faulted.respond(response)
        return
    response.headers["content-length"] = str(length + by)
    # Otherwise the rest could be taken for the next response on this connection.
    response.headers["connection"] = "close"
    faulted.mark_fired()
    await faulted.respond(response, _Unchecked(faulted))
    await faulted.connection.close()


async def _read(receive: Receive, at_least: int | None = None) -> None:
    """Read the request's body, or part of it, and drop it."""
    taken, more = 0, True
    while more and (at_least is None or taken < at_least):
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientDisconnect
        taken += len(event.get("body", b""))
        more = event.get("more_body", False)


async def _send_part(faulted: FaultedRequest, response: Response, keep: int) -> None:
    """Send the head of a response and the start of its body, without an end."""
    with contextlib.suppress(_Enough):
        await faulted.respond(response, _Keeping(faulted.send, keep))


async def _measured(faulted: FaultedRequest, response: Response) -> Response:
    """Return a response with a known length; a body that is made while it is sent is made in memory first."""
    if _length(response) is not None:
        return response
    parts, ended = [], False

    async def collect(event: AsgiMessage) -> None:
        nonlocal ended
        parts.append(event.get("body", b""))
        ended = event["type"] == "http.response.body" and not event.get("more_body", False)

    await response(faulted.scope, faulted.receive, collect)
    if not ended:
        # The stored body is damaged; dropping the connection is the only way to say so.
        await faulted.connection.abandon()
        raise ClientDisconnect
    return Response(b"".join(parts), status_code=response.status_code, headers=dict(response.headers))


class _Enough(Exception):
    """Ends a response in the middle."""


class _Keeping:
    def __init__(self, send: Send, keep: int) -> None:
        self._send = send
        self._left = keep

    async def __call__(self, event: AsgiMessage) -> None:
        if event["type"] != "http.response.body":
            await self._send(event)
            return
        part = event.get("body", b"")[: self._left]
        self._left -= len(part)
        await self._send({"type": "http.response.body", "body": part, "more_body": True})
        if not self._left:
            raise _Enough


class _Corrupting:
    def __init__(self, send: Send, at: int) -> None:
        self._send = send
        self._at = at

    async def __call__(self, event: AsgiMessage) -> None:
        body = event.get("body", b"")
        if 0 <= self._at < len(body):
            damaged = bytearray(body)
            damaged[self._at] ^= 0xFF
            event = {**event, "body": bytes(damaged)}
        self._at -= len(body)
        await self._send(event)


class _Trickling:
    def __init__(self, faulted: FaultedRequest) -> None:
        fault = faulted.due.fault
        self._send = faulted.send
        self._connection = faulted.connection
        self._rate = fault.bytes_per_second or 1
        self._seconds_left = TRICKLE_SECONDS if fault.seconds is None else fault.seconds

    async def __call__(self, event: AsgiMessage) -> None:
        body = event.get("body", b"")
        step = max(1, self._rate // _STEPS_PER_SECOND)
        while body and self._seconds_left > 0:
            part, body = body[:step], body[step:]
            seconds = min(len(part) / self._rate, self._seconds_left)
            self._seconds_left -= seconds
            if not await self._connection.pause(seconds):
                raise ClientDisconnect
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
        await self._send({**event, "body": body} if "body" in event else event)


class _Unchecked:
    """Send the head through HTTP and the body past it, as no server sends a wrong length."""

    def __init__(self, faulted: FaultedRequest) -> None:
        self._exchange = faulted

    async def __call__(self, event: AsgiMessage) -> None:
        if event["type"] != "http.response.body":
            await self._exchange.send(event)
        else:
            await self._exchange.connection.write(event.get("body", b""))


def _number(call: Call) -> int:
    return call.chunk() or 1


def _is_chunk(response: Response) -> bool:
    return response.status_code in (200, 206)


def _is_gzip(response: Response) -> bool:
    encoding: str = response.headers.get(wire.CONTENT_ENCODING, "")
    return encoding.lower() == "gzip"


def _length(response: Response) -> int | None:
    """The announced length of a response's body; None if there is none."""
    announced = response.headers.get("content-length")
    return None if announced is None else int(announced)


def _position(wanted: int | None, length: int | None, default: int) -> int:
    """The position at which to cut or damage a body: within it, if its length is known."""
    position = max(0, default) if wanted is None else wanted
    return position if length is None else min(position, length - 1)


_INJECTIONS: Final[dict[Effect, Callable[[FaultedRequest], Awaitable[None]]]] = {
    Effect.CUT_BEFORE_BODY: _cut_before_body,
    Effect.CUT_DURING_BODY: _cut_during_body,
    Effect.CUT_AFTER_BODY: _cut_after_body,
    Effect.LOSE_RESPONSE: _lose_response,
    Effect.CUT_RESPONSE: _cut_response,
    Effect.DELAY: _delay,
    Effect.TRICKLE: _trickle,
    Effect.RESPOND: _respond,
    Effect.TRUNCATE_GZIP: _truncate_gzip,
    Effect.CORRUPT_GZIP: _corrupt_gzip,
    Effect.LONGER_LENGTH: _longer_length,
    Effect.SHORTER_LENGTH: _shorter_length,
    Effect.MISSING_CHUNK: _missing_chunk,
    Effect.SKIP_CHUNK: _skip_chunk,
    Effect.REPEAT_CHUNK: _repeat_chunk,
    Effect.REPEAT_CONTENT: _repeat_content,
    Effect.WRONG_RANGE: _wrong_range,
}
