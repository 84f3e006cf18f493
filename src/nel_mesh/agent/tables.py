"""The tables of the agent's configuration file: the names, meanings and limits of what stands in each."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from nel_mesh.agent.templates import NameTemplate
from nel_mesh.destinations.urls import folder_of
from nel_mesh.errors import InvalidArgument

JAVA = "java:"
"""What a place begins with that is the incoming folder of the Java client: pairs of `.dat` and `.ctl`."""

POLL_INTERVAL_IN_MINUTES = 5
"""MESH's rule: a mailbox is polled at most every five minutes. A server on this machine may be asked more often."""


def received_into(place: str) -> Path | None:
    """Return the folder on this machine that a place of a route is; None if it is a store elsewhere."""
    return folder_of(place.removeprefix(JAVA))


def _as_list(value: object) -> object:
    return value if isinstance(value, (list, tuple)) or value is None else [value]


_SAFE_URL = re.compile(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]")


Contact = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Whom to call: a name, a number, an address, in one line. It is shown at what is wrong."""


class Table(BaseModel):
    """A table of the file: an unknown name in it is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Hook(Table):
    """Somebody to be told: a web address, or a command.

    Attributes:
        url: where a signed request is sent, `https:` or on this machine.
        secret_file: a file with the secret of the signature.
        command: a program with its arguments. What happened is in its environment and, as JSON, on its input.
        timeout_in_seconds: how long it may take.
    """

    url: str | None = None
    secret_file: Path | None = None
    command: tuple[str, ...] | None = None
    timeout_in_seconds: Annotated[float, Field(gt=0, le=600)] = 30

    @model_validator(mode="after")
    def _is_one(self) -> Hook:
        if (self.url is None) == (self.command is None):
            raise ValueError("a hook has either a url or a command")
        if self.url is not None and self.secret_file is None:
            raise ValueError("a hook with a url needs secret_file, the file with the secret that signs its requests")
        if self.url is not None and not _SAFE_URL.match(self.url):
            raise ValueError("the url must begin with https://, or be on this machine")
        if self.command is not None and not self.command:
            raise ValueError("the command is empty")
        return self

    @property
    def digest(self) -> str:
        """Name the hook without its address, which can hold a secret."""
        return hashlib.sha256(f"{self.url}\0{self.command}".encode()).hexdigest()[:32]


Hooks = Annotated[tuple[Hook, ...], BeforeValidator(_as_list)]


class ReceiveRoute(Table):
    """Where incoming messages go. Routes are tried in order; the first that fits takes the message.

    Attributes:
        workflow_id: which workflow ids, such as `PATH_*`; default: all.
        sender: which senders' mailbox ids; default: all.
        recipient: which recipients, where a message was sent to another address of the mailbox; default: all.
        type: `data` or `report`; default: both.
        into: the folders or URLs that all get the message, each by itself.
        sidecar: also store its metadata, as JSON, under its name with `.json` added.
        budget_in_megabytes: how much may lie in each of its folders; beyond it, messages wait in the inbox.
        keep_for_days: how long received files are kept in its folders; default: for ever.
        on_stored: hooks that are called once a message is stored everywhere.
        on_quarantined: hooks that are called once a message is given up.
        contact: whom to call about its messages; default: the mailbox's.
    """

    workflow_id: str = "*"
    sender: str = "*"
    recipient: str = Field(default="*", repr=False)
    type: Literal["data", "report"] | None = None
    into: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
    sidecar: bool = False
    budget_in_megabytes: Annotated[float, Field(gt=0)] | None = None
    keep_for_days: Annotated[float, Field(gt=0)] | None = None
    on_stored: Hooks = ()
    on_quarantined: Hooks = ()
    contact: Contact | None = None

    @model_validator(mode="after")
    def _has_sidecars(self) -> ReceiveRoute:
        if self.sidecar and any(place.startswith(JAVA) for place in self.into):
            raise ValueError(f"there is no sidecar in a `{JAVA}` folder: its `.ctl` files say the same")
        for name in ("budget_in_megabytes", "keep_for_days"):
            if getattr(self, name) is not None and all(received_into(place) is None for place in self.into):
                raise ValueError(f"{name} is for folders; a store has rules of its own (lifecycle, quota)")
        return self

    @property
    def is_for_all(self) -> bool:
        """Whether it takes every message, so that none has to be looked at before."""
        return (self.workflow_id, self.sender, self.recipient, self.type) == ("*", "*", "*", None)


class SendRoute(Table):
    """An outgoing folder: what is put there is sent.

    Attributes:
        folder: the folder (`from` in the file).
        to: the recipient's mailbox id.
        workflow_id: the workflow id.
        subject: the subject.
        partner_id: the partner id.
        content_type: the media type.
        name: a template that file names follow, such as `{to}__{workflow_id}__{file_name}`; what is in braces is taken
            from the name.
        layout: `file`: each file is a message; `sidecar`: it is sent when `NAME.json` is beside it, with recipient and
            the rest; `ctl`: pairs of `.dat` and `.ctl`, as the Java client takes them.
        compress: gzip in transit.
        settle_in_seconds: how long a file must have been unchanged before it is taken.
        shared: in a fleet: every machine reaches the same folder at this path, so any of them sends what is there.
            Default: the folder is each machine's own.
        archive: where sent files go; default: the folder `sent` in it.
        failed: where refused files go; default: the folder `failed` in it.
        archive_for_days: how long sent files are kept; default: for ever.
        keep_sent: of `ctl`: whether sent pairs are kept at all.
        reports: of `ctl`: the folder of reports about the pairs, the Java client's `IN`; default: none are written.
        collect_report: of `ctl`: report that a pair was taken.
        transfer_report: of `ctl`: report that MESH has it.
        delay_report: of `ctl`: report each attempt that failed.
        poll_report: of `ctl`: report each look into the inbox.
        on_sent: hooks that are called once MESH has a message.
        on_collected: hooks that are called once the recipient has it.
        on_undelivered: hooks that are called once MESH has given it up, or it was refused.
        contact: whom to call about its messages, as a rule who puts the files there; default: the mailbox's.
    """

    folder: Path = Field(alias="from")
    to: str | None = Field(default=None, repr=False)
    workflow_id: str | None = None
    subject: str | None = Field(default=None, repr=False)
    partner_id: str | None = Field(default=None, repr=False)
    content_type: str | None = None
    name: str | None = None
    layout: Literal["file", "sidecar", "ctl"] = "file"
    compress: bool = False
    settle_in_seconds: Annotated[float, Field(ge=0, le=86400)] = 2
    shared: bool = False
    archive: Path | None = None
    failed: Path | None = None
    archive_for_days: Annotated[float, Field(gt=0)] | None = None
    keep_sent: bool = True
    reports: Path | None = None
    collect_report: bool = True
    transfer_report: bool = False
    delay_report: bool = False
    poll_report: bool = False
    on_sent: Hooks = ()
    on_collected: Hooks = ()
    on_undelivered: Hooks = ()
    contact: Contact | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> SendRoute:
        fields: frozenset[str] = frozenset()
        if self.name is not None:
            try:
                fields = NameTemplate(self.name).fields
            except InvalidArgument as error:
                raise ValueError(error.reason) from None
        if self.shared and self.layout == "ctl":
            raise ValueError("pairs of .dat and .ctl are one machine's: leave `shared` out")
        if self.layout == "file":
            for needed in ("to", "workflow_id"):
                if getattr(self, needed) is None and needed not in fields:
                    raise ValueError(f"{needed} is missing: give it, or a `name` template with {{{needed}}}")
        return self

    @property
    def archive_folder(self) -> Path:
        """Where sent files go."""
        return self.archive or self.folder / "sent"

    @property
    def failed_folder(self) -> Path:
        """Where refused files go."""
        return self.failed or self.folder / "failed"


class Mailbox(Table):
    """A mailbox, and what is done with its messages.

    Attributes:
        settings: its settings file, as for every other command, or the settings themselves.
        profile: the profile in the settings file.
        receive: routes of incoming messages. None: it is not emptied.
        send: its outgoing folders.
        poll_interval_in_minutes: how often the inbox is looked at; default: that of `[defaults]`.
        shadow: look, and compare, beside another client: nothing is stored, acknowledged or sent.
        contact: whom to call about it, such as `Results team, 01632 960001, results@example.org`.
    """

    settings: Path | dict[str, Any] = Field(repr=False)
    profile: str | None = None
    receive: tuple[ReceiveRoute, ...] = ()
    send: tuple[SendRoute, ...] = ()
    poll_interval_in_minutes: Annotated[float, Field(gt=0, le=1440)] | None = None
    shadow: bool = False
    contact: Contact | None = None


class Defaults(Table):
    """What holds for every mailbox that says nothing else.

    Attributes:
        poll_interval_in_minutes: how often an inbox is looked at; 5 or more, at once again while it is not empty.
        quarantine_after_attempts: how often a message may fail for its own sake before it is left alone.
        messages_at_once: how many messages of a mailbox are received at the same time.
        retry_initial_delay_in_seconds: the wait after a message's first failed attempt; it doubles from there.
        retry_max_delay_in_seconds: no wait is longer.
        track_first_after_in_minutes: when the status of a sent message is first asked for; the wait doubles from there.
        track_at_least_every_in_hours: no wait is longer.
        keep_events_for_days: how long messages that have ended, and events, are kept in the ledger.
    """

    poll_interval_in_minutes: Annotated[float, Field(gt=0, le=1440)] = POLL_INTERVAL_IN_MINUTES
    quarantine_after_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    messages_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    retry_initial_delay_in_seconds: Annotated[float, Field(gt=0)] = 30
    retry_max_delay_in_seconds: Annotated[float, Field(gt=0)] = 3600
    track_first_after_in_minutes: Annotated[float, Field(gt=0)] = 10
    track_at_least_every_in_hours: Annotated[float, Field(gt=0)] = 6
    keep_events_for_days: Annotated[float, Field(ge=1)] = 365


class Options(Table):
    """The agent itself.

    Attributes:
        data: the folder of the ledger; default: `nel-mesh-agent` beside the configuration file.
        ledger: a database's URL in place of that folder's file, such as `postgresql://mesh@db.example.org/mesh`: all
            agents with the same one are a fleet. The password stands better in PGPASSWORD, `~/.pgpass` or a file.
        ledger_password_file: a file with the password of that database.
        node: what a fleet calls this machine; default: its host name.
        health: address and port of `/livez`, `/readyz` and `/metrics`; default: none.
        console: address and port of the console; default: none.
        workers: how many mailboxes are worked on at the same time.
        disk_reserve_in_megabytes: how much must stay free on a disk that messages are stored on.
        alive_url: a URL that is called after each good round: a dead man's switch.
        stop_within_in_seconds: how long what is under way may go on when the agent is told to stop.
    """

    data: Path = Path("nel-mesh-agent")
    ledger: str | None = Field(default=None, repr=False)
    ledger_password_file: Path | None = None
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")] | None = None
    health: str | None = None
    console: str | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 8
    disk_reserve_in_megabytes: Annotated[float, Field(ge=0)] = 500
    alive_url: str | None = Field(default=None, repr=False)
    stop_within_in_seconds: Annotated[float, Field(ge=0, le=3600)] = 25

    @field_validator("health", "console")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(\S+):(\d{1,5})", value):
            raise ValueError("expected an address and a port, such as 127.0.0.1:8480")
        return value

    @field_validator("ledger")
    @classmethod
    def _is_ledger(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("expected a URL such as postgresql://mesh@db.example.org/mesh")
        return value

    @field_validator("alive_url")
    @classmethod
    def _is_safe(cls, value: str | None) -> str | None:
        if value is not None and not _SAFE_URL.match(value):
            raise ValueError("the url must begin with https://, or be on this machine")
        return value
