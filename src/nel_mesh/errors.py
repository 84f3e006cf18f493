"""The errors of this package, as one tree.

    MeshError
    ├── ConfigurationError        the settings cannot be used; lists every fault at once
    │   └── CertificateError      a certificate or key cannot be used; names it, and its dates
    ├── InvalidArgument           an argument of a call cannot be used; nothing was sent
    ├── SourceError               the content could not be read, or changed while it was sent
    ├── StorageError              the content could not be stored here: full disk, permissions
    ├── ConnectionFailed          no connection was made, so nothing was sent; safe to retry
    ├── ConnectionLost            a connection broke or timed out before the response
    ├── OutcomeUnknown            a send's response was lost, and it may have arrived: do not retry blindly
    ├── IntegrityError            the received content is incomplete or damaged
    ├── HandlerError              a callable of yours raised while a message was received
    └── ResponseError             MESH responded, and did not do what was asked
        ├── BadRequest            400, 406: the request is malformed
        ├── NotAuthorised         401, 403: mailbox, password, shared key, certificate or clock
        ├── NotFound              404: no such message for this mailbox
        ├── Gone                  410: the message has expired or failed
        ├── Refused               417: MESH refuses the message: see event, code, description
        ├── UploadFinished        423: all chunks of that message have arrived already
        ├── Busy                  425, 429, 503: rate limited or unavailable; the request was not acted on
        └── ServerError           another 5xx, or a response that is not MESH's

Each says in `outcome` what happened to the message. None holds a password, a subject, a file name or a recipient.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self

FaultKind = Literal[
    "missing",
    "unknown_name",
    "invalid",
    "unreadable",
    "wrong_password",
    "key_mismatch",
    "expired",
    "not_yet_valid",
]
"""The kinds of fault that a setting can have; `unreadable` is a settings file, a certificate or a key."""


class Outcome(enum.Enum):
    """The state of the message that a failed call was about."""

    NOT_SENT = "not sent"
    """MESH has not taken the message, and will not deliver it."""
    SENT = "sent"
    """MESH has the message; only what came after failed."""
    UNKNOWN = "unknown"
    """MESH may or may not have the message, and sending again could double it; or an acknowledgement may be made."""
    UNCHANGED = "unchanged"
    """The call was not a send: the message is where it was, and still in the inbox if it was there."""


class MeshError(Exception):
    """The root: catch it to catch all that this library raises on purpose.

    Attributes:
        operation: the MESH operation, by its method's name (`send_message`), or None outside of one.
        outcome: what happened to the message.
        status: the HTTP status that MESH answered, if it did.
        event, code, description: MESH's own words for the failure, if it gave them. Codes are ambiguous alone.
        message_id: the message's id, from the moment there is one: also when a later chunk fails.
        local_id: the sender's own id of the message.
        may_have_acted: whether MESH may have acted on one of the attempts that ended in this.
    """

    def __init__(
        self,
        reason: str,
        *,
        operation: str | None = None,
        outcome: Outcome | None = None,
        status: int | None = None,
        event: str | None = None,
        code: str | None = None,
        description: str | None = None,
        message_id: str | None = None,
        local_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.operation = operation
        self._outcome = outcome
        self.status = status
        self.event = event
        self.code = code
        self.description = description
        self.message_id = message_id
        self.local_id = local_id
        self.may_have_acted = False

    @property
    def outcome(self) -> Outcome:
        """Say what happened to the message; UNCHANGED where nothing else is known."""
        return self._outcome or Outcome.UNCHANGED

    @outcome.setter
    def outcome(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __str__(self) -> str:
        parts = [f"{self.operation}: {self.reason}" if self.operation else self.reason]
        mesh = " ".join(word for word in (self.event, self.code, self.description) if word)
        if mesh:
            parts.append(f"MESH says: {mesh}")
        if self.outcome is not Outcome.UNCHANGED:
            parts.append(f"message {self.outcome.value}")
        parts.extend(
            f"{name} {value}"
            for name, value in (
                ("status", self.status),
                ("message id", self.message_id),
                ("local id", self.local_id),
            )
            if value is not None
        )
        return "; ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with `args` alone and drop every keyword.
        return (_rebuild, (type(self), self.reason, self.__dict__.copy()))


class add_context:  # noqa: N801  as contextlib.suppress
    """Add to a MeshError that leaves the block what it does not say yet; nothing is overwritten.

    So the innermost block that knows a fact is the one that says it, and the operation is the one that failed.
    """

    __slots__ = ("_local_id", "_message_id", "_operation", "_outcome")

    def __init__(
        self,
        *,
        operation: str | None = None,
        message_id: str | None = None,
        local_id: str | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        self._operation = operation
        self._message_id = message_id
        self._local_id = local_id
        self._outcome = outcome

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, MeshError):
            error.operation = error.operation or self._operation
            error.message_id = error.message_id or self._message_id
            error.local_id = error.local_id or self._local_id
            error._outcome = error._outcome or self._outcome


def _rebuild(kind: type[MeshError], reason: str, state: dict[str, object]) -> MeshError:
    error = kind(reason)
    error.__dict__.update(state)
    return error


@dataclasses.dataclass(frozen=True, slots=True)
class SettingFault:
    """One fault in the settings; as text, one sentence that names the source and the cure. No field holds a value.

    Attributes:
        setting: the setting's name in `MeshSettings`; None for a fault of a whole file, or of an unknown name.
        source: where it was given, such as "environment variable MESH_URL".
        kind: the kind of fault: missing, unknown_name, invalid, unreadable, wrong_password, key_mismatch, expired
            or not_yet_valid.
        message: the fault, and how to correct it.
    """

    setting: str | None
    source: str
    kind: FaultKind
    message: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


class ConfigurationError(MeshError):
    """The settings cannot be used. Nothing was sent.

    Attributes:
        faults: every fault, each a `SettingFault`.
        settings: the settings, if they are complete but for names that no setting has, so that they can be tried.
    """

    _SUBJECT = "settings"

    settings: object = None

    def __init__(self, reason: str, *, faults: tuple[SettingFault, ...] = ()) -> None:
        super().__init__(reason)
        self.faults = faults

    @classmethod
    def of(cls, faults: Iterable[SettingFault]) -> Self:
        """Make one error of several faults; those that say the same count once."""
        unique: dict[str, SettingFault] = {}
        for fault in faults:
            unique.setdefault(str(fault), fault)
        head = f"the {cls._SUBJECT} cannot be used"
        if len(unique) > 1:
            head = f"{len(unique)} faults in the {cls._SUBJECT}"
        return cls(f"{head}: " + "; ".join(unique), faults=tuple(unique.values()))


class CertificateError(ConfigurationError):
    """A certificate or key cannot be used: unreadable, wrong password, not a pair, or outside its dates."""

    _SUBJECT = "certificates"


class InvalidArgument(MeshError, ValueError):
    """An argument of a call cannot be used; the text names it and the limit. Nothing was sent."""


class SourceError(MeshError):
    """The content could not be read to its end, or was not the length that it had at first. It was not sent."""


class StorageError(MeshError):
    """Content could not be stored here (full disk, permissions). A received message is still in the inbox."""


class ConnectionFailed(MeshError):
    """No connection was made: name resolution, TCP, TLS or the proxy failed. The request never left.

    Attributes:
        transient: whether trying again may help; it does not for a certificate that is refused.
    """

    transient: bool = True


class ConnectionLost(MeshError):
    """The connection broke, or a time limit passed, before the whole answer came. `outcome` says what that means.

    Attributes:
        request_complete: whether MESH may have the whole request; if not, it cannot have acted on it.
    """

    request_complete: bool = True


class OutcomeUnknown(MeshError):
    """A send's answer was lost, and looking the message up by its local id did not settle whether it arrived.

    Do not send it again unless the recipient can bear it twice.
    """


class IntegrityError(MeshError):
    """The received content is incomplete or damaged, and must not be used. The message is still in the inbox."""


class HandlerError(MeshError):
    """A handler, `on_report` or `progress` raised while a message was received; in the result of `receive_messages`.

    The error itself is not kept: it, and the frames of its traceback, could hold all that the handler had read.

    Attributes:
        kind: the name of the error's class.
        text: the beginning of its text. It may hold patient data, so it is in no other text of this error.
        where: the end of its traceback, without the error's text.
    """

    kind: str = ""
    text: str = ""
    where: str = ""


class ResponseError(MeshError):
    """MESH answered with something other than success; see the subclasses for what each status means.

    Attributes:
        retry_after_in_seconds: how long MESH asked to wait before the next try, if it did.
    """

    retry_after_in_seconds: float | None = None


class BadRequest(ResponseError):
    """400 or 406: MESH could not read the request. It did nothing."""


class NotAuthorised(ResponseError):
    """401 or 403: mailbox id, password, shared key, certificate, or a clock over two hours off. Nothing was done."""


class NotFound(ResponseError):
    """404: no such message, or it is not this mailbox's."""


class Gone(ResponseError):
    """410: the message has expired or failed, and can no longer be had."""


class Refused(ResponseError):
    """417: MESH will not take the message; `event`, `code` and `description` say why. It was not sent.

    Without a status: MESH took it, and tracking says that it has given it up (`error`, `undeliverable`).
    """


class UploadFinished(ResponseError):
    """423: every chunk of this message has arrived already, so no more are taken."""


class Busy(ResponseError):
    """425, 429 or 503, still after every attempt that the settings allow. The request was not acted on."""


class ServerError(ResponseError):
    """Another 5xx, or an answer that MESH does not give. For a send, `outcome` says whether it may have arrived."""
