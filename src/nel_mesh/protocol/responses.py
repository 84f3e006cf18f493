"""What MESH's answers say: models from the good ones, an error from each of the others.

No answer's body may break this: a 5xx can be XML, a 403 or 413 HTML, and either can be empty or cut short.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ValidationError

from nel_mesh import errors
from nel_mesh.models import InboxPage, Mailbox, MessageMetadata, Report, Tracking
from nel_mesh.protocol import wire
from nel_mesh.protocol.chunks import ChunkRange

_KINDS: Mapping[int, type[errors.ResponseError]] = {
    400: errors.BadRequest,
    401: errors.NotAuthorised,
    403: errors.NotAuthorised,
    404: errors.NotFound,
    406: errors.BadRequest,
    410: errors.Gone,
    413: errors.BadRequest,
    417: errors.Refused,
    422: errors.BadRequest,
    423: errors.UploadFinished,
    425: errors.Busy,
    429: errors.Busy,
    503: errors.Busy,
}

_REASONS: Mapping[int, str] = {
    400: "MESH could not read the request",
    401: "access refused",
    403: "access refused: check mailbox id, password, shared key and client certificate, and that this machine's "
    "clock is right",
    404: "MESH knows of no such thing for this mailbox",
    406: "MESH did not expect this chunk",
    410: "the message has expired or failed, or has been acknowledged",
    413: "more than the 100 MB that one request may carry",
    417: "MESH refuses the message",
    423: "all chunks of this message have arrived already",
    425: "MESH is not ready for this yet",
    429: "MESH has had too many requests",
    503: "MESH is not available at present",
}

_PRINTABLE = re.compile(r"[^\x20-\x7e]+")
_Model = TypeVar("_Model", bound=BaseModel)


def error_from_response(
    operation: str, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> errors.ResponseError:
    """The error for an answer that is not a success; takes MESH's own words from the body where it has any."""
    kind = _KINDS.get(status, errors.ServerError)
    reason = _REASONS.get(status) or (
        "MESH failed" if status >= 500 else "an answer that MESH does not give; is the address right?"
    )
    error = kind(reason, operation=operation, status=status)
    error.event, error.code, error.description, error.message_id = _words(body)
    error.retry_after_in_seconds = retry_after(headers.get("retry-after"), now=now)
    return error


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """`Retry-After` in seconds, be it written as seconds or as a date; None if absent or unreadable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The server's own clock, as its answer's `Date` has it; None if it does not say."""
    try:
        moment = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def message_id(body: bytes) -> str | None:
    """The id in the answer to a send, by its name in either version; None if there is none to be read."""
    answer = _object(body)
    found = answer.get("message_id") or answer.get("messageID") or answer.get("messageId")
    return found if isinstance(found, str) else None


def inbox(operation: str, body: bytes) -> InboxPage:
    """A page of the inbox; the way to the next one is taken from `links.next`, but never its host or path."""
    answer = _object(body)
    ids = answer.get("messages")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise unreadable(operation)
    links = answer.get("links")
    following = links.get("next") if isinstance(links, dict) else None
    try:
        query = parse_qs(urlsplit(following).query) if isinstance(following, str) else {}
    except ValueError:
        # To take it for the last page would lose the rest.
        raise unreadable(operation) from None
    count = answer.get("approx_inbox_count")
    return InboxPage(
        ids,
        continue_from=query.get("continue_from", [None])[0],
        approx_inbox_count=count if isinstance(count, int) else None,
    )


def count(operation: str, body: bytes) -> int:
    """The number of messages in the inbox, from the deprecated operation."""
    found = _object(body).get("count")
    if not isinstance(found, int):
        raise unreadable(operation)
    return found


def tracking(operation: str, body: bytes) -> Tracking:
    """What has become of a sent message, in either version's names."""
    return _model(operation, Tracking, _object(body))


def mailboxes(operation: str, body: bytes) -> list[Mailbox]:
    """The mailboxes that a look-up found."""
    results = _object(body).get("results")
    if not isinstance(results, list):
        raise unreadable(operation)
    return [_model(operation, Mailbox, one) for one in results]


def metadata(operation: str, message_id: str, headers: Mapping[str, str]) -> MessageMetadata:
    """What a message's headers say; a Report if it is one."""
    named = headers.get(wire.MESSAGE_ID, "").strip()
    if named and named.upper() != message_id.upper():
        raise errors.IntegrityError(
            "the server gave another message than the one asked for", operation=operation, message_id=message_id
        )
    fields: dict[str, Any] = {**headers, wire.MESSAGE_ID: message_id, "chunks": 1}
    is_report = headers.get(wire.MESSAGE_TYPE, "").strip().upper() == "REPORT"
    text = headers.get(wire.CHUNK_RANGE, "").strip()
    # A report has no content, and MESH numbers its chunks accordingly: 1:0.
    if text and not is_report:
        try:
            fields["chunks"] = ChunkRange.parse(text).total
        except ValueError as error:
            raise errors.IntegrityError(str(error), operation=operation, message_id=message_id) from None
    fields[wire.MESSAGE_TYPE] = "REPORT" if is_report else headers.get(wire.MESSAGE_TYPE) or "DATA"
    if is_report:
        # What the transport says of an empty body is no property of the report.
        fields.pop(wire.CONTENT_TYPE, None)
    return _model(operation, Report if is_report else MessageMetadata, fields)


def _model(operation: str, kind: type[_Model], fields: object) -> _Model:
    try:
        return kind.model_validate(fields)
    except ValidationError:
        # Not chained: the details would hold the answer's values.
        raise unreadable(operation) from None


def unreadable(operation: str, *, status: int = 200) -> errors.ServerError:
    """The error for a success whose body is not the one that MESH gives."""
    return errors.ServerError(
        "the answer is not what MESH gives here; is the address that of a MESH server, and no proxy's page?",
        operation=operation,
        status=status,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(body: bytes) -> tuple[str | None, str | None, str | None, str | None]:
    """MESH's event, code, description and message id, out of an error body of any of its three forms."""
    answer = _object(body)
    detail = answer.get("detail")
    first: dict[str, Any] = {}
    description: object = None
    if isinstance(detail, str):
        description = detail
    elif isinstance(detail, list):
        first = next((one for one in detail if isinstance(one, dict)), {})
        description = first.get("msg")
        if isinstance(first.get("loc"), list):
            description = f"{'.'.join(str(part) for part in first['loc'])}: {description}"
    return (
        _word(first.get("event") or answer.get("errorEvent")),
        _word(first.get("code") or answer.get("errorCode")),
        _word(description or answer.get("errorDescription")),
        _word(answer.get("message_id") or answer.get("messageID")),
    )


def _word(value: object) -> str | None:
    """Text for a person, out of an answer: one line, printable, of bounded length."""
    if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "":
        return None
    return _PRINTABLE.sub(" ", str(value)).strip()[:200] or None
