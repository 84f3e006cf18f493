"""One run of one scenario: its clients, what it noted, and each request that it made."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

from nel_mesh import MeshClient, MeshSettings, NotFound
from nel_mesh.instrumentation import Event, RequestFinished
from nel_mesh.settings import SettingsKeywords

_LOOK_EVERY_SECONDS = 0.5


class Verdict(enum.StrEnum):
    """The result of a scenario.

    Attributes:
        PASSED: all was as expected.
        FAILED: something was not, or an error was raised that should not be.
        WAITING: what is expected takes days; run it again.
    """

    PASSED = "passed"
    FAILED = "failed"
    WAITING = "waiting"


class Unexpected(Exception):
    """Something was not as the scenario expects it."""


class Waiting(Exception):
    """What the scenario expects takes days."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parties:
    """Who sends to whom.

    Attributes:
        sender: makes the settings of the mailbox that sends, with settings of the scenario's own.
        recipient: settings of the mailbox that receives; it may be the same.
        workflow_id: of every message.
        volume: how many messages scenario 601 sends.
        patience_in_seconds: how long a message may take to be in the inbox.
        advance: moves the clock of the server, if it is a sandbox.
    """

    sender: Callable[..., MeshSettings]
    recipient: MeshSettings = dataclasses.field(repr=False)
    workflow_id: str = "NEL_MESH_WITNESS"
    volume: int = 100
    patience_in_seconds: float = 120.0
    advance: Callable[[timedelta], object] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A request, without what is private: no query, header, or body.

    Attributes:
        at: when its response was there.
        mailbox_id: whose it was.
        method, path: of HTTP, with names in place of ids.
        message_id: the message that it was about.
        status: of the response; None if there was none.
        milliseconds: how long it took.
        bytes: the length of its body.
        failure: the name of the error, if it failed.
    """

    at: str
    mailbox_id: str
    method: str
    path: str
    message_id: str | None
    status: int | None
    milliseconds: float
    bytes: int
    failure: str | None


class Trial:
    """What a scenario works with.

    Args:
        parties: who sends to whom.
        before: what an earlier run of this scenario remembered.

    Attributes:
        parties: who sends to whom.
        notes: what was found to be as expected, in sentences.
        requests: each request.
        remembered: values that the next run needs.
    """

    def __init__(self, parties: Parties, before: dict[str, Any]) -> None:
        self.parties = parties
        self.notes: list[str] = []
        self.requests: list[Request] = []
        self.remembered = dict(before)

    @contextlib.contextmanager
    def sender(self, **settings: Unpack[SettingsKeywords]) -> Iterator[MeshClient]:
        """Give a client of the mailbox that sends, with settings of the scenario's own."""
        with MeshClient(self.parties.sender(**settings), hooks=[self._hear]) as client:
            yield client

    @contextlib.contextmanager
    def recipient(self) -> Iterator[MeshClient]:
        """Give a client of the mailbox that receives."""
        with MeshClient(self.parties.recipient, hooks=[self._hear]) as client:
            yield client

    def send(self, client: MeshClient, content: bytes, *, to: str = "", **more: Any) -> str:
        """Send content to the recipient, note it, and return the message id."""
        receipt = client.send_message(
            content, to=to or self.parties.recipient.mailbox_id, workflow_id=self.parties.workflow_id, **more
        )
        self.note(
            f"{client.mailbox_id} sent {receipt.bytes:,} bytes as {receipt.message_id}, in {receipt.chunks} "
            f"{'request' if receipt.chunks == 1 else 'requests'}"
        )
        return receipt.message_id

    def wait_for(self, client: MeshClient, message_id: str) -> None:
        """Wait until a message is in the inbox."""
        end = time.monotonic() + self.parties.patience_in_seconds
        while True:
            with contextlib.suppress(NotFound):
                client.message_metadata(message_id)
                self.note(f"{message_id} is in the inbox of {client.mailbox_id}")
                return
            if time.monotonic() >= end:
                raise Unexpected(f"{message_id} was not in the inbox within {self.parties.patience_in_seconds:g} s")
            time.sleep(_LOOK_EVERY_SECONDS)

    def expect(self, is_so: object, text: str) -> None:
        """Note that something is so; raise Unexpected if it is not."""
        if not is_so:
            raise Unexpected(f"not so: {text}")
        self.note(text)

    def note(self, text: str) -> None:
        """Note something for the report."""
        self.notes.append(text)

    def _hear(self, event: Event) -> None:
        if isinstance(event, RequestFinished):
            self.requests.append(
                Request(
                    at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    mailbox_id=event.mailbox_id,
                    method=event.method,
                    path=event.url_template,
                    message_id=event.message_id,
                    status=event.status,
                    milliseconds=round(event.duration_in_seconds * 1000, 1),
                    bytes=event.bytes,
                    failure=event.failure.error if event.failure else None,
                )
            )
