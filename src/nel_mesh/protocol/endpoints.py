"""The operations of the MESH API, each as a value: the request that asks for it.

MESH API, "Endpoints". Paths begin with `/messageexchange`; every argument becomes one percent-encoded
segment, so that no argument can reach another address.

A request says whether it is idempotent (RFC 9110, 9.2.2), as `retry` decides by that.
MESH's exception is the send: a message in one request is created again by each repeat.
The first chunk of several may be repeated, since an upload that is never finished is never delivered;
a later chunk has an address of its own, so a repeat replaces it, or meets 423 after the last.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from nel_mesh.errors import IntegrityError, InvalidArgument
from nel_mesh.protocol import wire
from nel_mesh.protocol.chunks import ChunkRange

ROOT: Final = "/messageexchange"
MIN_RESULTS, MAX_RESULTS, DEFAULT_RESULTS = 10, 5000, 500

MAX_RESPONSE_BYTES: Final = 64 * 1024
"""The longest body of an error or a short response; no more of it is read."""

_MAX_LIST_BYTES: Final = 4 * 1024 * 1024
"""The longest list of message ids or mailboxes.

5,000 ids are 150 kB; there is room for an entry of 3 MB, so that one bad entry hides no other."""

_SUCCESS: Final = frozenset({200, 201, 202, 204})
"""The successes of a request that changes something. The MESH API has 200 or 202; servers mix them up."""

_MAX_CONTINUE_FROM_CHARACTERS: Final = 2000

_PLAIN = re.compile("[A-Za-z0-9_-]+")
"""Text that needs no percent-encoding; ids are such."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request to MESH, without its token: each attempt makes a new one.

    Attributes:
        operation: the name of the client method that asks for it.
        method: the HTTP method.
        path: path and query, percent-encoded.
        template: the path with names in place of arguments, for logs and spans.
        headers: the headers to send besides token and length.
        success: the statuses that mean success.
        idempotent: whether a repeat does no harm if the first response was lost.
        needs_token: whether MESH asks for the token.
        max_response_bytes: the longest body that a success can have, except content.
    """

    operation: str
    method: str
    path: str = dataclasses.field(repr=False)
    template: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    success: frozenset[int] = frozenset({200})
    idempotent: bool = True
    needs_token: bool = True
    max_response_bytes: int = MAX_RESPONSE_BYTES


def ping() -> Request:
    """MESH API, "Ping": the only operation that needs no token."""
    return Request("ping", "GET", *_at("/_ping"), needs_token=False)


def handshake(mailbox_id: str) -> Request:
    """MESH API, "Validate a mailbox (Handshake)": POST, as a GET can answer 200 with an error."""
    return Request("handshake", "POST", *_at("/{mailbox_id}", mailbox_id=mailbox_id), success=_SUCCESS)


def list_messages(
    mailbox_id: str, *, max_results: int, continue_from: str | None, workflow_filter: str | None
) -> Request:
    """MESH API, "Check inbox"."""
    if not MIN_RESULTS <= max_results <= MAX_RESULTS:
        raise InvalidArgument(f"max_results: {max_results} is not between {MIN_RESULTS} and {MAX_RESULTS}")
    if workflow_filter is not None and not 2 <= len(workflow_filter) <= 255:
        raise InvalidArgument("workflow_filter: MESH takes between 2 and 255 characters")
    if continue_from is not None and len(continue_from) > _MAX_CONTINUE_FROM_CHARACTERS:
        raise InvalidArgument(f"continue_from: it has over {_MAX_CONTINUE_FROM_CHARACTERS} characters")
    query = _query(max_results=str(max_results), continue_from=continue_from, workflow_filter=workflow_filter)
    return Request(
        "list_messages",
        "GET",
        *_at("/{mailbox_id}/inbox", query, mailbox_id=mailbox_id),
        max_response_bytes=_MAX_LIST_BYTES,
    )


def count_messages(mailbox_id: str) -> Request:
    """MESH API, "Count messages" (deprecated)."""
    return Request("count_messages", "GET", *_at("/{mailbox_id}/count", mailbox_id=mailbox_id))


def message_metadata(mailbox_id: str, message_id: str) -> Request:
    """MESH API, "Head Message"."""
    return Request("message_metadata", "HEAD", *_inbox(mailbox_id, message_id))


def retrieve_message(mailbox_id: str, message_id: str, chunk: int = 1) -> Request:
    """MESH API, "Get message", which gives chunk 1; "Get message chunk" for the others."""
    at = _inbox(mailbox_id, message_id) if chunk == 1 else _inbox(mailbox_id, message_id, "/{chunk}", chunk=str(chunk))
    return Request(
        "retrieve_message",
        "GET",
        *at,
        headers={"accept-encoding": "gzip"},
        success=frozenset({200, 206}),
    )


def acknowledge_message(mailbox_id: str, message_id: str) -> Request:
    """MESH API, "Acknowledge message"."""
    at = _inbox(mailbox_id, message_id, "/status/acknowledged")
    return Request("acknowledge_message", "PUT", *at, success=_SUCCESS)


def send_message(mailbox_id: str, headers: Mapping[str, str], chunk_range: ChunkRange, *, gzipped: bool) -> Request:
    """MESH API, "Send message": the whole message, or the first of its chunks."""
    chunked = chunk_range.total > 1
    return Request(
        "send_message",
        "POST",
        *_at("/{mailbox_id}/outbox", mailbox_id=mailbox_id),
        headers={
            **headers,
            **({wire.CHUNK_RANGE: str(chunk_range)} if chunked else {}),
            **({wire.CONTENT_ENCODING: "gzip"} if gzipped else {}),
        },
        success=_SUCCESS,
        idempotent=chunked,
    )


def send_chunk(
    mailbox_id: str, message_id: str, chunk_range: ChunkRange, *, content_type: str, gzipped: bool
) -> Request:
    """MESH API, "Send chunked message": a chunk after the first."""
    return Request(
        "send_message",
        "POST",
        *_at(
            "/{mailbox_id}/outbox/{message_id}/{chunk}",
            mailbox_id=mailbox_id,
            message_id=checked(message_id),
            chunk=str(chunk_range.number),
        ),
        headers={
            wire.FROM: mailbox_id,
            wire.CONTENT_TYPE: content_type,
            wire.CHUNK_RANGE: str(chunk_range),
            **({wire.CONTENT_ENCODING: "gzip"} if gzipped else {}),
        },
        success=_SUCCESS,
    )


def track_message(mailbox_id: str, message_id: str) -> Request:
    """MESH API, "Track outbox"."""
    query = _query(messageID=checked(message_id))
    at = _at("/{mailbox_id}/outbox/tracking", query, mailbox_id=mailbox_id)
    return Request("track_message", "GET", *at)


def track_by_local_id(mailbox_id: str, local_id: str) -> Request:
    """MESH API, "Track outbox" by local id.

    Deprecated, but the only way to look up a message whose id was lost with the response.
    """
    _check_not_blank("local_id", local_id)
    at = _at("/{mailbox_id}/outbox/tracking/{local_id}", mailbox_id=mailbox_id, local_id=local_id)
    return Request("track_by_local_id", "GET", *at)


def lookup_endpoint(ods_code: str, workflow_id: str) -> Request:
    """MESH API, "Look up MESH address"."""
    for name, value in (("ods_code", ods_code), ("workflow_id", workflow_id)):
        _check_not_blank(name, value)
    at = _at("/endpointlookup/{ods_code}/{workflow_id}", ods_code=ods_code, workflow_id=workflow_id)
    return Request("lookup_endpoint", "GET", *at, max_response_bytes=_MAX_LIST_BYTES)


def search_workflow(workflow_id: str) -> Request:
    """MESH API, "Lookup by workflow"."""
    _check_not_blank("workflow_id", workflow_id)
    at = _at("/workflowsearch/{workflow_id}", workflow_id=workflow_id)
    return Request("search_workflow", "GET", *at, max_response_bytes=_MAX_LIST_BYTES)


def _inbox(mailbox_id: str, message_id: str, rest: str = "", **parts: str) -> tuple[str, str]:
    template = "/{mailbox_id}/inbox/{message_id}" + rest
    return _at(template, mailbox_id=mailbox_id, message_id=checked(message_id), **parts)


def _at(template: str, query: str = "", **parts: str) -> tuple[str, str]:
    """The path with its query, and the template."""
    path = template.format_map({name: _segment(name, value) for name, value in parts.items()})
    return f"{ROOT}{path}{query}", f"{ROOT}{template}"


def checked(message_id: str) -> str:
    """Return the id of a message. Raises InvalidArgument or IntegrityError for what is none."""
    if isinstance(message_id, wire.InvalidMessageId):
        raise IntegrityError(f"the inbox lists {message_id}, which is not the id of a message")
    _check_text("message_id", message_id)
    if not wire.is_message_id(message_id):
        raise InvalidArgument("message_id: expected letters, digits, _ and - (at most 100)")
    return message_id


def _check_not_blank(name: str, value: str) -> None:
    _check_text(name, value)
    if not value.strip():
        raise InvalidArgument(f"{name}: it is empty")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        # A receipt, a message or a tracking in place of its id is a natural slip.
        cure = f"; pass its {name}" if hasattr(value, name) else ""
        raise InvalidArgument(f"{name}: expected text, not {type(value).__name__}{cure}")


def _segment(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    # HTTP clients and servers resolve a segment of `.` or `..` as a path.
    return _encoded(name, value) if value.strip(".") else value.replace(".", "%2E")


def _query(**arguments: str | None) -> str:
    return "?" + "&".join(f"{name}={_encoded(name, value)}" for name, value in arguments.items() if value)


def _encoded(name: str, value: str) -> str:
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name}: it holds a character that has no encoding") from None
