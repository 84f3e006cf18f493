"""A request: its context for the handlers, and its record in the log of requests."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nel_mesh.sandbox.configuration import SandboxConfiguration, SandboxMailbox
from nel_mesh.sandbox.errors import json_response, parse_number
from nel_mesh.sandbox.faults import Fault
from nel_mesh.sandbox.routes import Call
from nel_mesh.sandbox.store import Store

_MAX_LOG_BYTES = 8 * 1024 * 1024
"""The most that paths and headers of remembered requests may take: 2,000 ordinary requests are 1 MB."""


@dataclasses.dataclass(frozen=True, slots=True)
class RequestContext:
    """A request with a verified token, and what its handler needs."""

    configuration: SandboxConfiguration
    store: Store
    call: Call
    request: Request
    headers: Mapping[str, str]
    version: int

    def header(self, name: str) -> str:
        """A header's value without spaces around it; empty if it is absent."""
        return self.headers.get(name, "").strip()

    def mailbox(self, mailbox_id: str) -> SandboxMailbox | None:
        """Find a mailbox of this sandbox."""
        return next((box for box in self.configuration.mailboxes if box.mailbox_id == mailbox_id), None)

    def chunk_number(self) -> int:
        """Parse the chunk number in the path. Raises InvalidRequest if it is not a number from 1."""
        return parse_number("path", "chunk_number", self.call.chunk_number, 1)

    def json(self, content: Any, *, status: int = 200) -> Response:
        """Make a JSON response in the version that was asked for."""
        return json_response(content, self.version, status=status)


@dataclasses.dataclass(slots=True, kw_only=True)
class RequestSeen:
    """A request that the sandbox got.

    Attributes:
        method: the HTTP method, in upper case.
        path: the path as it was sent, with its query.
        operation: the operation, such as `send_message`; None if there is no such path or method.
        mailbox_id: the mailbox in the path; empty if it names none.
        headers: the headers, by lower-case name.
        at: when it came, by the clock of the sandbox.
        status: the status of the response; None before it, or if the connection broke.
        reason: why it was refused, in plain words; None if it was not.
        fault: the fault that was injected.
    """

    method: str
    path: str
    operation: str | None
    mailbox_id: str
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    at: datetime
    status: int | None = None
    reason: str | None = None
    fault: Fault | None = None

    @property
    def token(self) -> str | None:
        """The `Authorization` header."""
        return self.headers.get("authorization")


class RequestLog:
    """The last requests, oldest first. May be used from any thread."""

    def __init__(self, limit: int) -> None:
        self._seen: deque[RequestSeen] = deque()
        self._limit = limit
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, seen: RequestSeen) -> None:
        """Add a request; its status is set later. Drop the oldest ones beyond the limits."""
        with self._lock:
            self._seen.append(seen)
            self._bytes += _size(seen)
            while len(self._seen) > self._limit or (self._bytes > _MAX_LOG_BYTES and len(self._seen) > 1):
                self._bytes -= _size(self._seen.popleft())

    def all(self) -> list[RequestSeen]:
        """Copy the requests."""
        with self._lock:
            return [dataclasses.replace(seen) for seen in self._seen]

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._seen.clear()
            self._bytes = 0


def _size(seen: RequestSeen) -> int:
    return len(seen.path) + sum(len(name) + len(value) for name, value in seen.headers.items())
