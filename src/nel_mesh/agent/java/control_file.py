"""Control files: the `.ctl` beside each `.dat`, read by name in any order and written as the Java client writes them.

Pure. Sources: the MESH client's user guide, the official sandbox's test of that client, and captured files; what they
agree on is kept, and what they differ in is read in either form. XML is read without DTDs and entities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from nel_mesh import InvalidArgument, MessageMetadata, Report

MAX_BYTES = 1_000_000

MAX_UNCHUNKED_BYTES = 75_000_000
"""The Java client sends no more without `AllowChunking`, as older recipients cannot collect chunks."""

_ORDER = (
    "Version",
    "AddressType",
    "MessageType",
    "From_DTS",
    "To_DTS",
    "From_ESMTP",
    "To_ESMTP",
    "Subject",
    "LocalId",
    "DTSId",
    "PartnerId",
    "Compress",
    "Encrypted",
    "WorkflowId",
    "ProcessId",
    "DataChecksum",
    "IsCompressed",
    "AllowChunking",
)
_SPELLINGS = {"datachecksum": "DataChecksum", "partneridentifier": "PartnerId"} | {
    name.casefold(): name for name in _ORDER
}
_LONDON = ZoneInfo("Europe/London")


@dataclasses.dataclass(frozen=True, slots=True)
class StatusRecord:
    """What happened to a message, as a control file says it.

    Attributes:
        moment: when.
        event: COLLECT, TRANSFER, SEND or RECEIVE.
        is_success: whether it went well.
        code: MESH's code, such as `00` or `14`.
        description: in words.
    """

    moment: datetime
    event: str
    is_success: bool
    code: str
    description: str

    def rows(self) -> list[tuple[str, str]]:
        """Return its elements. The time is local UK time, as captured files have it in summer."""
        return [
            ("DateTime", self.moment.astimezone(_LONDON).strftime("%Y%m%d%H%M%S")),
            ("Event", self.event),
            ("Status", "SUCCESS" if self.is_success else "ERROR"),
            ("StatusCode", self.code),
            ("Description", self.description),
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class ControlFile:
    """A control file.

    Attributes:
        values: its elements by name, without empty ones; they can hold a patient's data.
        status: its status record, if it is being written.
    """

    values: Mapping[str, str] = dataclasses.field(repr=False)
    status: StatusRecord | None = None

    def get(self, name: str) -> str | None:
        """Return an element; None if it is not there or empty."""
        return self.values.get(name)

    def is_set(self, name: str) -> bool:
        """Whether an element is Y, or TRUE as older senders write it."""
        return (self.get(name) or "").upper() in ("Y", "YES", "TRUE", "1")

    def with_status(self, status: StatusRecord, **values: str) -> ControlFile:
        """Return it with a status record, and some elements replaced."""
        return ControlFile({**self.values, **values}, status)

    def render(self) -> bytes:
        """Return it as the Java client writes it: no XML declaration, two blanks of indent."""
        known = [name for name in _ORDER if name in self.values]
        lines = [f"  <{name}>{_text(self.values[name])}</{name}>" for name in known]
        if self.status is not None:
            lines.append("  <StatusRecord>")
            lines += [f"    <{name}>{_text(value)}</{name}>" for name, value in self.status.rows()]
            lines.append("  </StatusRecord>")
        return "\n".join(["<DTSControl>", *lines, "</DTSControl>", ""]).encode()


def _text(value: str) -> str:
    # Control characters are not allowed in XML, even escaped.
    return escape("".join(one if one.isprintable() else " " for one in value))


def parse(content: bytes) -> ControlFile:
    """Read a control file, whatever the order of its elements.

    Raises:
        InvalidArgument: it is too long, not XML, has a DTD, or is no control file. The text quotes none of it.
    """
    if len(content) > MAX_BYTES:
        raise _unreadable(f"it is longer than {MAX_BYTES:,} bytes")
    try:
        root = fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise _unreadable("it has a DTD or entities") from None
    except (ParseError, ValueError, LookupError):
        raise _unreadable("it is not XML") from None
    if root.tag.rpartition("}")[2] != "DTSControl":
        raise _unreadable("its root is not DTSControl")
    values = {}
    for element in root:
        name = _SPELLINGS.get(str(element.tag).rpartition("}")[2].casefold())
        text = (element.text or "").strip()
        if name is not None and text:
            values[name] = text
    return ControlFile(values)


def _unreadable(reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"the control file cannot be read: {reason}",
        event="COLLECT",
        code="01",
        description="Control file inaccessible",
    )


def send_options(
    control: ControlFile, *, mailbox_id: str, length: int, chunk_bytes: int = MAX_UNCHUNKED_BYTES
) -> dict[str, Any]:
    """Return the arguments of `send_file` for a caller's control file.

    Its DataChecksum is not one of them: in a caller's file it has no meaning.

    Args:
        control: the control file.
        mailbox_id: whose outgoing folder it is in.
        length: the size of the data file in bytes.
        chunk_bytes: the longest content that is sent in one request.

    Raises:
        InvalidArgument: it cannot be sent; event, code and description are those of the Java client.
    """
    kind = (control.get("MessageType") or "Data").casefold()
    if kind != "data":
        raise _fault("SEND", "11", "MessageType must be Data")
    if (control.get("AddressType") or "DTS").upper() not in ("DTS", "ALL"):
        raise _fault("SEND", "10", "AddressType must be DTS or ALL")
    if (control.get("From_DTS") or mailbox_id).upper() != mailbox_id:
        raise _fault("SEND", "07", "From_DTS is not this mailbox")
    recipient = control.get("To_DTS")
    if recipient is None:
        raise _fault("SEND", "08", "To_DTS is missing")
    if control.get("WorkflowId") is None:
        raise _fault("TRANSFER", "06", "WorkflowId is missing")
    if length == 0:
        raise _fault("COLLECT", "02", "The data file is empty")
    compress = control.is_set("Compress")
    limit = chunk_bytes if compress else min(chunk_bytes, MAX_UNCHUNKED_BYTES)
    if length > limit and not control.is_set("AllowChunking"):
        raise _fault("TRANSFER", "06", f"It is over {limit / 1_000_000:g} MB, and AllowChunking is not Y")
    options = {
        "to": recipient,
        "workflow_id": control.get("WorkflowId"),
        "subject": control.get("Subject"),
        "local_id": control.get("LocalId"),
        "partner_id": control.get("PartnerId"),
        "compress": compress,
        "encrypted": control.is_set("Encrypted"),
    }
    return {name: value for name, value in options.items() if value is not None}


def of_options(options: Mapping[str, Any], *, mailbox_id: str) -> ControlFile:
    """Return the control file of arguments of `send_file`, for a pair whose own can no longer be read."""
    values = {
        "Version": "1.0",
        "AddressType": "DTS",
        "MessageType": "Data",
        "From_DTS": mailbox_id,
        "To_DTS": options.get("to"),
        "Subject": options.get("subject"),
        "LocalId": options.get("local_id"),
        "PartnerId": options.get("partner_id"),
        "WorkflowId": options.get("workflow_id"),
    }
    return ControlFile({name: value for name, value in values.items() if value})


def _fault(event: str, code: str, description: str) -> InvalidArgument:
    return InvalidArgument(f"the control file: {description}", event=event, code=code, description=description)


def received(metadata: MessageMetadata, *, mailbox_id: str, now: datetime) -> ControlFile:
    """Return the control file of a received message or report.

    Args:
        metadata: what its headers say.
        mailbox_id: whose inbox it was in.
        now: when it was received; used if MESH gives no time.
    """
    recipient = metadata.recipient or mailbox_id
    is_report = isinstance(metadata, Report)
    values = {
        "Version": "1.0",
        "AddressType": "ALL",
        "MessageType": "Report" if is_report else "Data",
        "From_DTS": metadata.sender or "",
        "To_DTS": recipient,
        "From_ESMTP": _address(metadata.sender),
        "To_ESMTP": _address(recipient),
        "Subject": metadata.subject or "",
        "LocalId": metadata.local_id or "",
        "DTSId": metadata.message_id,
        "PartnerId": metadata.partner_id or "",
        "Compress": "N",
        "Encrypted": "Y" if metadata.encrypted else "N",
        "WorkflowId": metadata.workflow_id or "",
        "ProcessId": "",
        "DataChecksum": metadata.checksum or "",
        "IsCompressed": "Y" if metadata.compressed else "N",
    }
    status = StatusRecord(
        metadata.status_timestamp or now,
        metadata.status_event or ("SEND" if is_report else "TRANSFER"),
        is_success=not is_report if metadata.status_success is None else metadata.status_success,
        code=metadata.status_code or ("14" if is_report else "00"),
        description=metadata.status_description or ("" if is_report else "Transferred to recipient mailbox"),
    )
    return ControlFile(values, status)


def _address(mailbox_id: str | None) -> str:
    return f"{mailbox_id.lower()}@dts.nhs.uk" if mailbox_id else ""


def collected(now: datetime) -> StatusRecord:
    """Return the status of a report that a pair was picked up."""
    return StatusRecord(now, "COLLECT", is_success=True, code="00", description="Data collect success confirmation.")


def transferred(now: datetime) -> StatusRecord:
    """Return the status of a pair that MESH has."""
    return StatusRecord(now, "TRANSFER", is_success=True, code="00", description="Data Transfer success confirmation.")


def failed(now: datetime, *, event: str | None, code: str | None, description: str | None) -> StatusRecord:
    """Return the status of a pair that cannot be sent: with MESH's own words if there are any."""
    return StatusRecord(
        now,
        event or "TRANSFER",
        is_success=False,
        code=code or "06",
        description=description or "Data transfer failed",
    )


def report_of(control: ControlFile, status: StatusRecord, **values: str) -> ControlFile:
    """Return the report about a pair: the control file again, as a report."""
    return control.with_status(status, MessageType="Report", **values)
