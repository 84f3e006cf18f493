"""Every way in which the sandbox says no, and the body that goes with it, in both versions of the API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from nel_mesh.protocol import wire

V1_MEDIA_TYPE = "application/json"


def json_response(content: Any, version: int, *, status: int = 200) -> Response:
    """A JSON answer, under the media type of the API version that was asked for."""
    return Response(
        json.dumps(content, separators=(",", ":")),
        status_code=status,
        media_type=wire.ACCEPT_V2 if version == 2 else V1_MEDIA_TYPE,
    )


class Refusal(Exception):
    """A request that MESH would not act on: a status, and MESH's event, code and description."""

    def __init__(
        self,
        status: int,
        *,
        event: str = "",
        code: str = "",
        description: str = "",
        message_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {event} {code} {description}")
        self.status = status
        self.event = event
        self.code = code
        self.description = description
        self.message_id = message_id
        self.headers = headers or {}

    def answer(self, version: int) -> Response:
        """The refusal as an answer (MESH API, schema "MeshError")."""
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
        answer = json_response(content, version, status=self.status)
        answer.headers.update(self.headers)
        return answer


class InvalidRequest(Refusal):
    """400: a part of the request is not as the specification has it (MESH API, "HTTPValidationError")."""

    def __init__(self, place: str, name: str, message: str, kind: str = "value_error") -> None:
        super().__init__(400, description=f"{place} {name}: {message}")
        self.detail = {"loc": [place, name], "msg": message, "type": kind}

    def answer(self, version: int) -> Response:
        """The refusal as an answer, the same in both versions."""
        return json_response({"detail": [self.detail]}, 1, status=self.status)


class RequestTooLarge(Refusal):
    """413: more than one request may carry. Whatever stands in front of MESH says so, in HTML."""

    def __init__(self) -> None:
        super().__init__(413, description="request entity too large")

    def answer(self, version: int) -> Response:
        """The refusal as an answer, the same in both versions."""
        return Response(
            "<html><head><title>413 Request Entity Too Large</title></head>"
            "<body><h1>413 Request Entity Too Large</h1></body></html>",
            status_code=self.status,
            media_type="text/html",
        )


def malformed(description: str, message_id: str | None = None) -> Refusal:
    """417, code 06: headers that contradict the specification, one another, or what was sent before."""
    return Refusal(417, event="SEND", code="06", description=description, message_id=message_id)
