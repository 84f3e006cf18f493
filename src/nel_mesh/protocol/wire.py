"""The headers that MESH knows: their names, their limits, and what may go into them.

MESH API, "Send message" (parameters). Names are in lower case, since HTTP compares them without case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from nel_mesh.errors import InvalidArgument

ACCEPT_V2: Final = "application/vnd.mesh.v2+json"

FROM: Final = "mex-from"
TO: Final = "mex-to"
WORKFLOW_ID: Final = "mex-workflowid"
SUBJECT: Final = "mex-subject"
LOCAL_ID: Final = "mex-localid"
FILE_NAME: Final = "mex-filename"
PARTNER_ID: Final = "mex-partnerid"
CHECKSUM: Final = "mex-content-checksum"
COMPRESSED: Final = "mex-content-compressed"
ENCRYPTED: Final = "mex-content-encrypted"
CHUNK_RANGE: Final = "mex-chunk-range"
MESSAGE_ID: Final = "mex-messageid"
MESSAGE_TYPE: Final = "mex-messagetype"
LINKED_MESSAGE_ID: Final = "mex-linkedmsgid"
STATUS_EVENT: Final = "mex-statusevent"
STATUS_CODE: Final = "mex-statuscode"
STATUS_DESCRIPTION: Final = "mex-statusdescription"
STATUS_SUCCESS: Final = "mex-statussuccess"
STATUS_TIMESTAMP: Final = "mex-statustimestamp"
CLIENT_VERSION: Final = "mex-clientversion"
OS_NAME: Final = "mex-osname"
OS_VERSION: Final = "mex-osversion"
OS_ARCHITECTURE: Final = "mex-osarchitecture"
CONTENT_TYPE: Final = "content-type"
CONTENT_ENCODING: Final = "content-encoding"
MEX_CONTENT_TYPE: Final = "mex-content-type"

LIMITS: Final[Mapping[str, int]] = {
    TO: 100,
    WORKFLOW_ID: 300,
    SUBJECT: 500,
    LOCAL_ID: 300,
    FILE_NAME: 300,
    PARTNER_ID: 500,
    CHECKSUM: 100,
    CONTENT_TYPE: 100,
    CHUNK_RANGE: 20,
}
"""The longest value, in characters, of each header that has a limit."""

CHECKSUM_FORM: Final = re.compile(r"[A-Za-z0-9 :/\-]*")
URL_FORM: Final = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)

_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


def fault_in(header: str, value: str) -> str | None:
    """What is wrong with a header's value by MESH's rules, never repeating it; None if nothing is."""
    limit = LIMITS.get(header)
    if limit is not None and len(value) > limit:
        return f"it has {len(value)} characters, and MESH takes at most {limit}"
    bad = _NOT_PRINTABLE.search(value)
    if bad is not None:
        # How MESH reads anything beyond ASCII is unknown, and a control character could start another header.
        where = f"U+{ord(bad[0]):04X} at position {bad.start() + 1}"
        return f"the character {where} cannot go into a header; use printable ASCII"
    if value != value.strip():
        return "it begins or ends with a blank, which HTTP would drop"
    if header == CHECKSUM and not CHECKSUM_FORM.fullmatch(value):
        return "a checksum may hold letters, digits, blanks, and : - / only"
    if header in (TO, WORKFLOW_ID) and URL_FORM.search(value):
        return "MESH refuses a URL here"
    return None


def message_headers(
    *,
    sender: str,
    to: str,
    workflow_id: str,
    local_id: str,
    subject: str | None,
    file_name: str | None,
    checksum: str | None,
    content_type: str | None,
    encrypted: bool,
    compressed: bool,
    partner_id: str | None,
) -> dict[str, str]:
    """The headers that describe a new message, each one checked. What is absent is left out, never sent as "None".

    Raises InvalidArgument, naming the argument, before anything is sent.
    """
    arguments = {
        "to": (TO, to),
        "workflow_id": (WORKFLOW_ID, workflow_id),
        "local_id": (LOCAL_ID, local_id),
        "subject": (SUBJECT, subject),
        "file_name": (FILE_NAME, file_name),
        "checksum": (CHECKSUM, checksum),
        "content_type": (CONTENT_TYPE, content_type),
        "partner_id": (PARTNER_ID, partner_id),
    }
    headers = {FROM: sender, CONTENT_TYPE: "application/octet-stream"}
    for argument, (header, value) in arguments.items():
        if not value and argument in ("to", "workflow_id"):
            raise InvalidArgument(f"{argument}: it is empty; MESH needs it to deliver the message")
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise InvalidArgument(f"{argument}: expected text, not {type(value).__name__}")
        fault = fault_in(header, value)
        if fault:
            raise InvalidArgument(f"{argument}: {fault}")
        headers[header] = value
    if content_type:
        # A message in several chunks, or gzipped in transit, only keeps its type in this one.
        headers[MEX_CONTENT_TYPE] = content_type
    if encrypted:
        headers[ENCRYPTED] = "Y"
    if compressed:
        headers[COMPRESSED] = "Y"
    return headers
