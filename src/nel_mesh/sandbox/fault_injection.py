"""Does what a planned fault says to one request. The work itself, and a true answer to it, come from the app."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from nel_mesh.protocol import wire
from nel_mesh.protocol.chunks import ChunkRange
from nel_mesh.sandbox.faults import TRICKLE_SECONDS, Effect, Strike
from nel_mesh.sandbox.operations import Operation
from nel_mesh.sandbox.raw_connection import Connection
from nel_mesh.sandbox.request_log import RequestSeen
from nel_mesh.sandbox.routes import Call

_GZIP_TRAILER: Final = 8
_STEPS_PER_SECOND: Final = 20
_BODILESS: Final = (204, 304)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request that is to suffer a fault.

    Attributes:
        work: does what a call asks for, and gives the true answer.
        spend_token: uses up the request's token, as it is when the request is never looked at further.
        chunks: how many chunks the message has that the call is about; 0 if there is none.
    """

    scope: Scope
    receive: Receive
    send: Send
    seen: RequestSeen
    call: Call
    strike: Strike
    chunks: int
    work: Callable[[Call], Awaitable[Response]]
    spend_token: Callable[[], None]

    @property
    def connection(self) -> Connection:
        """What the request came over."""
        return Connection(self.scope, self.receive)

    def struck(self) -> None:
        """Notes the fault, before the client can see anything of it."""
        self.seen.fault = self.strike.fault
        self.strike.struck()

    async def answer(self, answer: Response, send: Send | None = None) -> None:
        """Sends an answer, through `send` if it is given."""
        self.seen.status = answer.status_code
        await answer(self.scope, self.receive, send or self.send)


async def carry_out(exchange: Exchange) -> None:
    """Answers a request, with the fault if it can be done; else truly, and the fault waits for the next one."""
    try:
        await _DOINGS[Effect(exchange.strike.fault.effect)](exchange)
    finally:
        exchange.strike.missed()


async def _cut_before_body(exchange: Exchange) -> None:
    exchange.spend_token()
    exchange.struck()
    await exchange.connection.reset()


async def _cut_during_body(exchange: Exchange) -> None:
    exchange.spend_token()
    wanted = exchange.strike.fault.at_byte
    if wanted is None:
        announced = exchange.seen.headers.get("content-length", "")
        wanted = int(announced) // 2 if announced.isdigit() else 1
    await _read(exchange.receive, wanted)
    exchange.struck()
    await exchange.connection.reset()


async def _cut_after_body(exchange: Exchange) -> None:
    exchange.spend_token()
    await _read(exchange.receive)
    exchange.struck()
    await exchange.connection.reset()


async def _lose_answer(exchange: Exchange) -> None:
    await exchange.work(exchange.call)
    exchange.struck()
    await exchange.connection.reset()


async def _delay(exchange: Exchange) -> None:
    answer = await exchange.work(exchange.call)
    exchange.struck()
    if await exchange.connection.pause(exchange.strike.fault.seconds or 0):
        await exchange.answer(answer)


async def _answer(exchange: Exchange) -> None:
    fault = exchange.strike.fault
    if fault.done:
        await exchange.work(exchange.call)
    else:
        exchange.spend_token()
        await _read(exchange.receive)
    status = fault.status or 500
    content_type, body = "text/html", f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    if status == 500:
        content_type, body = (
            "text/xml",
            '<?xml version="1.0"?><error><code>500</code><text>Internal error</text></error>',
        )
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    exchange.struck()
    await exchange.answer(
        Response(
            None if status in _BODILESS else body if fault.body is None else fault.body,
            status_code=status,
            headers=headers,
            media_type=fault.content_type or content_type,
        )
    )


async def _missing_chunk(exchange: Exchange) -> None:
    exchange.struck()
    await exchange.answer(await exchange.work(dataclasses.replace(exchange.call, message_id="")))


async def _skip_chunk(exchange: Exchange) -> None:
    await _other_chunk(exchange, +1, relabel=False)


async def _repeat_chunk(exchange: Exchange) -> None:
    await _other_chunk(exchange, -1, relabel=False)


async def _repeat_content(exchange: Exchange) -> None:
    await _other_chunk(exchange, -1, relabel=True)


async def _other_chunk(exchange: Exchange, step: int, *, relabel: bool) -> None:
    number = _number(exchange.call)
    if not 1 <= number + step <= exchange.chunks:
        await exchange.answer(await exchange.work(exchange.call))
        return
    other = dataclasses.replace(exchange.call, operation=Operation.RETRIEVE_CHUNK, chunk_number=str(number + step))
    answer = await exchange.work(other)
    if _is_chunk(answer):
        exchange.struck()
        if relabel:
            answer.headers[wire.CHUNK_RANGE] = str(ChunkRange(number, exchange.chunks))
            answer.status_code = 200 if number == exchange.chunks else 206
    await exchange.answer(answer)


async def _wrong_range(exchange: Exchange) -> None:
    number = _number(exchange.call)
    answer = await exchange.work(exchange.call)
    wrong = number - 1 or 2
    if _is_chunk(answer) and wrong <= exchange.chunks:
        exchange.struck()
        answer.headers[wire.CHUNK_RANGE] = str(ChunkRange(wrong, exchange.chunks))
    await exchange.answer(answer)


async def _cut_answer(exchange: Exchange) -> None:
    answer = await exchange.work(exchange.call)
    length, wanted = _length(answer), exchange.strike.fault.at_byte
    if not length and length is not None:
        await exchange.answer(answer)
        return
    exchange.struck()
    await _send_part(exchange, answer, _position(wanted, length, (length or 0) // 2))
    await exchange.connection.flush()
    await exchange.connection.abandon()


async def _truncate_gzip(exchange: Exchange) -> None:
    answer = await _measured(exchange, await exchange.work(exchange.call))
    length = _length(answer)
    if not length or not _is_gzip(answer):
        await exchange.answer(answer)
        return
    keep = _position(exchange.strike.fault.at_byte, length, length // 2)
    answer.headers["content-length"] = str(keep)
    exchange.struck()
    await _send_part(exchange, answer, keep)
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _corrupt_gzip(exchange: Exchange) -> None:
    answer = await _measured(exchange, await exchange.work(exchange.call))
    length = _length(answer)
    if not length or not _is_gzip(answer):
        await exchange.answer(answer)
        return
    at = _position(exchange.strike.fault.at_byte, length, length - _GZIP_TRAILER)
    exchange.struck()
    await exchange.answer(answer, _Corrupting(exchange.send, at))


async def _trickle(exchange: Exchange) -> None:
    answer = await exchange.work(exchange.call)
    exchange.struck()
    await exchange.answer(answer, _Trickling(exchange))


async def _longer_length(exchange: Exchange) -> None:
    await _wrong_length(exchange, exchange.strike.fault.by_bytes or 1)


async def _shorter_length(exchange: Exchange) -> None:
    await _wrong_length(exchange, -(exchange.strike.fault.by_bytes or 1))


async def _wrong_length(exchange: Exchange, by: int) -> None:
    answer = await _measured(exchange, await exchange.work(exchange.call))
    length = _length(answer)
    if length is None or length + by < 0:
        await exchange.answer(answer)
        return
    answer.headers["content-length"] = str(length + by)
    # Else what is left over would be in the way of the next request on it, or not, by chance.
    answer.headers["connection"] = "close"
    exchange.struck()
    await exchange.answer(answer, _Unchecked(exchange))
    await exchange.connection.close()


async def _read(receive: Receive, at_least: int | None = None) -> None:
    """Takes the request's body, or so much of it, and does nothing with it."""
    taken, more = 0, True
    while more and (at_least is None or taken < at_least):
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientDisconnect
        taken += len(event.get("body", b""))
        more = event.get("more_body", False)


async def _send_part(exchange: Exchange, answer: Response, keep: int) -> None:
    """Sends an answer's head and the first bytes of its body, without an end."""
    with contextlib.suppress(_Enough):
        await exchange.answer(answer, _Keeping(exchange.send, keep))


async def _measured(exchange: Exchange, answer: Response) -> Response:
    """An answer whose length is known: one that is made while it is sent is made beforehand, in memory."""
    if _length(answer) is not None:
        return answer
    parts, ended = [], False

    async def collect(event: Event) -> None:
        nonlocal ended
        parts.append(event.get("body", b""))
        ended = event["type"] == "http.response.body" and not event.get("more_body", False)

    await answer(exchange.scope, exchange.receive, collect)
    if not ended:
        # What is stored is damaged, and cannot be told in any other way.
        await exchange.connection.abandon()
        raise ClientDisconnect
    return Response(b"".join(parts), status_code=answer.status_code, headers=dict(answer.headers))


class _Enough(Exception):
    """Stops an answer in the middle."""


class _Keeping:
    def __init__(self, send: Send, keep: int) -> None:
        self._send = send
        self._left = keep

    async def __call__(self, event: Event) -> None:
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

    async def __call__(self, event: Event) -> None:
        body = event.get("body", b"")
        if 0 <= self._at < len(body):
            damaged = bytearray(body)
            damaged[self._at] ^= 0xFF
            event = {**event, "body": bytes(damaged)}
        self._at -= len(body)
        await self._send(event)


class _Trickling:
    def __init__(self, exchange: Exchange) -> None:
        fault = exchange.strike.fault
        self._send = exchange.send
        self._connection = exchange.connection
        self._rate = fault.bytes_per_second or 1
        self._seconds_left = TRICKLE_SECONDS if fault.seconds is None else fault.seconds

    async def __call__(self, event: Event) -> None:
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
    """Sends the head as HTTP and the body as bytes, since no server would send a length that is wrong."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, event: Event) -> None:
        if event["type"] != "http.response.body":
            await self._exchange.send(event)
        else:
            await self._exchange.connection.write(event.get("body", b""))


def _number(call: Call) -> int:
    return call.chunk() or 1


def _is_chunk(answer: Response) -> bool:
    return answer.status_code in (200, 206)


def _is_gzip(answer: Response) -> bool:
    encoding: str = answer.headers.get(wire.CONTENT_ENCODING, "")
    return encoding.lower() == "gzip"


def _length(answer: Response) -> int | None:
    """The bytes of an answer's body; None if it will not be announced."""
    announced = answer.headers.get("content-length")
    return None if announced is None else int(announced)


def _position(wanted: int | None, length: int | None, usual: int) -> int:
    """Where to cut or to damage a body: within it, if its length is known."""
    position = max(0, usual) if wanted is None else wanted
    return position if length is None else min(position, length - 1)


_DOINGS: Final[dict[Effect, Callable[[Exchange], Awaitable[None]]]] = {
    Effect.CUT_BEFORE_BODY: _cut_before_body,
    Effect.CUT_DURING_BODY: _cut_during_body,
    Effect.CUT_AFTER_BODY: _cut_after_body,
    Effect.LOSE_ANSWER: _lose_answer,
    Effect.CUT_ANSWER: _cut_answer,
    Effect.DELAY: _delay,
    Effect.TRICKLE: _trickle,
    Effect.ANSWER: _answer,
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
