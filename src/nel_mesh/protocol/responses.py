"""Values from the responses of MESH: models from successes, errors from everything else.

No response is trusted.
The body of an error can be anything: a 5xx may be XML, a 403 or 413 HTML, and each may be empty or cut
off, which must not break the handling of the error.
Text of a response goes to logs and terminals only through `wire.printable`; an id only if it has the
form of a message id (`message_id`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ValidationError

from nel_mesh import errors
from nel_mesh.models import (
    InboxPage,
    Mailbox,
    MessageMetadata,
    Report,
    Tracking,
)
from nel_mesh.protocol import wire
from nel_mesh.protocol.chunks import ChunkRange

_REFUSALS: Final[Mapping[int, tuple[type[errors.ResponseError], str]]] = {
    400: (errors.BadRequest, "MESH could not read the request"),
    401: (errors.NotAuthorised, "access refused"),
    403: (
        errors.NotAuthorised,
        "access refused: check mailbox id, password, shared key and client certificate, "
        "and that this machine's clock is right",
    ),
    404: (errors.NotFound, "not found in this mailbox"),
    406: (errors.BadRequest, "MESH did not expect this chunk"),
    410: (errors.Gone, "the message has expired or failed, or has been acknowledged"),
    413: (errors.BadRequest, "more than the 100 MB that one request may carry"),
    417: (errors.Refused, "MESH refuses the message"),
    422: (errors.BadRequest, "MESH could not read the request"),
    423: (errors.UploadFinished, "all chunks of this message have arrived already"),
    425: (errors.Busy, "MESH is not ready for this yet"),
    429: (errors.Busy, "rate limited by MESH"),
    503: (errors.Busy, "MESH is not available at present"),
}
"""MESH API, "Error codes"; 413, 425, 429 and 503 are not in it but occur (a gateway's answers)."""

_FOR_LOGS: Final = (
    wire.FROM,
    wire.WORKFLOW_ID,
    wire.MESSAGE_TYPE,
    wire.STATUS_EVENT,
    wire.STATUS_CODE,
    wire.STATUS_DESCRIPTION,
)
"""Headers of a message whose values go to logs, spans or terminals."""

_MAX_JSON_VALUES: Final = 200_000
"""More values than any response has: 5,000 message ids, or about 40,000 mailboxes.

In memory a value takes 25 times its length as text, so a body of a few MB could need 100 MB."""

_MAX_CONTINUE_FROM_CHARACTERS: Final = 1000
"""MESH API, "Check inbox": `continue_from`."""

_Model = TypeVar("_Model", bound=BaseModel)


def error_from_response(
    operation: str, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> errors.ResponseError:
    """Make the error for a response that is not a success.

    Event, code and description are taken from the body where it has them (MESH API, "MeshError").
    """
    kind, reason = _REFUSALS.get(status) or (
        errors.ServerError,
        "MESH failed" if status >= 500 else "MESH does not give this status here; check the address (`url`)",
    )
    error = kind(reason, operation=operation, status=status)
    answer = _object(body)
    error.event, error.code, error.description = _event_code_description(answer)
    error.message_id = _message_id(answer)
    error.retry_after_in_seconds = retry_after(headers.get("retry-after"), now=now)
    return error


def unexpected_response(operation: str, *, status: int = 200) -> errors.ServerError:
    """Make the error for a success whose body is not the one that the MESH API describes."""
    return errors.ServerError(
        "the response is not that of a MESH server; check the address (`url`), and whether a proxy "
        "answers in its place",
        operation=operation,
        status=status,
    )


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """Parse `Retry-After` (RFC 9110, 10.2.3: seconds or a date) into seconds; None if unreadable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    moment = _date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The server's time, from the `Date` header; None if it gives none."""
    return _date(headers.get("date", ""))


def message_id(body: bytes) -> str | None:
    """The message id in the response to a send, in either version; None if there is no valid one."""
    return _message_id(_object(body))


def inbox(operation: str, body: bytes) -> InboxPage:
    """Parse a page of the inbox (MESH API, "Check inbox").

    Of `links.next` only `continue_from` is used, never its host or path.
    An entry that is not a message id becomes an InvalidMessageId, so that it is one failed message
    and not the end of the list.
    """
    answer = _object(body)
    entries = answer.get("messages")
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise unexpected_response(operation)
    links = answer.get("links")
    following = links.get("next") if isinstance(links, dict) else None
    count = answer.get("approx_inbox_count")
    return InboxPage(
        map(_valid_or_placeholder, entries),
        continue_from=_continue_from(operation, following) if isinstance(following, str) else None,
        approx_inbox_count=count if type(count) is int else None,
    )


def count(operation: str, body: bytes) -> int:
    """The number of messages in the inbox (MESH API, "Count messages", deprecated)."""
    found = _object(body).get("count")
    if type(found) is not int:
        raise unexpected_response(operation)
    return found


def tracking(operation: str, body: bytes) -> Tracking:
    """Parse the state of a sent message (MESH API, "Track outbox"), in either version."""
    found = _model(operation, Tracking, _object(body))
    if not wire.is_message_id(found.message_id):
        raise unexpected_response(operation)
    shown = ("workflow_id", "status", "status_event", "status_code", "status_description")
    return found.model_copy(update={name: wire.printable(getattr(found, name)) for name in shown})


def mailboxes(operation: str, body: bytes) -> list[Mailbox]:
    """Parse the result of a look-up (MESH API, "Look up MESH address", "Lookup by workflow")."""
    results = _object(body).get("results")
    if not isinstance(results, list):
        raise unexpected_response(operation)
    return [_model(operation, Mailbox, one) for one in results]


def metadata(operation: str, message_id: str, headers: Mapping[str, str]) -> MessageMetadata:
    """Parse the headers of a message (MESH API, "Get message"); a Report if it is one.

    Raises IntegrityError if they are another message's, or name no number of chunks.
    """
    named = headers.get(wire.MESSAGE_ID, "").strip()
    if named and named.upper() != message_id.upper():
        raise errors.IntegrityError(
            "the server gave another message than the one asked for",
            operation=operation,
            message_id=message_id,
        )
    fields: dict[str, Any] = {**headers, wire.MESSAGE_ID: message_id}
    fields |= {name: wire.printable(headers[name]) for name in _FOR_LOGS if name in headers}
    linked = headers.get(wire.LINKED_MESSAGE_ID, "").strip()
    fields[wire.LINKED_MESSAGE_ID] = _valid_or_placeholder(linked) if linked else None
    is_report = headers.get(wire.MESSAGE_TYPE, "").strip().upper() == "REPORT"
    fields[wire.MESSAGE_TYPE] = "REPORT" if is_report else fields.get(wire.MESSAGE_TYPE) or "DATA"
    if is_report:
        # The content type is that of an empty body. Nor is there a number of chunks to parse: MESH
        # gives the chunk range 1:0.
        fields.pop(wire.CONTENT_TYPE, None)
        return _model(operation, Report, fields)
    if headers.get(wire.CHUNK_RANGE, "").strip():
        try:
            fields["chunks"] = ChunkRange.parse(headers[wire.CHUNK_RANGE]).total
        except ValueError as error:
            raise errors.IntegrityError(str(error), operation=operation, message_id=message_id) from None
    if _is_coded(headers) and headers.get(wire.COMPRESSED, "").strip().upper() != "N":
        # A server that gzips the body in transit sets Mex-Content-Compressed to Y itself.
        fields.pop(wire.COMPRESSED, None)
    return _compact(_model(operation, MessageMetadata, fields))


def _is_coded(headers: Mapping[str, str]) -> bool:
    return headers.get(wire.CONTENT_ENCODING, "").strip().lower() not in ("", "identity")


def _compact(found: _Model) -> _Model:
    """Return the value, which now shares what is the same in the next message.

    The result of a run holds the metadata of each file. In an inbox of 100,000 messages the senders, workflows and
    types are few, and so are the sets of headers: of 2,000 bytes a message 1,200 are spent on copies of those.
    """
    values = vars(found)
    for name, value in values.items():
        if type(value) is str:
            values[name] = sys.intern(value)
    # Past what refuses to change a value: nobody has it yet, and to construct another takes four times as long.
    object.__setattr__(found, "__pydantic_fields_set__", _shared_set(frozenset(found.model_fields_set)))
    return found


@functools.lru_cache(maxsize=100)
def _shared_set(names: frozenset[str]) -> set[str]:
    # Nothing changes it: values are frozen, and their copies have sets of their own.
    return set(names)


def _model(operation: str, kind: type[_Model], fields: object) -> _Model:
    try:
        return kind.model_validate(fields)
    except ValidationError:
        # Not chained: the details hold the values of the response.
        raise unexpected_response(operation) from None


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; empty if there is none, or one of more values than MESH gives."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > _MAX_JSON_VALUES:
        return {}
    try:
        # UTF-8 (RFC 8259, 8.1): to let `json` find out the encoding takes as long as to read a short body.
        found = json.loads(body.decode("utf-8", "surrogatepass").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _message_id(answer: Mapping[str, Any]) -> str | None:
    found = answer.get("message_id") or answer.get("messageID") or answer.get("messageId")
    return found if isinstance(found, str) and wire.is_message_id(found) else None


def _valid_or_placeholder(text: str) -> str:
    if wire.is_message_id(text):
        return text
    # Enough of a digest to tell one from another in a log, too little to find the text by trials.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:4]
    return wire.InvalidMessageId(f"<invalid message id {digest}>")


def _continue_from(operation: str, link: str) -> str | None:
    try:
        found = parse_qs(urlsplit(link).query).get("continue_from", [None])[0]
    except ValueError:
        # Not None, which would say that this is the last page.
        raise unexpected_response(operation) from None
    if found is None:
        return None
    if len(found) > _MAX_CONTINUE_FROM_CHARACTERS or not (found.isascii() and found.isprintable()):
        raise unexpected_response(operation)
    return found


def _event_code_description(answer: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """MESH's event, code and description from an error body, in any of its three forms.

    Version 2 and validation errors have a list in `detail`, version 1 has `errorEvent` and the like,
    and some errors have text in `detail`.
    """
    detail = answer.get("detail")
    first: dict[str, Any] = {}
    description: object = detail
    if isinstance(detail, list):
        first = next((one for one in detail if isinstance(one, dict)), {})
        description = first.get("msg")
        if isinstance(first.get("loc"), list):
            description = f"{'.'.join(str(part) for part in first['loc'])}: {description}"
    return (
        wire.printable(first.get("event") or answer.get("errorEvent")),
        wire.printable(first.get("code") or answer.get("errorCode")),
        wire.printable(description or answer.get("errorDescription")),
    )
