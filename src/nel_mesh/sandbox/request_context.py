"""All that one request needs in order to be answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nel_mesh.sandbox.configuration import Mailbox, SandboxConfiguration
from nel_mesh.sandbox.errors import Invalid, json_answer
from nel_mesh.sandbox.routes import Call
from nel_mesh.sandbox.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
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

    def mailbox(self, mailbox_id: str) -> Mailbox | None:
        """A mailbox of this sandbox."""
        return next((box for box in self.configuration.mailboxes if box.mailbox_id == mailbox_id), None)

    def chunk_number(self) -> int:
        """The chunk number in the path. Raises Invalid if it is not a number from 1."""
        text = self.call.chunk_number
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
            raise Invalid("path", "chunk_number", "a number from 1 is needed")
        return int(text)

    def json(self, content: Any, *, status: int = 200) -> Response:
        """A JSON answer in the version that was asked for."""
        return json_answer(content, self.version, status=status)
