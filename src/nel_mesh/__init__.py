"""NHS MESH for Python: send and receive messages of any size, and lose none.

The public names are these; everything else may change.
"""

from nel_mesh._async.client import AsyncMeshClient
from nel_mesh._async.transfers import AsyncMessage
from nel_mesh._sync.client import MeshClient
from nel_mesh._sync.transfers import Message
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
    InboxPage,
    Mailbox,
    MessageMetadata,
    Progress,
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
    "ConfigurationError",
    "ConnectionFailed",
    "ConnectionLost",
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
