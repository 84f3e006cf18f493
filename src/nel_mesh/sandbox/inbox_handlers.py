"""Handlers of the inbox: list, count, download and acknowledge."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from starlette.responses import Response

from nel_mesh.protocol import wire
from nel_mesh.sandbox import bodies, representations
from nel_mesh.sandbox.errors import InvalidRequest, Refusal, parse_number
from nel_mesh.sandbox.request import RequestContext
from nel_mesh.sandbox.store import MessageStatus, StoredMessage

DEFAULT_PAGE: Final = 500
MIN_PAGE: Final = 10
MAX_PAGE: Final = 5000
OCTETS: Final = "application/octet-stream"
_GONE: Final = (
    MessageStatus.UPLOADING,
    MessageStatus.ACKNOWLEDGED,
    MessageStatus.UNDELIVERABLE,
    MessageStatus.ERROR,
)


async def list_messages(context: RequestContext) -> Response:
    """List one page of the inbox (MESH API, "Check an inbox").

    A page is made of the next `max_results` messages; the filter then drops some. So a filtered page can be short or
    empty, and another one follow it.
    """
    limit = _max_results(context)
    wanted = _filter(context)
    after = _continue_from(context)
    mailbox_id = context.call.mailbox_id
    looked_at, more = context.store.inbox_page(mailbox_id, after=after, limit=limit)
    found = [message.message_id for message in looked_at if wanted(message.description.workflow_id)]
    if context.version == 1:
        return context.json({"messages": found})
    query = {
        name: value
        for name in ("max_results", "workflow_filter")
        if (value := context.request.query_params.get(name)) is not None
    }
    links = {"self": _link(mailbox_id, query)}
    if more:
        links["next"] = _link(mailbox_id, query | {"continue_from": _bookmark(mailbox_id, looked_at[-1])})
    return context.json(
        {"messages": found, "links": links, "approx_inbox_count": context.store.inbox_count(mailbox_id)}
    )


async def count_messages(context: RequestContext) -> Response:
    """Count the messages in the inbox (MESH API, "Check an inbox count (deprecated)")."""
    count = context.store.inbox_count(context.call.mailbox_id)
    if context.version == 2:
        return context.json({"count": count})
    return context.json({"count": count, "internalID": secrets.token_hex(16), "allResultsIncluded": True})


async def metadata(context: RequestContext) -> Response:
    """Give the headers of a message (MESH API, "Head Message")."""
    message = _message(context, foreign=_foreign(404, event="RECEIVE", code="20"))
    return Response(headers=representations.message_headers(message, 1), media_type=wire.ACCEPT_V2)


async def retrieve(context: RequestContext) -> Response:
    """Give a message or one of its chunks (MESH API, "Get Message", "Get Message chunk").

    The last chunk has status 200, the others 206.
    """
    number = context.chunk_number() if context.call.chunk_number else 1
    message = _message(context, foreign=_foreign(403, description="Forbidden"))
    if message.failure:
        if number > 1:
            raise _no_such_message()
        return Response(headers=representations.message_headers(message, 1), media_type=OCTETS)
    if number > message.total_chunks:
        raise _no_such_message()
    return _body_response(context, message, number)


async def acknowledge(context: RequestContext) -> Response:
    """Remove a message from the inbox (MESH API, "Acknowledge message"); a repeat changes nothing."""
    gone = (MessageStatus.UNDELIVERABLE, MessageStatus.ERROR)
    message = _message(context, foreign=_foreign(403, description="Forbidden"), gone=gone)
    context.store.acknowledge(message)
    if context.version == 2:
        return Response()
    return context.json({"messageId": message.message_id})


def _message(context: RequestContext, *, foreign: Refusal, gone: tuple[MessageStatus, ...] = _GONE) -> StoredMessage:
    """Find the message of a request. Raises `foreign` if it is another mailbox's, and Refusal if it is not there."""
    message = context.store.find(context.call.message_id)
    if message is None:
        raise _no_such_message()
    if message.recipient != context.call.mailbox_id:
        raise foreign
    readable = message.status is MessageStatus.ACKNOWLEDGED and context.configuration.acknowledged_readable
    if message.status in gone and not readable:
        reason = f"the message is not in the inbox: {message.status.value}"
        raise Refusal(410, reason, event="SEND", code="Message already accepted")
    if message.status is MessageStatus.UPLOADING:
        raise _no_such_message()
    return message


def _foreign(status: int, *, event: str = "", code: str = "", description: str | None = None) -> Refusal:
    reason = "the message is for another mailbox"
    return Refusal(status, reason, event=event, code=code, description=description)


def _no_such_message() -> Refusal:
    return Refusal(404, "there is no such message or chunk", event="RECEIVE", code="20")


def _body_response(context: RequestContext, message: StoredMessage, number: int) -> Response:
    path = context.store.body(message, number)
    stored_as = message.description.content_encoding
    takes_gzip = _accepts_gzip(context.header("accept-encoding"))
    make: Callable[[Path], Iterator[bytes]]
    make, encoding = bodies.plain, stored_as
    if stored_as and not takes_gzip:
        make, encoding = bodies.gunzipped, ""
    elif not stored_as and takes_gzip and context.version == 2 and context.configuration.compress_downloads:
        make, encoding = bodies.gzipped, "gzip"
    headers = representations.message_headers(message, number)
    headers[wire.CONTENT_TYPE] = _content_type(message, context.version)
    if encoding:
        headers |= {wire.CONTENT_ENCODING: encoding, wire.COMPRESSED: "Y"}
    return bodies.BodyResponse(
        make(path),
        status=200 if number == message.total_chunks else 206,
        headers=headers,
        length=message.sizes[number - 1] if make is bodies.plain else None,
        slow=make is not bodies.plain,
    )


def _content_type(message: StoredMessage, version: int) -> str:
    # A part of something is not of its type, and version 1 never says what the type is.
    whole = message.total_chunks == 1
    return (whole and version == 2 and message.description.content_type) or OCTETS


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _max_results(context: RequestContext) -> int:
    text = context.request.query_params.get("max_results", str(DEFAULT_PAGE))
    return parse_number("query", "max_results", text, MIN_PAGE, MAX_PAGE)


def _filter(context: RequestContext) -> Callable[[str], bool]:
    """Make the predicate of a `workflow_filter`: WORKFLOW1, WORKFL*, *_ACK*, each also with ! before it."""
    text = context.request.query_params.get("workflow_filter")
    if text is None:
        return lambda _: True
    if not 2 <= len(text) <= 255:
        raise InvalidRequest("query", "workflow_filter", "2 to 255 characters are needed")
    wanted = not text.startswith("!")
    pattern = text.removeprefix("!")
    if pattern.startswith("*"):
        part = pattern.strip("*")
        return lambda workflow_id: (part in workflow_id) is wanted
    if pattern.endswith("*"):
        start = pattern.rstrip("*")
        return lambda workflow_id: workflow_id.startswith(start) is wanted
    return lambda workflow_id: (workflow_id == pattern) is wanted


def _continue_from(context: RequestContext) -> int:
    """The position after which the page begins: by our own link in version 2, by a message id in version 1."""
    text = context.request.query_params.get("continue_from")
    if text is None:
        return 0
    if not 24 <= len(text) <= 1000:
        raise InvalidRequest("query", "continue_from", "24 to 1000 characters are needed")
    if context.version == 1:
        message = context.store.find(text)
        position = message.position if message and message.recipient == context.call.mailbox_id else 0
    else:
        position = _bookmark_position(context.call.mailbox_id, text)
    if not position:
        raise InvalidRequest("query", "continue_from", "it was not made by an earlier page of this inbox")
    return position


def _bookmark(mailbox_id: str, message: StoredMessage) -> str:
    return base64.urlsafe_b64encode(json.dumps({"pk": mailbox_id, "sk": message.position}).encode()).decode()


def _bookmark_position(mailbox_id: str, text: str) -> int:
    try:
        mark = json.loads(base64.urlsafe_b64decode(text))
        return int(mark["sk"]) if mark["pk"] == mailbox_id else 0
    except (binascii.Error, ValueError, TypeError, KeyError):
        return 0


def _link(mailbox_id: str, query: dict[str, str]) -> str:
    path = f"/messageexchange/{mailbox_id}/inbox"
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path
