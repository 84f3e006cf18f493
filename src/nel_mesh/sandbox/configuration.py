"""What a sandbox is made of: its mailboxes, workflows, shared key, and where and how it listens."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nel_mesh.protocol.chunks import MAX_REQUEST_BYTES
from nel_mesh.sandbox.faults import Fault, as_faults

INBOX_LIFE = timedelta(days=5)
"""How long a message waits in an inbox (MESH API, "Message expiration")."""

UNCOLLECTED_LIFE = timedelta(days=30)
"""How long after its delivery a message that nobody collected is kept (MESH API, "Message expiration")."""

_MAILBOX_ID = re.compile(r"[A-Z0-9_-]{1,100}")


def utc_now() -> datetime:
    """The present time, with its time zone."""
    return datetime.now(UTC)


class MovableClock:
    """The present time of another clock, plus what it has been moved on by. Calling it gives the time.

    Args:
        base: the clock that it is ahead of, with its time zone.
    """

    def __init__(self, base: Callable[[], datetime]) -> None:
        self._base = base
        self._ahead = timedelta()
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        return self._base() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Moves the clock on. Raises ValueError for a time that is negative."""
        if by < timedelta():
            raise ValueError("by: a clock cannot be moved back")
        with self._lock:
            self._ahead += by

    def reset(self) -> None:
        """Puts it back to the clock that it is made from."""
        with self._lock:
            self._ahead = timedelta()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxMailbox:
    """A mailbox of the sandbox. The password is invented: never put a real one here.

    Args:
        mailbox_id: capital letters, digits, - and _, at most 100.
        password: what its tokens are made with.
        ods_code: the organisation that owns it, for `lookup_endpoint`.
        name: what look-ups and tracking show; the mailbox id if empty.

    Raises ValueError for a mailbox id in any other form.
    """

    mailbox_id: str
    password: str = dataclasses.field(default="password", repr=False)
    ods_code: str = "X26"
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.mailbox_id)
        if not _MAILBOX_ID.fullmatch(self.mailbox_id):
            raise ValueError(f"mailbox id {self.mailbox_id[:40]!r}: use 1 to 100 capital letters, digits, - or _")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """Who may send and receive under a workflow id. Where any is configured, no other workflow is allowed."""

    workflow_id: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]


DEFAULT_MAILBOXES = (
    SandboxMailbox(mailbox_id="X26ABC1", name="TESTMB1"),
    SandboxMailbox(mailbox_id="X26ABC2", name="TESTMB2"),
    SandboxMailbox(mailbox_id="X26ABC3", name="TESTMB3", ods_code="X27"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfiguration:
    """All that can be chosen about a sandbox; every default is usable.

    Args:
        mailboxes: who can send and receive.
        shared_key: the environment's shared secret, the same for all mailboxes.
        workflows: who may use which workflow; with none, anyone may use any.
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        tls: TLS with mutual authentication; False is plain HTTP.
        data_folder: an existing folder in which to keep bodies while it runs; None is the temporary folder.
        clock: the present time, with its time zone.
        inbox_life: how long a message waits to be acknowledged, more than none and at most 30 days.
        compress_downloads: gzip plain content for receivers that accept it, as MESH may.
        max_request_bytes: the most that one request may carry, on the wire.
        requests_remembered: how many of the last requests `Sandbox.requests` shows.
        faults: what is to go wrong, from the start and again after each `reset`.
    """

    mailboxes: Sequence[SandboxMailbox] = DEFAULT_MAILBOXES
    shared_key: str = dataclasses.field(default="TestKey", repr=False)
    workflows: Sequence[Workflow] = ()
    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = True
    data_folder: Path | str | None = None
    clock: Callable[[], datetime] = utc_now
    inbox_life: timedelta = INBOX_LIFE
    compress_downloads: bool = False
    max_request_bytes: int = MAX_REQUEST_BYTES
    requests_remembered: int = 2000
    faults: Sequence[Fault | str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "mailboxes", tuple(self.mailboxes))
        object.__setattr__(self, "workflows", tuple(self.workflows))
        object.__setattr__(self, "faults", as_faults(self.faults))
        ids = [mailbox.mailbox_id for mailbox in self.mailboxes]
        if not ids:
            raise ValueError("mailboxes: a sandbox needs at least one")
        if len(set(ids)) != len(ids):
            raise ValueError("mailboxes: the same mailbox id is there twice")
        if not timedelta() < self.inbox_life <= UNCOLLECTED_LIFE:
            raise ValueError("inbox_life: more than none and at most 30 days are needed")
