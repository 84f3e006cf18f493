"""Handlers of the outbox: messages, chunks and tracking."""

from __future__ import annotations

import contextlib

from starlette.responses import Response

from nel_mesh.protocol import wire
from nel_mesh.protocol.chunks import ChunkRange
from nel_mesh.sandbox import representations
from nel_mesh.sandbox.bodies import receive_body
from nel_mesh.sandbox.configuration import SandboxMailbox
from nel_mesh.sandbox.errors import DESCRIPTIONS, InvalidRequest, Refusal, invalid_range, json_response, malformed
from nel_mesh.sandbox.request import RequestContext
from nel_mesh.sandbox.store import Description, ReportReason, StoredMessage

_CHECKED = (
    *wire.LIMITS,
    wire.FROM,
    wire.MESSAGE_TYPE,
    wire.MEX_CONTENT_TYPE,
    wire.COMPRESSED,
    wire.ENCRYPTED,
)


async def send_message(context: RequestContext) -> Response:
    """Take a new message, or its first chunk (MESH API, "Send message")."""
    _check_headers(context)
    recipient = _recipient(context)
    total = _first_of(context)
    description = _description(context)
    with context.store.new_upload() as upload:
        await receive_body(context.request, upload, context.configuration.max_request_bytes)
        if not upload.size:
            raise _no_data()
        message = context.store.add(
            sender=context.call.mailbox_id,
            recipient=recipient.mailbox_id,
            description=description,
            total_chunks=total,
            upload=upload,
        )
    return _accepted(context, message)


async def send_chunk(context: RequestContext) -> Response:
    """Take a further chunk of a message (MESH API, "Send chunked message")."""
    number = context.chunk_number()
    message = context.store.find(context.call.message_id)
    if message is None or message.failure:
        raise Refusal(404, "there is no such message", description="Not Found")
    if message.sender != context.call.mailbox_id:
        raise Refusal(403, "the message was sent by another mailbox", description="Forbidden")
    _check_headers(context)
    context.store.check_chunk(message, number, _total(context, message, number))
    if _encoding(context) != message.description.content_encoding:
        raise malformed("the content encoding cannot change within a message", message.message_id)
    with context.store.new_upload() as upload:
        await receive_body(context.request, upload, context.configuration.max_request_bytes)
        if not upload.size:
            raise _no_data(message.message_id)
        context.store.add_chunk(message, number, upload)
    return _accepted(context, message, number)


async def track_message(context: RequestContext) -> Response:
    """Give the state of a message by its message id (MESH API, "Track outbox")."""
    message_id = context.request.query_params.get("messageID", "")
    if not message_id:
        raise InvalidRequest.missing("query", "messageID")
    message = context.store.find(message_id)
    if message is None or message.sender != context.call.mailbox_id:
        raise Refusal(404, "this mailbox sent no such message", description="Not Found")
    return context.json(representations.tracking(message, context.mailbox, context.version))


async def track_by_local_id(context: RequestContext) -> Response:
    """Give the state of the one message with a local id (MESH API, deprecated)."""
    found = context.store.sent_as(context.call.mailbox_id, context.call.local_id)
    if not found:
        raise Refusal(404, "this mailbox sent no message with this local id", description="Not Found")
    if len(found) > 1:
        raise Refusal(300, "several messages have this local id", description="Multiple Choices")
    return json_response(representations.tracking(found[0], context.mailbox, 1), 1)


def _check_headers(context: RequestContext) -> None:
    for header in _CHECKED:
        rule = wire.CONTENT_TYPE if header == wire.MEX_CONTENT_TYPE else header
        value, limit = context.header(header), wire.LIMITS.get(rule)
        if limit is not None and len(value) > limit:
            raise InvalidRequest.too_long("header", header, limit)
        fault = wire.header_fault(rule, value)
        if fault and header == wire.CHECKSUM:
            raise Refusal(400, f"header {header}: {fault}", event="SEND", code="Invalid checksum")
        if fault:
            raise Refusal(400, f"header {header}: {fault}", event="TRANSFER", code="06")
    sender = context.header(wire.FROM)
    if context.configuration.ids_in_any_case:
        sender = sender.upper()
    if sender and sender != context.call.mailbox_id:
        raise Refusal(417, "Mex-From is not the mailbox that the token is for", event="SEND", code="07")
    if context.header("mex-version") not in ("", "1.0"):
        raise Refusal(417, "Mex-Version is not 1.0", event="SEND", code="09")
    if context.header(wire.MESSAGE_TYPE).upper() not in ("", "DATA"):
        raise Refusal(417, "Mex-MessageType is not DATA", event="SEND", code="11")


def _recipient(context: RequestContext) -> SandboxMailbox:
    to = context.header(wire.TO).upper()
    if not to:
        raise Refusal(417, "Mex-To is missing", event="SEND", code="08")
    workflow_id = context.header(wire.WORKFLOW_ID)
    if not workflow_id:
        raise InvalidRequest.missing("header", wire.WORKFLOW_ID)
    recipient = context.mailbox(to)
    if recipient is None:
        raise _unregistered(context)
    workflows = context.configuration.workflows
    if workflows and context.configuration.enforce_workflows:
        allowed = [flow for flow in workflows if flow.workflow_id == workflow_id]
        if not any(to in flow.receivers for flow in allowed):
            raise Refusal(417, "the workflow is not registered for this recipient", event="SEND", code="17")
        if not any(context.call.mailbox_id in flow.senders for flow in allowed):
            raise Refusal(417, "this mailbox may not send under this workflow", event="SEND", code="16")
    return recipient


def _unregistered(context: RequestContext) -> Refusal:
    """Refuse an unknown recipient; if so configured, deliver a report of it to the sender too."""
    message_id = None
    if context.configuration.report_unregistered_recipients:
        message_id = context.store.new_message_id()
        context.store.add_report(
            recipient=context.call.mailbox_id,
            description=Description(
                workflow_id=context.header(wire.WORKFLOW_ID),
                subject=context.header(wire.SUBJECT),
                local_id=context.header(wire.LOCAL_ID),
            ),
            failure=ReportReason(linked_message_id=message_id, event="SEND", code="12", description=DESCRIPTIONS["12"]),
        )
    reason = "Mex-To is not a registered mailbox"
    return Refusal(417, reason, event="SEND", code="12", message_id=message_id)


def _first_of(context: RequestContext) -> int:
    """The number of chunks that the message will have."""
    text = context.header(wire.CHUNK_RANGE)
    if not text:
        return 1
    given = _range(text)
    if given.number != 1:
        raise invalid_range("a message begins with chunk 1")
    return given.total


def _total(context: RequestContext, message: StoredMessage, number: int) -> int:
    """The number of chunks by the header of a further chunk."""
    if number > message.total_chunks:
        # The store knows how to refuse this, and the header can only be wrong too.
        return message.total_chunks
    given = _range(context.header(wire.CHUNK_RANGE), message.message_id)
    if given.number != number:
        raise invalid_range(f"the path says chunk {number}, the header {given.number}", message.message_id)
    return given.total


def _range(text: str, message_id: str | None = None) -> ChunkRange:
    if "{" not in text:  # which servers write, and senders must not
        with contextlib.suppress(ValueError):
            return ChunkRange.parse(text)
    raise invalid_range("Mex-Chunk-Range must be k:n, with k from 1 to n", message_id)


def _description(context: RequestContext) -> Description:
    return Description(
        workflow_id=context.header(wire.WORKFLOW_ID),
        subject=context.header(wire.SUBJECT),
        local_id=context.header(wire.LOCAL_ID),
        file_name=context.header(wire.FILE_NAME),
        partner_id=context.header(wire.PARTNER_ID),
        checksum=context.header(wire.CHECKSUM),
        content_type=context.header(wire.MEX_CONTENT_TYPE) or context.header(wire.CONTENT_TYPE),
        content_encoding=_encoding(context),
        compressed=context.header(wire.COMPRESSED),
        encrypted=context.header(wire.ENCRYPTED),
    )


def _encoding(context: RequestContext) -> str:
    encoding = context.header(wire.CONTENT_ENCODING).lower()
    if encoding not in ("", "identity", "gzip"):
        raise malformed("the only content encoding is gzip")
    return encoding if encoding == "gzip" else ""


def _no_data(message_id: str | None = None) -> Refusal:
    return Refusal(417, "the body is empty", event="COLLECT", code="02", message_id=message_id)


def _accepted(context: RequestContext, message: StoredMessage, number: int | None = None) -> Response:
    if context.version == 2:
        return context.json({"message_id": message.message_id}, status=202)
    # Not in the MESH API text; the official sandbox gives the number of a further chunk.
    block = {} if number is None else {"blockID": number}
    return context.json({"messageID": message.message_id, **block}, status=202)
