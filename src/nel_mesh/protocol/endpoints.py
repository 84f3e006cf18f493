"""The operations of MESH, each as the request that asks for it (MESH API, "Endpoints")."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from nel_mesh.errors import InvalidArgument
from nel_mesh.protocol import wire
from nel_mesh.protocol.chunks import ChunkRange

ROOT = "/messageexchange"
MIN_RESULTS, MAX_RESULTS, DEFAULT_RESULTS = 10, 5000, 500

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_\-]{1,100}")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request to MESH, but for the token, which each attempt makes anew.

    Attributes:
        operation: the name of the method that asks for it.
        method: the HTTP method.
        path: path and query, percent-encoded.
        template: the path with names for what differs; the same for each request of its kind.
        headers: what to send besides token and length.
        success: the statuses that mean that it was done.
        repeatable: whether a second time does no harm when the first time's answer was lost.
        needs_token: whether MESH asks for the token.
    """

    operation: str
    method: str
    path: str
    template: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    success: frozenset[int] = frozenset({200})
    repeatable: bool = True
    needs_token: bool = True


def ping() -> Request:
    return Request("ping", "GET", *_at("/_ping"), needs_token=False)


def handshake(mailbox_id: str, client: Mapping[str, str]) -> Request:
    return Request("handshake", "POST", *_at("/{mailbox_id}", mailbox_id=mailbox_id), headers=client)


def list_messages(
    mailbox_id: str, *, max_results: int, continue_from: str | None, workflow_filter: str | None
) -> Request:
    if not MIN_RESULTS <= max_results <= MAX_RESULTS:
        raise InvalidArgument(f"max_results: {max_results} is not between {MIN_RESULTS} and {MAX_RESULTS}")
    if workflow_filter is not None and not 2 <= len(workflow_filter) <= 255:
        raise InvalidArgument("workflow_filter: MESH takes between 2 and 255 characters")
    query = {
        "max_results": str(max_results),
        "continue_from": continue_from,
        "workflow_filter": workflow_filter,
    }
    text = urlencode({name: value for name, value in query.items() if value})
    return Request("list_messages", "GET", *_at("/{mailbox_id}/inbox", f"?{text}", mailbox_id=mailbox_id))


def count_messages(mailbox_id: str) -> Request:
    return Request("count_messages", "GET", *_at("/{mailbox_id}/count", mailbox_id=mailbox_id))


def message_metadata(mailbox_id: str, message_id: str) -> Request:
    return Request("message_metadata", "HEAD", *_inbox(mailbox_id, message_id))


def retrieve_message(mailbox_id: str, message_id: str, chunk: int = 1) -> Request:
    """Chunk 1 comes with the message itself; the others have addresses of their own."""
    at = _inbox(mailbox_id, message_id) if chunk == 1 else _inbox(mailbox_id, message_id, "/{chunk}", chunk=str(chunk))
    return Request(
        "retrieve_message",
        "GET",
        *at,
        headers={"accept-encoding": "gzip"},
        success=frozenset({200, 206}),
    )


def acknowledge_message(mailbox_id: str, message_id: str) -> Request:
    return Request("acknowledge_message", "PUT", *_inbox(mailbox_id, message_id, "/status/acknowledged"))


def send_message(mailbox_id: str, headers: Mapping[str, str], chunk_range: ChunkRange, *, gzipped: bool) -> Request:
    """The message, or its first chunk.

    A message whole in one request must not be repeated blindly: each request creates one. The first chunk of several
    may be: an upload that is never finished is never delivered.
    """
    of_several = chunk_range.total > 1
    return Request(
        "send_message",
        "POST",
        *_at("/{mailbox_id}/outbox", mailbox_id=mailbox_id),
        headers={
            **headers,
            **({wire.CHUNK_RANGE: str(chunk_range)} if of_several else {}),
            **({wire.CONTENT_ENCODING: "gzip"} if gzipped else {}),
        },
        success=frozenset({202}),
        repeatable=of_several,
    )


def send_chunk(
    mailbox_id: str, message_id: str, chunk_range: ChunkRange, *, content_type: str, gzipped: bool
) -> Request:
    """A chunk after the first. It has an address of its own, so a repeat replaces it, or meets 423 after the last."""
    return Request(
        "send_message",
        "POST",
        *_at(
            "/{mailbox_id}/outbox/{message_id}/{chunk}",
            mailbox_id=mailbox_id,
            message_id=_checked(message_id),
            chunk=str(chunk_range.number),
        ),
        headers={
            wire.FROM: mailbox_id,
            wire.CONTENT_TYPE: content_type,
            wire.CHUNK_RANGE: str(chunk_range),
            **({wire.CONTENT_ENCODING: "gzip"} if gzipped else {}),
        },
        success=frozenset({202}),
    )


def track_message(mailbox_id: str, message_id: str) -> Request:
    query = urlencode({"messageID": _checked(message_id)})
    return Request("track_message", "GET", *_at("/{mailbox_id}/outbox/tracking", f"?{query}", mailbox_id=mailbox_id))


def track_by_local_id(mailbox_id: str, local_id: str) -> Request:
    """Deprecated by MESH, but the only way to ask for a message whose id was lost with the answer."""
    at = _at("/{mailbox_id}/outbox/tracking/{local_id}", mailbox_id=mailbox_id, local_id=local_id)
    return Request("track_by_local_id", "GET", *at)


def lookup_endpoint(ods_code: str, workflow_id: str) -> Request:
    for name, value in (("ods_code", ods_code), ("workflow_id", workflow_id)):
        _check_argument(name, value)
    at = _at("/endpointlookup/{ods_code}/{workflow_id}", ods_code=ods_code, workflow_id=workflow_id)
    return Request("lookup_endpoint", "GET", *at)


def search_workflow(workflow_id: str) -> Request:
    _check_argument("workflow_id", workflow_id)
    return Request("search_workflow", "GET", *_at("/workflowsearch/{workflow_id}", workflow_id=workflow_id))


def _inbox(mailbox_id: str, message_id: str, rest: str = "", **parts: str) -> tuple[str, str]:
    template = "/{mailbox_id}/inbox/{message_id}" + rest
    return _at(template, mailbox_id=mailbox_id, message_id=_checked(message_id), **parts)


def _at(template: str, query: str = "", **parts: str) -> tuple[str, str]:
    """Path with query, and template."""
    path = template.format_map({name: _segment(value) for name, value in parts.items()})
    return f"{ROOT}{path}{query}", f"{ROOT}{template}"


def _checked(message_id: str) -> str:
    if not _MESSAGE_ID.fullmatch(message_id):
        # It may have come from outside: never let it reach another address.
        raise InvalidArgument("message_id: expected letters, digits, _ and - (at most 100)")
    return message_id


def _check_argument(name: str, value: str) -> None:
    if not value.strip():
        raise InvalidArgument(f"{name}: it is empty")


def _segment(value: str) -> str:
    # A segment of dots alone would be resolved away as a path.
    return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")
