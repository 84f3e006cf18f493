"""NHS MESH for Python: send and receive messages of any size, and lose none.

The public names are these; everything else may change.
"""

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
    SourceError,
    StorageError,
    UploadFinished,
)
from nel_mesh.models import (
    Collection,
    FailedMessage,
    InboxPage,
    Mailbox,
    MessageMetadata,
    Progress,
    ReceivedFile,
    Report,
    SendReceipt,
    Tracking,
)
from nel_mesh.settings import MeshSettings

__all__ = [
    "AsyncMeshClient",
    "AsyncMessage",
    "BadRequest",
    "Busy",
    "CertificateError",
    "Collection",
    "ConfigurationError",
    "ConnectionFailed",
    "ConnectionLost",
    "FailedMessage",
    "Gone",
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
    "Progress",
    "ReceivedFile",
    "Refused",
    "Report",
    "ResponseError",
    "SendReceipt",
    "ServerError",
    "SourceError",
    "StorageError",
    "Tracking",
    "UploadFinished",
    "__version__",
]
