"""Representations of messages: the headers of a download, and the state that tracking gives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nel_mesh.protocol import wire
from nel_mesh.sandbox.configuration import SandboxMailbox
from nel_mesh.sandbox.store import MessageStatus, StoredMessage

FindMailbox = Callable[[str], SandboxMailbox | None]


def health() -> dict[str, str]:
    """Make the response to a ping, as the official sandbox, whose users wait for it."""
    return {"env": "local", "build_label": "latest", "status": "running", "outcome": "Yes"}


def message_headers(message: StoredMessage, number: int) -> dict[str, str]:
    """Make the Mex headers of a message or one of its chunks (MESH API, "Get Message", "Error Report Header")."""
    about = message.description
    headers = {
        wire.FROM: message.sender,
        wire.TO: message.recipient,
        wire.WORKFLOW_ID: about.workflow_id,
        # A REPORT has no chunks; the official sandbox gives 1:0 too.
        wire.CHUNK_RANGE: f"{number}:{message.total_chunks}",
        "mex-total-chunks": str(message.total_chunks),
        "mex-addresstype": "ALL",
        wire.LOCAL_ID: about.local_id,
        wire.PARTNER_ID: about.partner_id,
        wire.FILE_NAME: about.file_name or f"{message.message_id}.dat",
        wire.SUBJECT: about.subject,
        "mex-version": "1.0",
        wire.MESSAGE_TYPE: message.message_type,
        wire.MESSAGE_ID: message.message_id,
        wire.COMPRESSED: _flag(about.compressed) or "N",
        wire.ENCRYPTED: _flag(about.encrypted),
        wire.CHECKSUM: about.checksum,
        wire.MEX_CONTENT_TYPE: about.content_type,
        wire.STATUS_TIMESTAMP: _digits(message.changed),
    }
    if message.failure:
        headers |= {
            wire.LINKED_MESSAGE_ID: message.failure.linked_message_id,
            wire.STATUS_EVENT: message.failure.event,
            wire.STATUS_CODE: message.failure.code,
            wire.STATUS_DESCRIPTION: message.failure.description,
            wire.STATUS_SUCCESS: "ERROR",
        }
    else:
        headers |= {
            wire.STATUS_EVENT: "TRANSFER",
            wire.STATUS_CODE: "00",
            wire.STATUS_DESCRIPTION: "Transferred to recipient mailbox",
            wire.STATUS_SUCCESS: "SUCCESS",
        }
    return {name: value for name, value in headers.items() if value}


def tracking(message: StoredMessage, find: FindMailbox, version: int) -> dict[str, Any]:
    """Make the state of a sent message (MESH API, "Track outbox"); `find` finds a mailbox by its id."""
    recipient, sender = _mailbox(message.recipient, find), _mailbox(message.sender, find)
    fields = _tracking_v2(message, recipient) if version == 2 else _tracking_v1(message, recipient, sender)
    return {name: value for name, value in fields.items() if value is not None}


def _tracking_v2(message: StoredMessage, recipient: SandboxMailbox) -> dict[str, Any]:
    about = message.description
    failure = message.problem
    state = {
        "status_event": failure.event if failure else "TRANSFER",
        "status_timestamp": _iso(message.changed),
        "status_description": failure.description if failure else "Transferred to recipient mailbox",
        "status_code": failure.code if failure else "00",
    }
    return {
        "message_id": message.message_id,
        "local_id": about.local_id,
        "workflow_id": about.workflow_id,
        "filename": about.file_name or f"{message.message_id}.dat",
        "expiry_time": _iso(message.expires),
        "upload_timestamp": _iso(message.created),
        "recipient": recipient.mailbox_id,
        "recipient_name": recipient.name,
        "recipient_ods_code": recipient.ods_code,
        "recipient_org_code": recipient.ods_code,
        "recipient_org_name": "",
        "status_success": not failure,
        "status": message.status.value,
        # Nothing has been transferred yet.
        **({} if message.status is MessageStatus.UPLOADING else state),
    }


def _tracking_v1(message: StoredMessage, recipient: SandboxMailbox, sender: SandboxMailbox) -> dict[str, Any]:
    about = message.description
    acknowledged = message.status is MessageStatus.ACKNOWLEDGED
    failure = message.problem
    return {
        "addressType": "ALL",
        "checksum": about.checksum,
        "chunkCount": message.total_chunks,
        "compressFlag": _flag(about.compressed),
        "contentEncoding": about.content_encoding,
        "downloadTimestamp": _digits(message.changed) if acknowledged else None,
        "dtsId": message.message_id,
        "encryptedFlag": _flag(about.encrypted),
        "expiryTime": _digits(message.expires),
        "failureDate": _digits(message.changed) if failure else None,
        "failureDiagnostic": failure.description if failure else None,
        "fileName": about.file_name or f"{message.message_id}.dat",
        "fileSize": sum(message.sizes),
        "isCompressed": _flag(about.compressed),
        "localId": about.local_id,
        "meshRecipientOdsCode": recipient.ods_code,
        "messageId": message.message_id,
        "messageType": message.message_type,
        "partnerId": about.partner_id,
        "recipient": recipient.mailbox_id,
        "recipientName": recipient.name,
        "recipientOrgCode": recipient.ods_code,
        "recipientOrgName": "",
        "recipientSmtp": "",
        "sender": sender.mailbox_id,
        "senderName": sender.name,
        "senderOdsCode": sender.ods_code,
        "senderOrgCode": sender.ods_code,
        "senderOrgName": "",
        "senderSmtp": "",
        "status": message.status.value.title(),
        "statusSuccess": "ERROR" if failure else "SUCCESS",
        "statusTimestamp": _digits(message.changed),
        "subject": about.subject,
        "uploadTimestamp": _digits(message.created),
        "version": "1.0",
        "workflowId": about.workflow_id,
    }


def rich(message: StoredMessage, find: FindMailbox) -> dict[str, Any]:
    """Make an entry of the rich inbox and outbox, as the official sandbox has it."""
    about = message.description
    reason = message.failure or message.problem
    return {
        "message_id": message.message_id,
        "expiry_timestamp": _iso(message.expires),
        "local_id": about.local_id,
        "message_type": message.message_type,
        "recipient": message.recipient,
        "recipient_name": _mailbox(message.recipient, find).name,
        "sender": message.sender,
        "sender_name": _mailbox(message.sender, find).name if message.sender else "",
        "sent_date": _iso(message.created),
        "status": message.status.value,
        "status_code": reason.code if reason else "",
        "workflow_id": about.workflow_id,
        "total_chunks": message.total_chunks,
    }


def details(message: StoredMessage, find: FindMailbox) -> dict[str, Any]:
    """Make the description of a message that the control operations give, as the official sandbox has it."""
    about, recipient = message.description, _mailbox(message.recipient, find)
    sender = _mailbox(message.sender, find) if message.sender else None
    reason = message.failure or message.problem
    fields = {
        "message_id": message.message_id,
        "message_type": message.message_type.title(),
        "status": message.status.value.title(),
        "status_success": "ERROR" if reason else "SUCCESS",
        "status_event": reason.event if reason else None,
        "status_code": reason.code if reason else None,
        "status_description": reason.description if reason else None,
        "status_timestamp": _iso(message.changed),
        "linked_msg_id": message.failure.linked_message_id if message.failure else None,
        "sender": message.sender,
        "sender_name": sender.name if sender else None,
        "sender_ods_code": sender.ods_code if sender else None,
        "sender_org_code": sender.ods_code if sender else None,
        "sender_org_name": "" if sender else None,
        "recipient": recipient.mailbox_id,
        "recipient_name": recipient.name,
        "recipient_ods_code": recipient.ods_code,
        "recipient_org_code": recipient.ods_code,
        "recipient_org_name": "",
        "workflow_id": about.workflow_id,
        "subject": about.subject,
        "local_id": about.local_id,
        "filename": about.file_name or f"{message.message_id}.dat",
        "checksum": about.checksum,
        "content_encoding": about.content_encoding,
        "is_compressed": _is_yes(about.compressed),
        "is_encrypted": _is_yes(about.encrypted),
        "chunk_count": message.total_chunks,
        "file_size": sum(message.sizes),
        "upload_timestamp": _iso(message.created),
        "download_timestamp": _iso(message.changed) if message.status is MessageStatus.ACKNOWLEDGED else None,
        "expiry_time": _iso(message.expires),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _mailbox(mailbox_id: str, find: FindMailbox) -> SandboxMailbox:
    """The mailbox of a message; one of a kept message may have left the configuration since."""
    return find(mailbox_id) or SandboxMailbox(mailbox_id=mailbox_id, ods_code="")


def _flag(given: str) -> str:
    """Give a flag of the sender as the official sandbox does: Y for any form of yes, and nothing for no."""
    return "Y" if _is_yes(given) else ""


def _is_yes(flag: str) -> bool:
    return flag.upper() in ("Y", "YES", "T", "TRUE", "1", "ON")


def _digits(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def naive(moment: datetime) -> datetime:
    """Give a time in UTC without its zone, like the examples of the specification."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _iso(moment: datetime) -> str:
    return naive(moment).isoformat(timespec="seconds")
