"""NHS MESH for Python: send and receive messages of any size, and lose none.

The public names are these; everything else may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nel_mesh._async.client import AsyncMeshClient
    from nel_mesh._async.message import AsyncMessage
    from nel_mesh._sync.client import MeshClient
    from nel_mesh._sync.message import Message
    from nel_mesh._version import __version__
    from nel_mesh.errors import (
        BadRequest,
        Busy,
        CertificateError,
        ConfigurationError,
        ConnectionFailed,
        ConnectionLost,
        Gone,
        IntegrityError,
        InvalidArgument,
        MeshError,
        NotAuthorised,
        NotFound,
        Outcome,
        OutcomeUnknown,
        Refused,
        ResponseError,
        ServerError,
        SettingFault,
        SourceError,
        StorageError,
        UploadFinished,
    )
    from nel_mesh.models import (
        FailedMessage,
        InboxPage,
        Mailbox,
        MessageMetadata,
        ReceivedFile,
        ReceiveProgress,
        ReceiveResult,
        Report,
        SendProgress,
        SendReceipt,
        Tracking,
    )
    from nel_mesh.settings import MeshSettings
    from nel_mesh.tls.identity import Identity

__all__ = [
    "AsyncMeshClient",
    "AsyncMessage",
    "BadRequest",
    "Busy",
    "CertificateError",
    "ConfigurationError",
    "ConnectionFailed",
    "ConnectionLost",
    "FailedMessage",
    "Gone",
    "Identity",
    "InboxPage",
    "IntegrityError",
    "InvalidArgument",
    "Mailbox",
    "MeshClient",
    "MeshError",
    "MeshSettings",
    "Message",
    "MessageMetadata",
    "NotAuthorised",
    "NotFound",
    "Outcome",
    "OutcomeUnknown",
    "ReceiveProgress",
    "ReceiveResult",
    "ReceivedFile",
    "Refused",
    "Report",
    "ResponseError",
    "SendProgress",
    "SendReceipt",
    "ServerError",
    "SettingFault",
    "SourceError",
    "StorageError",
    "Tracking",
    "UploadFinished",
    "__version__",
]

# Cheap ones first, as a name is looked for in this order.
_HOMES = (
    "_version",
    "errors",
    "models",
    "settings",
    "tls.identity",
    "_sync.message",
    "_sync.client",
    "_async.message",
    "_async.client",
)


def __getattr__(name: str) -> Any:
    # On demand: a command that only shows its help needs neither HTTP nor certificates, and they take half a second.
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if name in vars(module):
                globals()[name] = found = vars(module)[name]
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
