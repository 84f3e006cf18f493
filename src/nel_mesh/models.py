"""The values that MESH returns. Fields that can hold patient data are left out of `repr`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from nel_mesh.errors import MeshError


def _timestamp(value: object) -> object:
    """MESH writes ISO 8601, with or without a zone, or 14 digits; what has no zone is UTC. Unreadable is absent."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        moment = (
            datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            if len(text) == 14 and text.isdigit()
            else datetime.fromisoformat(text)
        )
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _flag(value: object) -> object:
    """MESH writes true, Y, or SUCCESS."""
    if isinstance(value, str):
        return value.strip().upper() in {"Y", "YES", "TRUE", "SUCCESS", "1"} if value.strip() else None
    return value


def _text(value: object) -> object:
    """Absent, null and empty are one: absent."""
    return value or None


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) and value else None


Timestamp = Annotated[datetime | None, BeforeValidator(_timestamp)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]
Text = Annotated[str | None, BeforeValidator(_text)]


def _named(*names: str, hidden: bool = False) -> Any:
    return Field(default=None, validation_alias=AliasChoices(*names), repr=not hidden)


class _Hidden:
    """What a repr shows in place of a value that may be a patient's or a partner's data."""

    def __repr__(self) -> str:
        return "<hidden>"


_HIDDEN = _Hidden()


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            yield name, value if field.repr or value is None else _HIDDEN

    def __str__(self) -> str:
        text = super().__str__()
        hint = " (to see a hidden value, read its attribute; all: model_dump())"
        return text + hint if repr(_HIDDEN) in text else text


class _Record:
    """The base of dataclasses with hidden fields."""

    __slots__ = ()

    def __repr__(self) -> str:
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(self)  # type: ignore[arg-type] # of subclasses
        shown = (f"{field.name}={getattr(self, field.name) if field.repr else _HIDDEN!r}" for field in fields)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __str__(self) -> str:
        return f"{self!r} (to see a hidden value, read its attribute)"


class Mailbox(_Value):
    """A mailbox found by `lookup_endpoint` or `search_workflow` (MESH API, "Look up MESH address")."""

    mailbox_id: str = Field(validation_alias=AliasChoices("mailbox_id", "address"))
    mailbox_name: Text = _named("mailbox_name", "description")


class MessageMetadata(_Value):
    """The headers of a message in the inbox (MESH API, "Get Message").

    `compressed` and `encrypted` are the sender's word on the content itself; gzip in transit is undone on reading.
    `compressed` is None where it cannot be told: a server that gzips a body in transit sets the same header.
    """

    message_id: str = Field(validation_alias=AliasChoices("mex-messageid", "message_id"))
    message_type: str = Field(default="DATA", validation_alias=AliasChoices("mex-messagetype", "message_type"))
    sender: Text = _named("mex-from", "sender")
    recipient: Text = _named("mex-to", "recipient", hidden=True)
    workflow_id: Text = _named("mex-workflowid", "workflow_id")
    subject: Text = _named("mex-subject", "subject", hidden=True)
    local_id: Text = _named("mex-localid", "local_id", hidden=True)
    file_name: Text = _named("mex-filename", "file_name", hidden=True)
    partner_id: Text = _named("mex-partnerid", "partner_id", hidden=True)
    checksum: Text = _named("mex-content-checksum", "checksum")
    content_type: Text = _named("mex-content-type", "content-type", "content_type")
    compressed: Flag = _named("mex-content-compressed", "compressed")
    encrypted: Flag = _named("mex-content-encrypted", "encrypted")
    chunks: int = 1
    status_event: Text = _named("mex-statusevent", "status_event")
    status_code: Text = _named("mex-statuscode", "status_code")
    status_description: Text = _named("mex-statusdescription", "status_description")
    status_success: Flag = _named("mex-statussuccess", "status_success")
    status_timestamp: Timestamp = _named("mex-statustimestamp", "status_timestamp")


class Report(MessageMetadata):
    """A REPORT: MESH says that a message of ours failed (MESH API, "Asynchronous error reporting").

    It has no content, waits in the inbox like a message, and must be acknowledged like one. Codes are ambiguous
    alone: read event, code and description together.
    """

    linked_message_id: Text = _named("mex-linkedmsgid", "linked_message_id")


_DELIVERED = frozenset({"accepted", "acknowledged"})
_FAILED = frozenset({"error", "undeliverable"})


class Tracking(_Value):
    """The state of a message that this mailbox sent (MESH API, "Track outbox", in the names of either version).

    `status` is in lower case: uploading, accepted (in the recipient's inbox), acknowledged, error, undeliverable
    (nobody collected it). An unknown one is neither success nor failure. Timestamps are aware, in UTC where MESH gives
    no zone.
    """

    message_id: str = Field(validation_alias=AliasChoices("message_id", "messageId", "dtsId"))
    local_id: Text = _named("local_id", "localId", hidden=True)
    workflow_id: Text = _named("workflow_id", "workflowId")
    file_name: Text = _named("filename", "fileName", "file_name", hidden=True)
    file_size: int | None = Field(default=None, ge=0, validation_alias=AliasChoices("file_size", "fileSize"))
    recipient: Text = _named("recipient", hidden=True)
    recipient_name: Text = _named("recipient_name", "recipientName")
    recipient_ods_code: Text = _named("recipient_ods_code", "meshRecipientOdsCode")
    recipient_org_code: Text = _named("recipient_org_code", "recipientOrgCode")
    recipient_org_name: Text = _named("recipient_org_name", "recipientOrgName")
    status: Annotated[str | None, BeforeValidator(_lower)] = None
    status_success: Flag = _named("status_success", "statusSuccess")
    status_event: Text = _named("status_event", "statusEvent")
    status_code: Text = _named("status_code", "statusCode")
    status_description: Text = _named("status_description", "statusDescription", "failureDiagnostic")
    status_timestamp: Timestamp = _named("status_timestamp", "statusTimestamp")
    upload_timestamp: Timestamp = _named("upload_timestamp", "uploadTimestamp")
    expiry_time: Timestamp = _named("expiry_time", "expiryTime")
    download_timestamp: Timestamp = _named("download_timestamp", "downloadTimestamp")

    @property
    def delivered(self) -> bool:
        """Whether the message is in the recipient's inbox, or was collected from it."""
        return self.status in _DELIVERED

    @property
    def failed(self) -> bool:
        """Whether MESH has given up the message: `status_event`, `status_code` and `status_description` say why."""
        return self.status in _FAILED

    @property
    def final(self) -> bool:
        """Whether the status will not change any more."""
        return self.failed or self.status == "acknowledged"


class InboxPage(list[str]):
    """One page of message ids, oldest first: a list, which also knows where the next page begins.

    An entry that is not a message id is replaced by `<invalid message id 1f2e>`, with a part of its digest; every
    operation on it raises IntegrityError.

    Attributes:
        continue_from: pass it to `list_messages` for the next page; None on the last. A filtered page can be empty
            while a later one is not.
        approx_inbox_count: MESH's own estimate of how many messages wait, or None.
    """

    def __init__(
        self,
        message_ids: Iterable[str] = (),
        *,
        continue_from: str | None = None,
        approx_inbox_count: int | None = None,
    ) -> None:
        super().__init__(message_ids)
        self.continue_from = continue_from
        self.approx_inbox_count = approx_inbox_count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SendReceipt(_Record):
    """MESH has taken the message.

    Attributes:
        message_id: MESH's id for it; keep it, for tracking and for support.
        local_id: the sender's own id for it, made here when none was given.
        chunks: how many requests carried it.
        bytes: the length of the content.
        bytes_on_wire: the length of what was sent, after compression; repeats are not counted.
    """

    message_id: str
    local_id: str = dataclasses.field(repr=False)
    chunks: int
    bytes: int
    bytes_on_wire: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReceivedFile(_Record):
    """A message's content, whole, checked and durable where it was to go.

    Attributes:
        location: where it is: the path of a file, or a URL.
        metadata: what the message's headers say.
        bytes: the length of the content.
        verified: whether the content has the sender's checksum; None if the sender gave none that is recognised (MD5,
            SHA-1, SHA-256), or it was not compared, and so only lengths and gzip trailers were checked. False: the
            sender gave a bare digest that is not this content's, and did not say of which algorithm it is.
    """

    location: str = dataclasses.field(repr=False)
    metadata: MessageMetadata
    bytes: int
    verified: bool | None

    @property
    def path(self) -> Path:
        """The file, if it was stored in a folder. Raises ValueError if it was not."""
        if "://" in self.location:
            raise ValueError("the message was not stored in a file; see `location`")
        return Path(self.location)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FailedMessage:
    """A message for which something failed.

    Attributes:
        message_id: the message.
        error: the error, without its traceback; a `HandlerError` if a handler raised.
    """

    message_id: str
    error: MeshError


@dataclasses.dataclass(slots=True, kw_only=True)
class ReceiveResult:
    """The result of `receive_messages`.

    Each message that was looked at is in exactly one of `delivered`, `reports`, `unacknowledged`, `already_delivered`,
    `locked`, `gone` and `failed`.

    Attributes:
        delivered: ids of messages that were stored or handled, and acknowledged.
        reports: the reports that were stored or handled, and acknowledged.
        unacknowledged: messages and reports that were stored or handled, while their acknowledgement failed, each with
            that error. They are in the journal: the next run acknowledges them, and delivers them no second time.
        already_delivered: ids of messages that an earlier run had delivered, and that were acknowledged now.
        locked: ids of messages that another process or thread is receiving.
        gone: ids of messages that were no longer in the inbox: another worker took them, or they expired.
        failed: messages that could not be received or handled, each with its error. They were not acknowledged, and
            are still in the inbox.
        files: every file with content that was stored by this run, those of unacknowledged messages included.
        finished: whether all of the inbox was gone through; False if limit, deadline, `stop` or an error came first.
        error: what ended the run early, such as a page of the inbox that could not be listed; None if nothing did.
    """

    delivered: list[str] = dataclasses.field(default_factory=list)
    reports: list[Report] = dataclasses.field(default_factory=list)
    unacknowledged: list[FailedMessage] = dataclasses.field(default_factory=list)
    already_delivered: list[str] = dataclasses.field(default_factory=list)
    locked: list[str] = dataclasses.field(default_factory=list)
    gone: list[str] = dataclasses.field(default_factory=list)
    failed: list[FailedMessage] = dataclasses.field(default_factory=list)
    files: list[ReceivedFile] = dataclasses.field(default_factory=list)
    finished: bool = True
    error: MeshError | None = None

    def raise_for_failed(self) -> None:
        """Raise the error of the first message that failed, or what ended the run early; do nothing otherwise."""
        for failed in self.failed:
            raise failed.error
        if self.error is not None:
            raise self.error


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveProgress:
    """How far a message has come into its file; given to the `progress` of a receiving method after each block.

    Attributes:
        message_id: which message.
        bytes_done: bytes of content that are in the file. It goes back when a chunk has to be fetched again.
        share: how much of the message that is, from 0 to 1, by its chunks and what has come of the present one on the
            wire; what is gzipped in transit has no length of its own before it is here.
    """

    message_id: str
    bytes_done: int
    share: float

    @property
    def bytes_total(self) -> int | None:
        """About how long the content will be; None before anything can be said."""
        return max(self.bytes_done, round(self.bytes_done / self.share)) if self.share > 0 else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SendProgress:
    """How far a send has come; given to the `progress` callable after each block that was handed to the network.

    Attributes:
        bytes_done: bytes of content sent, out of `bytes_total`. It goes back when a chunk has to be sent again.
        bytes_total: the length of the content.
        chunk: the chunk under way, from 1, of `chunks`.
        chunks: how many chunks there are.
    """

    bytes_done: int
    bytes_total: int
    chunk: int
    chunks: int
