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
        headers: what to send besides token and length.
        success: the statuses that mean that it was done.
        repeatable: whether a second time does no harm when the first time's answer was lost.
        needs_token: whether MESH asks for the token.
    """

    operation: str
    method: str
    path: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    success: frozenset[int] = frozenset({200})
    repeatable: bool = True
    needs_token: bool = True


def ping() -> Request:
    return Request("ping", "GET", f"{ROOT}/_ping", needs_token=False)


def handshake(mailbox_id: str, client: Mapping[str, str]) -> Request:
    return Request("handshake", "POST", f"{ROOT}/{_segment(mailbox_id)}", headers=client)


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
    return Request("list_messages", "GET", f"{ROOT}/{_segment(mailbox_id)}/inbox?{text}")


def count_messages(mailbox_id: str) -> Request:
    return Request("count_messages", "GET", f"{ROOT}/{_segment(mailbox_id)}/count")


def message_metadata(mailbox_id: str, message_id: str) -> Request:
    return Request("message_metadata", "HEAD", _inbox(mailbox_id, message_id))


def retrieve_message(mailbox_id: str, message_id: str, chunk: int = 1) -> Request:
    """Chunk 1 comes with the message itself; the others have addresses of their own."""
    path = _inbox(mailbox_id, message_id)
    return Request(
        "retrieve_message",
        "GET",
        path if chunk == 1 else f"{path}/{chunk}",
        headers={"accept-encoding": "gzip"},
        success=frozenset({200, 206}),
    )


def acknowledge_message(mailbox_id: str, message_id: str) -> Request:
    return Request("acknowledge_message", "PUT", f"{_inbox(mailbox_id, message_id)}/status/acknowledged")


def send_message(mailbox_id: str, headers: Mapping[str, str], chunk_range: ChunkRange, *, gzipped: bool) -> Request:
    """The message, or its first chunk.

    A message whole in one request must not be repeated blindly: each request creates one. The first chunk of several
    may be: an upload that is never finished is never delivered.
    """
    of_several = chunk_range.total > 1
    return Request(
        "send_message",
        "POST",
        f"{ROOT}/{_segment(mailbox_id)}/outbox",
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
        f"{ROOT}/{_segment(mailbox_id)}/outbox/{_checked(message_id)}/{chunk_range.number}",
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
    return Request("track_message", "GET", f"{ROOT}/{_segment(mailbox_id)}/outbox/tracking?{query}")


def track_by_local_id(mailbox_id: str, local_id: str) -> Request:
    """Deprecated by MESH, but the only way to ask for a message whose id was lost with the answer."""
    return Request("track_by_local_id", "GET", f"{ROOT}/{_segment(mailbox_id)}/outbox/tracking/{_segment(local_id)}")


def lookup_endpoint(ods_code: str, workflow_id: str) -> Request:
    path = f"{ROOT}/endpointlookup/{_argument('ods_code', ods_code)}/{_argument('workflow_id', workflow_id)}"
    return Request("lookup_endpoint", "GET", path)


def search_workflow(workflow_id: str) -> Request:
    path = f"{ROOT}/workflowsearch/{_argument('workflow_id', workflow_id)}"
    return Request("search_workflow", "GET", path)


def _inbox(mailbox_id: str, message_id: str) -> str:
    return f"{ROOT}/{_segment(mailbox_id)}/inbox/{_checked(message_id)}"


def _checked(message_id: str) -> str:
    if not _MESSAGE_ID.fullmatch(message_id):
        # It may have come from outside: never let it reach another address.
        raise InvalidArgument("message_id: expected letters, digits, _ and - (at most 100)")
    return message_id


def _argument(name: str, value: str) -> str:
    if not value.strip():
        raise InvalidArgument(f"{name}: it is empty")
    return _segment(value)


def _segment(value: str) -> str:
    # A segment of dots alone would be resolved away as a path.
    return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")
