"""The operations of MESH (MESH API, "Endpoints"). Importing them needs no package of the extra."""

from __future__ import annotations

import enum


class Operation(enum.StrEnum):
    """The operation of a request, with the name of the client's method where there is one."""

    PING = "ping"
    HANDSHAKE = "handshake"
    LIST_MESSAGES = "list_messages"
    COUNT_MESSAGES = "count_messages"
    RETRIEVE_MESSAGE = "retrieve_message"
    RETRIEVE_CHUNK = "retrieve_chunk"
    MESSAGE_METADATA = "message_metadata"
    ACKNOWLEDGE_MESSAGE = "acknowledge_message"
    SEND_MESSAGE = "send_message"
    SEND_CHUNK = "send_chunk"
    TRACK_MESSAGE = "track_message"
    TRACK_BY_LOCAL_ID = "track_by_local_id"
    LOOKUP_ENDPOINT = "lookup_endpoint"
    SEARCH_WORKFLOW = "search_workflow"
    RICH_INBOX = "rich_inbox"
    RICH_OUTBOX = "rich_outbox"
    CHECK_FOR_UPDATE = "check_for_update"


OPEN = frozenset({Operation.PING, Operation.LOOKUP_ENDPOINT, Operation.SEARCH_WORKFLOW})
"""The operations that need no token."""
