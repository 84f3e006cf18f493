"""Routes: from method and path to a MESH operation (MESH API, "Endpoints")."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote

from nel_mesh.sandbox.configuration import SandboxConfiguration
from nel_mesh.sandbox.errors import Refusal
from nel_mesh.sandbox.operations import Operation


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The operation of a request, with the arguments in its path."""

    operation: Operation
    mailbox_id: str = ""
    message_id: str = ""
    chunk_number: str = ""
    local_id: str = ""
    ods_code: str = ""
    workflow_id: str = ""

    def chunk(self) -> int | None:
        """The number of the chunk, from 1; None if the operation has none, or the path gives no number."""
        if self.operation in (Operation.SEND_MESSAGE, Operation.RETRIEVE_MESSAGE):
            return 1
        text = self.chunk_number
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def find(method: str, raw_path: bytes, configuration: SandboxConfiguration) -> Call:
    """Find the call for a method and a percent-encoded path, of those that the configuration allows.

    Raises Refusal: 404 if there is no such path, 405 if it has other methods.
    """
    # Split first, decode then: a local id or workflow id may hold an encoded slash.
    segments = [unquote(segment) for segment in raw_path.decode("latin-1").split("/")]
    offers = {}
    if segments[:2] == ["", "messageexchange"]:
        offers = _optional_offers(segments[2:], configuration) or _offers(segments[2:])
    if not offers:
        raise Refusal(404, "no such path", description="Not Found")
    call = offers.get(method)
    if call is None:
        reason = f"this path takes {' or '.join(offers)}"
        raise Refusal(405, reason, description="Method Not Allowed", headers={"Allow": ", ".join(offers)})
    return _in_upper_case(call) if configuration.ids_in_any_case else call


def _in_upper_case(call: Call) -> Call:
    return dataclasses.replace(call, mailbox_id=call.mailbox_id.upper(), message_id=call.message_id.upper())


def _optional_offers(path: list[str], configuration: SandboxConfiguration) -> dict[str, Call]:
    """The calls that the MESH API does not have, where an option allows them."""
    match path:
        case [mailbox_id] if configuration.handshake_by_get and "POST" in _offers(path):
            handshake = Call(operation=Operation.HANDSHAKE, mailbox_id=mailbox_id)
            return {"POST": handshake, "GET": handshake}
        case [mailbox_id, "update"] if configuration.update_check:
            return {"POST": Call(operation=Operation.CHECK_FOR_UPDATE, mailbox_id=mailbox_id)}
        case [mailbox_id, "inbox", "rich"] if configuration.rich_lists:
            return {"GET": Call(operation=Operation.RICH_INBOX, mailbox_id=mailbox_id)}
        case [mailbox_id, "outbox", "rich"] if configuration.rich_lists:
            return {"GET": Call(operation=Operation.RICH_OUTBOX, mailbox_id=mailbox_id)}
    return {}


def _offers(path: list[str]) -> dict[str, Call]:
    match path:
        case ["_ping"]:
            return {"GET": Call(operation=Operation.PING)}
        case ["endpointlookup", ods_code, workflow_id]:
            return {"GET": Call(operation=Operation.LOOKUP_ENDPOINT, ods_code=ods_code, workflow_id=workflow_id)}
        case ["workflowsearch", workflow_id]:
            return {"GET": Call(operation=Operation.SEARCH_WORKFLOW, workflow_id=workflow_id)}
        case [mailbox_id]:
            # The live service can answer a GET with 200 and an error in the body: a client must not use it.
            return {"POST": Call(operation=Operation.HANDSHAKE, mailbox_id=mailbox_id)}
        case [mailbox_id, "count"]:
            return {"GET": Call(operation=Operation.COUNT_MESSAGES, mailbox_id=mailbox_id)}
        case [mailbox_id, "inbox", *rest]:
            return _inbox_offers(mailbox_id, rest)
        case [mailbox_id, "outbox", *rest]:
            return _outbox_offers(mailbox_id, rest)
    return {}


def _inbox_offers(mailbox_id: str, path: list[str]) -> dict[str, Call]:
    match path:
        case []:
            return {"GET": Call(operation=Operation.LIST_MESSAGES, mailbox_id=mailbox_id)}
        case [message_id]:
            return {
                method: Call(operation=operation, mailbox_id=mailbox_id, message_id=message_id)
                for method, operation in (
                    ("GET", Operation.RETRIEVE_MESSAGE),
                    ("HEAD", Operation.MESSAGE_METADATA),
                )
            }
        case [message_id, "status", "acknowledged"]:
            return {"PUT": Call(operation=Operation.ACKNOWLEDGE_MESSAGE, mailbox_id=mailbox_id, message_id=message_id)}
        case [message_id, chunk_number]:
            return {
                "GET": Call(
                    operation=Operation.RETRIEVE_CHUNK,
                    mailbox_id=mailbox_id,
                    message_id=message_id,
                    chunk_number=chunk_number,
                )
            }
    return {}


def _outbox_offers(mailbox_id: str, path: list[str]) -> dict[str, Call]:
    match path:
        case []:
            return {"POST": Call(operation=Operation.SEND_MESSAGE, mailbox_id=mailbox_id)}
        case ["tracking"]:
            return {"GET": Call(operation=Operation.TRACK_MESSAGE, mailbox_id=mailbox_id)}
        case ["tracking", local_id]:
            return {"GET": Call(operation=Operation.TRACK_BY_LOCAL_ID, mailbox_id=mailbox_id, local_id=local_id)}
        case [message_id, chunk_number]:
            return {
                "POST": Call(
                    operation=Operation.SEND_CHUNK,
                    mailbox_id=mailbox_id,
                    message_id=message_id,
                    chunk_number=chunk_number,
                )
            }
    return {}
