"""Handlers of the rich inbox and the rich outbox, which the official sandbox has and the MESH API does not document."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote, urlencode

from starlette.responses import Response

from nel_mesh.sandbox import representations
from nel_mesh.sandbox.configuration import utc_now
from nel_mesh.sandbox.errors import InvalidRequest, json_response, parse_number
from nel_mesh.sandbox.request import RequestContext
from nel_mesh.sandbox.store import StoredMessage

DEFAULT_PAGE: Final = 100
_LIMITS: Final = {"inbox": (1, 2000), "outbox": (10, 5000)}
_SPAN: Final = timedelta(days=30)


async def rich_inbox(context: RequestContext) -> Response:
    """List what has reached the inbox in the last 30 days, acknowledged or not, newest first."""
    mailbox_id = context.call.mailbox_id
    return _page(context, "inbox", lambda message: message.position > 0 and message.recipient == mailbox_id)


async def rich_outbox(context: RequestContext) -> Response:
    """List what the mailbox has sent in the last 30 days, newest first."""
    mailbox_id = context.call.mailbox_id
    return _page(context, "outbox", lambda message: message.sender == mailbox_id)


def _page(context: RequestContext, box: str, belongs: Callable[[StoredMessage], bool]) -> Response:
    limit = _max_results(context, *_LIMITS[box])
    since = _start_time(context)
    found = [one for one in reversed(context.store.snapshot()) if belongs(one) and one.created >= since]
    found = _after(context, found)
    path = f"/messageexchange/{context.call.mailbox_id}/{box}/rich"
    query = {"start_time": str(representations.naive(since)), "max_results": str(limit)}
    links = {"self": _link(path, query)}
    if len(found) > limit:
        links["next"] = _link(path, query | {"continue_from": found[limit - 1].message_id})
    mailbox = context.mailbox
    messages = [representations.rich(message, mailbox) for message in found[:limit]]
    if box == "inbox":
        messages = [{name: value for name, value in one.items() if value or name != "status_code"} for one in messages]
    content = {
        "valid_at": representations.naive(utc_now()).isoformat(),
        "messages": messages,
        "links": links,
    }
    return json_response(content, 2)


def _max_results(context: RequestContext, least: int, most: int) -> int:
    text = context.request.query_params.get("max_results", str(DEFAULT_PAGE))
    return parse_number("query", "max_results", text, least, most)


def _start_time(context: RequestContext) -> datetime:
    text = context.request.query_params.get("start_time")
    if text is None:
        return context.store.now() - _SPAN
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest("query", "start_time", "a date and time in ISO 8601 is needed") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _after(context: RequestContext, found: list[StoredMessage]) -> list[StoredMessage]:
    text = context.request.query_params.get("continue_from")
    if text is None:
        return found
    places = [index for index, message in enumerate(found) if message.message_id == text]
    if not places:
        raise InvalidRequest("query", "continue_from", "it was not made by an earlier page of this list")
    return found[places[0] + 1 :]


def _link(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path
