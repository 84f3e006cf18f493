"""Configuration of a sandbox: mailboxes, workflows, shared key, address and leniencies."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from nel_mesh.protocol.chunks import MAX_REQUEST_BYTES
from nel_mesh.sandbox.faults import Fault, as_faults

INBOX_LIFE = timedelta(days=5)
"""How long a message stays in an inbox (MESH API, "Message expiration")."""

UNCOLLECTED_LIFE = timedelta(days=30)
"""How long a message that nobody acknowledged is kept after delivery (MESH API, "Message expiration")."""

DEFAULT_WORKFLOW_ID: Final = "SANDBOX_TEST"
"""The workflow id of a message that is put into an inbox without one."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAILBOX_ID = re.compile(r"[A-Z0-9_-]{1,100}")


def utc_now() -> datetime:
    """Return the current time, with its time zone."""
    return datetime.now(UTC)


class MovableClock:
    """A clock that can be moved forward. Call it for the time.

    Args:
        base: returns the time, with its time zone, to which the movement is added.
    """

    def __init__(self, base: Callable[[], datetime]) -> None:
        self._base = base
        self._ahead = timedelta()
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        return self._base() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move the clock forward. Raises ValueError for a negative time."""
        if by < timedelta():
            raise ValueError("by: a clock cannot be moved back")
        with self._lock:
            self._ahead += by

    def reset(self) -> None:
        """Move the clock back to its base."""
        with self._lock:
            self._ahead = timedelta()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxMailbox:
    """A mailbox of the sandbox. Invent the password: never put a real one here.

    Args:
        mailbox_id: capital letters, digits, - and _, at most 100.
        password: the password of its tokens.
        ods_code: the organisation that owns it, for `lookup_endpoint`.
        name: the name in look-ups and tracking; the mailbox id if empty.
        billing_entity: the nation that pays for it, as the control operations show it.

    Raises ValueError for a mailbox id in any other form.
    """

    mailbox_id: str
    password: str = dataclasses.field(default="password", repr=False)
    ods_code: str = "X26"
    name: str = ""
    billing_entity: str = "England"

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.mailbox_id)
        if not _MAILBOX_ID.fullmatch(self.mailbox_id):
            raise ValueError(f"mailbox id {self.mailbox_id[:40]!r}: use 1 to 100 capital letters, digits, - or _")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow: who may send and receive with its id.

    If any is configured, no other workflow id is accepted; see `SandboxConfiguration.enforce_workflows`.
    """

    workflow_id: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]


DEFAULT_MAILBOXES = (
    SandboxMailbox(mailbox_id="X26ABC1", name="TESTMB1"),
    SandboxMailbox(mailbox_id="X26ABC2", name="TESTMB2"),
    SandboxMailbox(mailbox_id="X26ABC3", name="TESTMB3", ods_code="X27"),
)


COMPATIBLE: Final[Mapping[str, bool]] = {
    "client_certificates": False,
    "enforce_workflows": False,
    "handshake_by_get": True,
    "control": True,
    "ids_in_any_case": True,
    "acknowledged_readable": True,
    "rich_lists": True,
    "update_check": True,
    "compress_downloads": True,
}
"""What `SandboxConfiguration.compatible` sets, as the official sandbox has it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfiguration:
    """The configuration of a sandbox. Every default is usable.

    Args:
        mailboxes: the mailboxes that can send and receive.
        shared_key: the environment's shared key, the same for all mailboxes.
        workflows: the workflows and their users; if there are none, any mailbox may use any workflow id.
        enforce_workflows: refuse messages of other workflows and users; False uses `workflows` for look-ups only.
        report_unregistered_recipients: deliver a report to the sender after a message to an unknown mailbox was
            refused (417, code 12), as the live service seems to do.
        handshake_by_get: accept a handshake by GET, which some clients use; MESH documents POST.
        control: serve the control operations below `/admin`, and `/health`, without a token, to this machine only.
        control_from: further networks whose clients get the control operations, such as `172.16.0.0/12`.
        ids_in_any_case: accept mailbox ids and message ids in lower case too, in paths and tokens.
        acknowledged_readable: serve a message again after its acknowledgement.
        rich_lists: serve `inbox/rich` and `outbox/rich`, which the MESH API does not document.
        update_check: answer the Java client's `POST /messageexchange/<mailbox id>/update`.
        compatible: behave as the official sandbox wherever an argument here can: sets `enforce_workflows` and
            `client_certificates` to False, and `handshake_by_get`, `control`, `ids_in_any_case`,
            `acknowledged_readable`, `rich_lists`, `update_check` and `compress_downloads` to True.
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        tls: TLS with mutual authentication; False is plain HTTP.
        client_certificates: require a client certificate; False is TLS for clients without one too.
        server_names: further names and addresses for the server's certificate, such as a container's.
        data_folder: a folder that keeps messages and certificates over a restart, for one sandbox at a time; None
            keeps nothing.
        clock: returns the current time, with its time zone.
        inbox_life: how long a message stays in an inbox, up to 30 days.
        compress_downloads: gzip plain content for receivers that accept it, as MESH may.
        max_request_bytes: the maximum size of a request's body, on the wire.
        requests_remembered: how many of the last requests `Sandbox.requests` returns, if their headers are not long.
        faults: faults to inject, from the start and again after each `reset`; each a Fault or its text form.
    """

    mailboxes: Sequence[SandboxMailbox] = DEFAULT_MAILBOXES
    shared_key: str = dataclasses.field(default="TestKey", repr=False)
    workflows: Sequence[Workflow] = ()
    enforce_workflows: bool = True
    report_unregistered_recipients: bool = False
    handshake_by_get: bool = False
    control: bool = False
    control_from: Sequence[str] = ()
    ids_in_any_case: bool = False
    acknowledged_readable: bool = False
    rich_lists: bool = False
    update_check: bool = False
    compatible: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = True
    client_certificates: bool = True
    server_names: Sequence[str] = ()
    data_folder: Path | str | None = None
    clock: Callable[[], datetime] = utc_now
    inbox_life: timedelta = INBOX_LIFE
    compress_downloads: bool = False
    max_request_bytes: int = MAX_REQUEST_BYTES
    requests_remembered: int = 2000
    faults: Sequence[Fault | str] = ()

    def __post_init__(self) -> None:
        if self.compatible:
            for name, value in COMPATIBLE.items():
                object.__setattr__(self, name, value)
        object.__setattr__(self, "mailboxes", tuple(self.mailboxes))
        object.__setattr__(self, "workflows", tuple(self.workflows))
        object.__setattr__(self, "faults", as_faults(self.faults))
        object.__setattr__(self, "control_from", tuple(self.control_from))
        if self.control_networks() and not self.control:
            raise ValueError("control_from: it needs control")
        ids = [mailbox.mailbox_id for mailbox in self.mailboxes]
        if not ids:
            raise ValueError("mailboxes: a sandbox needs at least one")
        if len(set(ids)) != len(ids):
            raise ValueError("mailboxes: the same mailbox id is there twice")
        if not timedelta() < self.inbox_life <= UNCOLLECTED_LIFE:
            raise ValueError("inbox_life: use more than 0 seconds and at most 30 days")

    def leniencies(self) -> dict[str, bool]:
        """Return the arguments that `compatible` sets and that are set so, with their values."""
        return {name: lenient for name, lenient in COMPATIBLE.items() if getattr(self, name) is lenient}

    def control_networks(self) -> tuple[Network, ...]:
        """The networks of `control_from`. Raises ValueError for a text that is none."""
        networks = []
        for text in self.control_from:
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise ValueError(f"control_from: {text!r:.60} is no address or network") from None
        return tuple(networks)


def read_mailboxes(path: Path | str) -> tuple[SandboxMailbox, ...]:
    """Read mailboxes from a file with a JSON object on each line, the official sandbox's `mailboxes.jsonl`.

    `mailbox_id` is needed; `password`, `ods_code`, `mailbox_name` and `billing_entity` are read; other fields are not.

    Raises ValueError, with the line, for anything else, and OSError if the file cannot be read.
    """
    names = {"password": "password", "ods_code": "ods_code", "mailbox_name": "name", "billing_entity": "billing_entity"}
    found = []
    for place, line in _lines(path):
        try:
            given = {name: str(line[field]) for field, name in names.items() if line.get(field)}
            found.append(SandboxMailbox(mailbox_id=str(line["mailbox_id"]), **given))
        except KeyError:
            raise ValueError(f'{place}: "mailbox_id" is missing') from None
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    return tuple(found)


def read_workflows(path: Path | str) -> tuple[Workflow, ...]:
    """Read workflows from a file with a JSON object on each line, the official sandbox's `workflows.jsonl`.

    Each line has `workflow_id`, `senders` and `receivers`, lists of mailbox ids.

    Raises ValueError, with the line, for anything else, and OSError if the file cannot be read.
    """
    found = []
    for place, line in _lines(path):
        lists = line.get("senders"), line.get("receivers")
        if not isinstance(line.get("workflow_id"), str) or not all(isinstance(one, list) for one in lists):
            raise ValueError(f'{place}: "workflow_id", "senders" and "receivers" are needed, the last two as lists')
        senders, receivers = (tuple(map(str, one or ())) for one in lists)
        found.append(Workflow(workflow_id=line["workflow_id"], senders=senders, receivers=receivers))
    return tuple(found)


def _lines(path: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, text in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        place = f"{path} line {number}"
        try:
            line = dict(json.loads(text))
        except (ValueError, TypeError):
            raise ValueError(f"{place}: it is not a JSON object") from None
        yield place, line
