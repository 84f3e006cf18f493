"""Does what a planned fault says to one request. The work itself, and a true answer to it, come from the app."""

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
    """One request that is to suffer a fault.

    Attributes:
        work: does what a call asks for, and gives the true answer.
        consume_token: uses up the request's token, as it is when the request is never looked at further.
        chunks: how many chunks the message has that the call is about; 0 if there is none.
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
        """What the request came over."""
        return RawConnection(self.scope, self.receive)

    def mark_fired(self) -> None:
        """Notes the fault, before the client can see anything of it."""
        self.seen.fault = self.due.fault
        self.due.mark_fired()

    async def answer(self, answer: Response, send: Send | None = None) -> None:
        """Sends an answer, through `send` if it is given."""
        self.seen.status = answer.status_code
        await answer(self.scope, self.receive, send or self.send)


async def inject(faulted: FaultedRequest) -> None:
    """Answers a request, with the fault if it can be done; else truly, and the fault waits for the next one."""
    try:
        await _DOINGS[Effect(faulted.due.fault.effect)](faulted)
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


async def _lose_answer(faulted: FaultedRequest) -> None:
    await faulted.work(faulted.call)
    faulted.mark_fired()
    await faulted.connection.reset()


async def _delay(faulted: FaultedRequest) -> None:
    answer = await faulted.work(faulted.call)
    faulted.mark_fired()
    if await faulted.connection.pause(faulted.due.fault.seconds or 0):
        await faulted.answer(answer)


async def _answer(faulted: FaultedRequest) -> None:
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
    await faulted.answer(
        Response(
            None if status in _BODILESS else body if fault.body is None else fault.body,
            status_code=status,
            headers=headers,
            media_type=fault.content_type or content_type,
        )
    )


async def _missing_chunk(faulted: FaultedRequest) -> None:
    faulted.mark_fired()
    await faulted.answer(await faulted.work(dataclasses.replace(faulted.call, message_id="")))


async def _skip_chunk(faulted: FaultedRequest) -> None:
    await _other_chunk(faulted, +1, relabel=False)


async def _repeat_chunk(faulted: FaultedRequest) -> None:
    await _other_chunk(faulted, -1, relabel=False)


async def _repeat_content(faulted: FaultedRequest) -> None:
    await _other_chunk(faulted, -1, relabel=True)


async def _other_chunk(faulted: FaultedRequest, step: int, *, relabel: bool) -> None:
    number = _number(faulted.call)
    if not 1 <= number + step <= faulted.chunks:
        await faulted.answer(await faulted.work(faulted.call))
        return
    other = dataclasses.replace(faulted.call, operation=Operation.RETRIEVE_CHUNK, chunk_number=str(number + step))
    answer = await faulted.work(other)
    if _is_chunk(answer):
        faulted.mark_fired()
        if relabel:
            answer.headers[wire.CHUNK_RANGE] = str(ChunkRange(number, faulted.chunks))
            answer.status_code = 200 if number == faulted.chunks else 206
    await faulted.answer(answer)


async def _wrong_range(faulted: FaultedRequest) -> None:
    number = _number(faulted.call)
    answer = await faulted.work(faulted.call)
    wrong = number - 1 or 2
    if _is_chunk(answer) and wrong <= faulted.chunks:
        faulted.mark_fired()
        answer.headers[wire.CHUNK_RANGE] = str(ChunkRange(wrong, faulted.chunks))
    await faulted.answer(answer)


async def _cut_answer(faulted: FaultedRequest) -> None:
    answer = await faulted.work(faulted.call)
    length, wanted = _length(answer), faulted.due.fault.at_byte
    if not length and length is not None:
        await faulted.answer(answer)
        return
    faulted.mark_fired()
    await _send_part(faulted, answer, _position(wanted, length, (length or 0) // 2))
    await faulted.connection.flush()
    await faulted.connection.abandon()


async def _truncate_gzip(faulted: FaultedRequest) -> None:
    answer = await _measured(faulted, await faulted.work(faulted.call))
    length = _length(answer)
    if not length or not _is_gzip(answer):
        await faulted.answer(answer)
        return
    keep = _position(faulted.due.fault.at_byte, length, length // 2)
    answer.headers["content-length"] = str(keep)
    faulted.mark_fired()
    await _send_part(faulted, answer, keep)
    await faulted.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _corrupt_gzip(faulted: FaultedRequest) -> None:
    answer = await _measured(faulted, await faulted.work(faulted.call))
    length = _length(answer)
    if not length or not _is_gzip(answer):
        await faulted.answer(answer)
        return
    at = _position(faulted.due.fault.at_byte, length, length - _GZIP_TRAILER)
    faulted.mark_fired()
    await faulted.answer(answer, _Corrupting(faulted.send, at))


async def _trickle(faulted: FaultedRequest) -> None:
    answer = await faulted.work(faulted.call)
    faulted.mark_fired()
    await faulted.answer(answer, _Trickling(faulted))


async def _longer_length(faulted: FaultedRequest) -> None:
    await _wrong_length(faulted, faulted.due.fault.by_bytes or 1)


async def _shorter_length(faulted: FaultedRequest) -> None:
    await _wrong_length(faulted, -(faulted.due.fault.by_bytes or 1))


async def _wrong_length(faulted: FaultedRequest, by: int) -> None:
    answer = await _measured(faulted, await faulted.work(faulted.call))
    length = _length(answer)
    if length is None or length + by < 0:
        await faulted.answer(answer)
        return
    answer.headers["content-length"] = str(length + by)
    # Else what is left over would be in the way of the next request on it, or not, by chance.
    answer.headers["connection"] = "close"
    faulted.mark_fired()
    await faulted.answer(answer, _Unchecked(faulted))
    await faulted.connection.close()


async def _read(receive: Receive, at_least: int | None = None) -> None:
    """Takes the request's body, or so much of it, and does nothing with it."""
    taken, more = 0, True
    while more and (at_least is None or taken < at_least):
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientDisconnect
        taken += len(event.get("body", b""))
        more = event.get("more_body", False)


async def _send_part(faulted: FaultedRequest, answer: Response, keep: int) -> None:
    """Sends an answer's head and the first bytes of its body, without an end."""
    with contextlib.suppress(_Enough):
        await faulted.answer(answer, _Keeping(faulted.send, keep))


async def _measured(faulted: FaultedRequest, answer: Response) -> Response:
    """An answer whose length is known: one that is made while it is sent is made beforehand, in memory."""
    if _length(answer) is not None:
        return answer
    parts, ended = [], False

    async def collect(event: AsgiMessage) -> None:
        nonlocal ended
        parts.append(event.get("body", b""))
        ended = event["type"] == "http.response.body" and not event.get("more_body", False)

    await answer(faulted.scope, faulted.receive, collect)
    if not ended:
        # What is stored is damaged, and cannot be told in any other way.
        await faulted.connection.abandon()
        raise ClientDisconnect
    return Response(b"".join(parts), status_code=answer.status_code, headers=dict(answer.headers))


class _Enough(Exception):
    """Stops an answer in the middle."""


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
    """Sends the head as HTTP and the body as bytes, since no server would send a length that is wrong."""

    def __init__(self, faulted: FaultedRequest) -> None:
        self._exchange = faulted

    async def __call__(self, event: AsgiMessage) -> None:
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


_DOINGS: Final[dict[Effect, Callable[[FaultedRequest], Awaitable[None]]]] = {
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
