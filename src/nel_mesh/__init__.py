"""NHS MESH for Python: send and receive messages of any size, and lose none.

The public names are these; everything else may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nel_mesh._async.client import AsyncMeshClient
    from nel_mesh._async.message import AsyncMessage
    from nel_mesh._async.transport import AsyncTransport
    from nel_mesh._sync.client import MeshClient
    from nel_mesh._sync.message import Message
    from nel_mesh._sync.transport import Transport
    from nel_mesh._version import __version__
    from nel_mesh.destinations.azure import AzureDestination
    from nel_mesh.destinations.base import Destination
    from nel_mesh.destinations.folder import FolderDestination
    from nel_mesh.destinations.s3 import S3Destination
    from nel_mesh.destinations.sftp import SftpDestination
    from nel_mesh.destinations.urls import open_destination
    from nel_mesh.errors import (
        BadRequest,
        Busy,
        CertificateError,
        ConfigurationError,
        ConnectionFailed,
        ConnectionLost,
        Gone,
        HandlerError,
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
    from nel_mesh.io.journal import JournalEntry, ListableJournal, SqliteJournal
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
    from nel_mesh.transfers import Transfer, Transfers, TransferState

__all__ = [
    "AsyncMeshClient",
    "AsyncMessage",
    "AsyncTransport",
    "AzureDestination",
    "BadRequest",
    "Busy",
    "CertificateError",
    "ConfigurationError",
    "ConnectionFailed",
    "ConnectionLost",
    "Destination",
    "FailedMessage",
    "FolderDestination",
    "Gone",
    "HandlerError",
    "Identity",
    "InboxPage",
    "IntegrityError",
    "InvalidArgument",
    "JournalEntry",
    "ListableJournal",
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
    "S3Destination",
    "SendProgress",
    "SendReceipt",
    "ServerError",
    "SettingFault",
    "SftpDestination",
    "SourceError",
    "SqliteJournal",
    "StorageError",
    "Tracking",
    "Transfer",
    "TransferState",
    "Transfers",
    "Transport",
    "UploadFinished",
    "__version__",
    "open_destination",
]

_HOMES = {
    "__version__": "_version",
    "AsyncMeshClient": "_async.client",
    "AsyncMessage": "_async.message",
    "AsyncTransport": "_async.transport",
    "AzureDestination": "destinations.azure",
    "Destination": "destinations.base",
    "FolderDestination": "destinations.folder",
    "Identity": "tls.identity",
    "JournalEntry": "io.journal",
    "ListableJournal": "io.journal",
    "MeshClient": "_sync.client",
    "MeshSettings": "settings",
    "S3Destination": "destinations.s3",
    "SftpDestination": "destinations.sftp",
    "open_destination": "destinations.urls",
    "Message": "_sync.message",
    "SqliteJournal": "io.journal",
    "Transfer": "transfers",
    "TransferState": "transfers",
    "Transfers": "transfers",
    "Transport": "_sync.transport",
}
"""The modules of the names that are in neither `errors` nor `models`."""


def __getattr__(name: str) -> Any:
    # On demand: a command that only shows its help needs neither HTTP nor certificates, and they take half a second.
    if name in __all__:
        for home in (_HOMES[name],) if name in _HOMES else ("errors", "models"):
            module = import_module(f"{__name__}.{home}")
            if name in vars(module):
                globals()[name] = found = vars(module)[name]
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
