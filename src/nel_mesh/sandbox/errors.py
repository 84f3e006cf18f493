"""Refusals of the sandbox: status, MESH's event, code and words, and the body in either version of the API.

Each refusal also has a reason in plain words, which MESH does not give. It is in the response's header
`X-Sandbox-Reason`, and in `Sandbox.requests()`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from nel_mesh.protocol import wire

V1_MEDIA_TYPE: Final = "application/json"
REASON_HEADER: Final = "x-sandbox-reason"

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "02": "Data file is missing or inaccessible",
    "06": "Malformed headers",
    "07": "Invalid From Address, the mailbox does not match the authorization header",
    "08": "Missing Mex-To header",
    "09": "Invalid version of the control file",
    "11": "Invalid Message Type for the transfer, should be DATA",
    "12": "Unregistered to address",
    "14": "Message not collected by recipient after 5 days",
    "16": "Sender is not allowed to send messages of this type",
    "17": "Workflow ID not registered for mailbox",
    "20": "Message does not exist",
    "EPL-151": "No mailbox matched",
    "InvalidHeaderChunks": "Invalid chunk values sent in mex-Chunk-Range header",
    "Invalid checksum": "Invalid checksum",
    "Message already accepted": "Message no longer available for download",
}
"""The words beside each code: MESH API, "Error codes".

The words of 09, 14, 20 and EPL-151 and the last three codes are the official sandbox's, as the API text has none.
"""


def json_response(content: Any, version: int, *, status: int = 200) -> Response:
    """Make a JSON response with the media type of the API version."""
    return Response(
        json.dumps(content, separators=(",", ":")),
        status_code=status,
        media_type=wire.ACCEPT_V2 if version == 2 else V1_MEDIA_TYPE,
    )


class Refusal(Exception):
    """A request that MESH does not act on.

    Args:
        status: the HTTP status.
        reason: why, for the developer.
        event, code: MESH's own.
        description: MESH's words; by the code if None.
        message_id: the message that the request was about.
        headers: further headers of the response.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        *,
        event: str = "",
        code: str = "",
        description: str | None = None,
        message_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {event} {code} {reason}")
        self.status = status
        self.reason = reason
        self.event = event
        self.code = code
        self.description = DESCRIPTIONS.get(code, reason) if description is None else description
        self.message_id = message_id
        self.headers = headers or {}

    def response(self, version: int) -> Response:
        """Make the response (MESH API, schema "MeshError")."""
        made = self._body(version)
        made.headers.update({REASON_HEADER: self.reason, **self.headers})
        return made

    def _body(self, version: int) -> Response:
        content: dict[str, Any]
        if version == 2:
            content = {"detail": [{"event": self.event, "code": self.code, "msg": self.description}]}
            if self.message_id:
                content = {"message_id": self.message_id, "internal_id": self.message_id, **content}
        else:
            content = {
                "errorEvent": self.event,
                "errorCode": self.code,
                "errorDescription": self.description,
            }
            if self.message_id:
                content = {"messageID": self.message_id, **content}
        return json_response(content, version, status=self.status)


class InvalidRequest(Refusal):
    """400: a part of the request is not as the specification has it (MESH API, "HTTPValidationError").

    Args:
        place: header, path, query or body.
        name: the name of the part there.
        message: why it is not.
        kind: the type of the error. The types and their words are those of the official sandbox.
        more_names: further parts with the same fault.
    """

    def __init__(self, place: str, name: str, message: str, kind: str = "value_error", *more_names: str) -> None:
        names = (name, *more_names)
        super().__init__(400, f"{place} {', '.join(names)}: {message}")
        self.detail = [{"loc": [place, one], "msg": message, "type": kind} for one in names]

    @classmethod
    def missing(cls, place: str, *names: str) -> InvalidRequest:
        """Refuse a request that lacks headers or parameters."""
        return cls(place, names[0], "Field required", "missing", *names[1:])

    @classmethod
    def too_long(cls, place: str, name: str, limit: int) -> InvalidRequest:
        """Refuse a text of more characters than the limit."""
        return cls(place, name, f"String should have at most {limit} characters", "string_too_long")

    def _body(self, version: int) -> Response:
        return json_response({"detail": self.detail}, 1, status=self.status)


class RequestTooLarge(Refusal):
    """413: more than one request may carry. The gateway before MESH answers this, in HTML."""

    def __init__(self) -> None:
        super().__init__(413, "the request is larger than max_request_bytes")

    def _body(self, version: int) -> Response:
        return Response(
            "<html><head><title>413 Request Entity Too Large</title></head>"
            "<body><h1>413 Request Entity Too Large</h1></body></html>",
            status_code=self.status,
            media_type="text/html",
        )


def parse_number(place: str, name: str, text: str, least: int, most: int | None = None) -> int:
    """Parse a number in the request. Raises InvalidRequest if it is none, or beyond a limit."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise InvalidRequest(place, name, message, "int_parsing")
    if int(text) < least:
        raise InvalidRequest(place, name, f"Input should be greater than or equal to {least}", "greater_than_equal")
    if most is not None and int(text) > most:
        raise InvalidRequest(place, name, f"Input should be less than or equal to {most}", "less_than_equal")
    return int(text)


def invalid_range(reason: str, message_id: str | None = None) -> Refusal:
    """417: the chunk range or the place of a chunk contradicts the specification, or what was sent before."""
    return Refusal(417, reason, event="SEND", code="InvalidHeaderChunks", message_id=message_id)


def malformed(reason: str, message_id: str | None = None) -> Refusal:
    """417, code 06: headers that contradict the specification, one another, or what was sent before."""
    return Refusal(417, reason, event="SEND", code="06", message_id=message_id)
