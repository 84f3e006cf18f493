"""A request: its context for the handlers, and its record in the log of requests."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nel_mesh.sandbox.configuration import SandboxConfiguration, SandboxMailbox
from nel_mesh.sandbox.errors import InvalidRequest, json_response
from nel_mesh.sandbox.faults import Fault
from nel_mesh.sandbox.routes import Call
from nel_mesh.sandbox.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class RequestContext:
    """One admitted request: what it asks for, in which version of the API, and what answers come from."""

    configuration: SandboxConfiguration
    store: Store
    call: Call
    request: Request
    headers: Mapping[str, str]
    version: int

    def header(self, name: str) -> str:
        """A header's value without blanks around it; empty if it is absent."""
        return self.headers.get(name, "").strip()

    def mailbox(self, mailbox_id: str) -> SandboxMailbox | None:
        """A mailbox of this sandbox."""
        return next((box for box in self.configuration.mailboxes if box.mailbox_id == mailbox_id), None)

    def chunk_number(self) -> int:
        """The chunk number in the path. Raises InvalidRequest if it is not a number from 1."""
        text = self.call.chunk_number
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
            raise InvalidRequest("path", "chunk_number", "a number from 1 is needed")
        return int(text)

    def json(self, content: Any, *, status: int = 200) -> Response:
        """A JSON answer in the version that was asked for."""
        return json_response(content, self.version, status=status)


@dataclasses.dataclass(slots=True, kw_only=True)
class RequestSeen:
    """One request as it arrived.

    Attributes:
        method: in upper case.
        path: as it was sent, with its query.
        operation: what it asked for; None if no such path or method exists.
        mailbox_id: whose path it was; empty where the path names none.
        headers: by lower-case name.
        status: what it was answered; None while it is under way, or if the connection broke first.
        fault: the planned fault that it suffered.
    """

    method: str
    path: str
    operation: str | None
    mailbox_id: str
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    status: int | None = None
    fault: Fault | None = None

    @property
    def token(self) -> str | None:
        """The `Authorization` header."""
        return self.headers.get("authorization")


class RequestLog:
    """The last requests, oldest first; may be used from any thread."""

    def __init__(self, limit: int) -> None:
        self._seen: deque[RequestSeen] = deque(maxlen=limit)
        self._lock = threading.Lock()

    def add(self, seen: RequestSeen) -> None:
        """Adds a request, which its status is still to be set on."""
        with self._lock:
            self._seen.append(seen)

    def all(self) -> list[RequestSeen]:
        """Copies of what is remembered."""
        with self._lock:
            return [dataclasses.replace(seen) for seen in self._seen]

    def clear(self) -> None:
        """Forgets all of it."""
        with self._lock:
            self._seen.clear()
