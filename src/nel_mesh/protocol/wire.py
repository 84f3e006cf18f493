"""Names and limits of MESH headers, and the form of their values and of message ids.

MESH API, "Send message" (parameters) and "Get message" (response headers).
Header names are lower case here, as HTTP compares them without case (RFC 9110, 5.1).

Every value is checked before it is sent: a control character could start another header, and
nothing says how the live service reads characters beyond ASCII.
Values from a response are not trusted either: see `is_message_id`, and `printable` for text that
goes to logs and terminals.
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
JAVA_VERSION: Final = "mex-javaversion"
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
"""The maximum length of a header's value, in characters."""

CHECKSUM_FORM: Final = re.compile(r"[A-Za-z0-9 :/\-]*")
URL_FORM: Final = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)

_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_NOT_PRINTABLE_RUN = re.compile(r"[^\x20-\x7e]+")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_\-]{1,100}")
_NHS_NUMBER = re.compile(r"(?<![A-Za-z0-9])(\d{10}|\d{3}([_-])\d{3}\2\d{4})(?![A-Za-z0-9])")
_MAX_PRINTED_CHARACTERS = 300


class InvalidMessageId(str):
    """A placeholder for an entry of an inbox that does not have the form of a message id.

    It is printable and never the entry itself, which may be of any length and hold anything. Every operation on it
    raises IntegrityError before a request is sent.
    """

    __slots__ = ()


def header_fault(header: str, value: str) -> str | None:
    """Find a fault in a header's value by MESH's rules; the result does not repeat the value."""
    limit = LIMITS.get(header)
    if limit is not None and len(value) > limit:
        return f"it has {len(value)} characters, and MESH takes at most {limit}"
    # The two methods are several times as fast as the search, which says where.
    if not (value.isascii() and value.isprintable()) and (bad := _NOT_PRINTABLE.search(value)):
        where = f"U+{ord(bad[0]):04X} at position {bad.start() + 1}"
        return f"the character {where} cannot go into a header; use printable ASCII"
    if value != value.strip():
        return "it begins or ends with a space, which HTTP removes"
    if header == CHECKSUM and not CHECKSUM_FORM.fullmatch(value):
        return "a checksum may hold letters, digits, spaces, and : - / only"
    if header in (TO, WORKFLOW_ID) and "://" in value and URL_FORM.search(value):
        return "MESH refuses a URL here"
    return None


def is_message_id(text: str) -> bool:
    """Whether a text has the form of a message id: 1 to 100 letters, digits, `_` and `-`.

    MESH's ids are 20 digits, `_` and 6 hexadecimal digits; other servers use UUIDs.
    An id goes into paths, logs, file names and the journal, so nothing else passes, and no id that
    has an NHS number in it: ten digits between its separators, or the same as 3-3-4.
    """
    return _MESSAGE_ID.fullmatch(text) is not None and _NHS_NUMBER.search(text) is None


def printable(value: object) -> str | None:
    """One line of printable ASCII, at most 300 characters, of a value from a response; None if empty."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return None
    # Cut first: the value can be as long as a response.
    start = str(value)[: 2 * _MAX_PRINTED_CHARACTERS]
    return _NOT_PRINTABLE_RUN.sub(" ", start).strip()[:_MAX_PRINTED_CHARACTERS].strip() or None


def message_headers(
    *,
    sender: str,
    to: str,
    workflow_id: str,
    local_id: str | None,
    subject: str | None,
    file_name: str | None,
    checksum: str | None,
    content_type: str | None,
    encrypted: bool,
    compressed: bool,
    partner_id: str | None,
) -> dict[str, str]:
    """Make the headers of a new message. An argument that is None or empty makes no header.

    Raises InvalidArgument, naming the argument, for a value that `header_fault` finds fault with.
    """
    headers = {FROM: sender, CONTENT_TYPE: "application/octet-stream"}
    for argument, header, value in (
        ("to", TO, to),
        ("workflow_id", WORKFLOW_ID, workflow_id),
        ("local_id", LOCAL_ID, local_id),
        ("subject", SUBJECT, subject),
        ("file_name", FILE_NAME, file_name),
        ("checksum", CHECKSUM, checksum),
        ("content_type", CONTENT_TYPE, content_type),
        ("partner_id", PARTNER_ID, partner_id),
    ):
        if value is None or value == "":
            if header in (TO, WORKFLOW_ID):
                raise InvalidArgument(f"{argument}: it is empty; MESH needs it to deliver the message")
            continue
        if not isinstance(value, str):
            raise InvalidArgument(f"{argument}: expected text, not {type(value).__name__}")
        fault = header_fault(header, value)
        if fault:
            raise InvalidArgument(f"{argument}: {fault}")
        headers[header] = value
    if content_type:
        # Content-Type describes the request: the recipient of a chunked or gzipped message does
        # not get it.
        headers[MEX_CONTENT_TYPE] = content_type
    if encrypted:
        headers[ENCRYPTED] = "Y"
    if compressed:
        headers[COMPRESSED] = "Y"
    return headers
