"""The requests that a sandbox has seen, for tests to look at."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Mapping

from nel_mesh.sandbox.faults import Fault


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


class Journal:
    """The last requests, oldest first; may be used from any thread."""

    def __init__(self, limit: int) -> None:
        self._seen: deque[RequestSeen] = deque(maxlen=limit)
        self._lock = threading.Lock()

    def note(self, seen: RequestSeen) -> None:
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
