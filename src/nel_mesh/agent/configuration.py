"""The agent's configuration file: its names, meanings and limits. Every fault is reported at once, with its line.

[mailboxes.X26ABC1]
settings = "x26abc1.toml"

[[mailboxes.X26ABC1.receive]]
into = "/srv/mesh/in"

[[mailboxes.X26ABC1.send]]
from = "/srv/mesh/out"
to = "X26ABC2"
workflow_id = "PATH_RESULTS"
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from nel_mesh.agent.console_options import ConsoleOptions, OpenIdOptions
from nel_mesh.agent.templates import NameTemplate
from nel_mesh.destinations.urls import folder_of, with_sidecar
from nel_mesh.errors import ConfigurationError, InvalidArgument, SettingFault
from nel_mesh.settings import MeshSettings, is_loopback

JAVA = "java:"
"""What a place begins with that is the incoming folder of the Java client: pairs of `.dat` and `.ctl`."""

POLL_INTERVAL_IN_MINUTES = 5
"""MESH's rule: a mailbox is polled at most every five minutes. A server on this machine may be asked more often."""


def _as_list(value: object) -> object:
    return value if isinstance(value, (list, tuple)) or value is None else [value]


_SAFE_URL = re.compile(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]")


Contact = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Whom to call: a name, a number, an address, in one line. It is shown at what is wrong."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Hook(_Table):
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


class ReceiveRoute(_Table):
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


class SendRoute(_Table):
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


class Mailbox(_Table):
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


class Defaults(_Table):
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


class Options(_Table):
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


class _File(_Table):
    agent: Options = Options()
    console: ConsoleOptions = ConsoleOptions()
    defaults: Defaults = Defaults()
    contacts: dict[str, Contact] = {}
    mailboxes: dict[str, Mailbox] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class MailboxPlan:
    """A mailbox of the configuration, ready to be worked on.

    Attributes:
        mailbox_id: its id, in upper case.
        options: what the file says of it.
        settings: its settings, loaded.
        poll_interval_in_seconds: how often its inbox is looked at.
    """

    mailbox_id: str
    options: Mailbox
    settings: MeshSettings
    poll_interval_in_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class AgentConfiguration:
    """A configuration that has no fault.

    Attributes:
        path: its file.
        agent: the agent itself.
        defaults: what holds for every mailbox.
        mailboxes: each by its id.
        signal_file: a file by which the agent is told to stop, as the Java client is; None without.
        console: how the console is reached.
        contacts: whom to call about others' mailboxes and about destinations, each by its id or place.
    """

    path: Path
    agent: Options
    defaults: Defaults
    mailboxes: Mapping[str, MailboxPlan]
    signal_file: Path | None = None
    console: ConsoleOptions = dataclasses.field(default_factory=ConsoleOptions)
    contacts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The folder of the ledger."""
        return self.path.parent / self.agent.data

    @property
    def is_fleet(self) -> bool:
        """Whether the ledger is shared by the agents of several machines."""
        return self.agent.ledger is not None

    @property
    def locks(self) -> tuple[Path, ...]:
        """The files that one agent alone locks: its ledger's, and those of folders that another could work on."""
        pairs = [one.folder for plan in self.mailboxes.values() for one in plan.options.send if one.layout == "ctl"]
        return (self.data / "agent.lock", *(folder / ".nel-mesh-agent.lock" for folder in pairs))


def load(path: Path) -> AgentConfiguration:
    """Read and check a configuration file, and the settings files that it names.

    Raises:
        ConfigurationError: it has faults; each is listed with its line, and with what to do.
    """
    return parse(read_text(path), path)


def document_of(text: str, where: str) -> dict[str, Any]:
    """Read TOML. Raises ConfigurationError, which says the place after `where`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)$", str(error))
        where = f"{where}, {place[1]}" if place else where
        message = "not valid TOML: texts need quotation marks, and each table is there once"
        raise ConfigurationError.of([SettingFault(None, where, "unreadable", message)]) from None


def parse(
    text: str, path: Path, *, label: str | None = None, own: Mapping[str, Any] | None = None
) -> AgentConfiguration:
    """Check the text of a configuration, and the settings files that it names.

    Args:
        text: the text, in TOML.
        path: the file of the machine: other paths begin at its folder.
        label: what faults call the text; None: the file.
        own: tables of the machine's own file, in place of those of the text.

    Raises:
        ConfigurationError: as `load`.
    """
    document = document_of(text, label or str(path))
    lines = Lines(label or path.name, text)
    faults: list[SettingFault] = []
    try:
        found = _File.model_validate({**document, **(own or {})})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise ConfigurationError.of([_fault(one, lines) for one in details]) from None
    if not found.mailboxes and (label is not None or found.agent.ledger is None):
        faults.append(SettingFault(None, lines.at(("mailboxes",)), "missing", "there is no mailbox"))
    plans = {}
    for name, options in found.mailboxes.items():
        plan = _plan(name, options, found.defaults, path, lines, faults)
        if plan is not None and plan.mailbox_id in plans:
            faults.append(SettingFault(None, lines.at(("mailboxes", name)), "invalid", "this mailbox is there twice"))
        elif plan is not None:
            plans[plan.mailbox_id] = plan
    _check_folders(plans.values(), lines, faults)
    if faults:
        raise ConfigurationError.of(faults)
    console = found.console.absolute(path.parent)
    return AgentConfiguration(path, found.agent, found.defaults, plans, console=console, contacts=found.contacts)


def read_text(path: Path) -> str:
    """Read a configuration file. Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problem = "there is no such file; `nel-mesh agent init` writes one"
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text; save it as UTF-8"
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
    raise ConfigurationError.of([SettingFault(None, str(path), "unreadable", problem)])


def _plan(
    name: str, options: Mailbox, defaults: Defaults, path: Path, lines: Lines, faults: list[SettingFault]
) -> MailboxPlan | None:
    """Load the settings of a mailbox, and check what goes beyond one table."""
    try:
        if isinstance(options.settings, Path):
            settings = MeshSettings.from_file(path.parent / options.settings, profile=options.profile)
        else:
            settings = MeshSettings(**{"mailbox_id": name, **options.settings})
    except ConfigurationError as error:
        where = lines.at(("mailboxes", name, "settings"))
        faults += [
            dataclasses.replace(fault, source=f"{where}: {fault.source}" if fault.source else where)
            for fault in error.faults
        ]
        return None
    if settings.mailbox_id != name.upper():
        message = f"they are of mailbox {settings.mailbox_id}, not of {name}; name the settings of this mailbox"
        faults.append(SettingFault(None, lines.at(("mailboxes", name, "settings")), "invalid", message))
    for number, route in enumerate(options.receive):
        if route.keep_for_days is not None and route.keep_for_days >= defaults.keep_events_for_days:
            where = lines.at(("mailboxes", name, "receive", number, "keep_for_days"))
            message = (
                "give less than keep_events_for_days: after that the agent no longer knows which files are its own"
            )
            faults.append(SettingFault(None, where, "invalid", message))
    options = _absolute(options, path.parent)
    minutes = options.poll_interval_in_minutes or defaults.poll_interval_in_minutes
    host = re.sub(r"^https?://|[:/]\d*$", "", settings.url).strip("[]")
    if minutes < POLL_INTERVAL_IN_MINUTES and not is_loopback(host.split(":")[0] if "]" not in host else host):
        key = ("mailboxes", name) if options.poll_interval_in_minutes else ("defaults",)
        where = lines.at((*key, "poll_interval_in_minutes"))
        message = "MESH asks not to be polled more than every 5 minutes; give 5 or more"
        faults.append(SettingFault(None, where, "invalid", message))
    return MailboxPlan(settings.mailbox_id, options, settings, minutes * 60)


def _absolute(options: Mailbox, folder: Path) -> Mailbox:
    """Return the options with each path from the folder of the file."""
    receive = tuple(
        route.model_copy(
            update={"into": tuple(_absolute_place(one, folder, sidecar=route.sidecar) for one in route.into)}
            | _absolute_hooks(route, folder)
        )
        for route in options.receive
    )
    send = tuple(
        route.model_copy(
            update={
                name: folder / getattr(route, name)
                for name in ("folder", "archive", "failed", "reports")
                if getattr(route, name) is not None
            }
            | _absolute_hooks(route, folder)
        )
        for route in options.send
    )
    return options.model_copy(update={"receive": receive, "send": send})


def _absolute_place(place: str, folder: Path, *, sidecar: bool) -> str:
    if "://" not in place:
        prefix = JAVA if place.startswith(JAVA) else ""
        place = f"{prefix}{folder / place.removeprefix(prefix)}"
    # In the place itself, as that is what the ledger keeps of a message that is under way.
    return with_sidecar(place) if sidecar else place


def received_into(place: str) -> Path | None:
    """Return the folder on this machine that a place of a route is; None if it is a store elsewhere."""
    return folder_of(place.removeprefix(JAVA))


def _absolute_hooks(route: ReceiveRoute | SendRoute, folder: Path) -> dict[str, tuple[Hook, ...]]:
    hooks: dict[str, tuple[Hook, ...]] = {
        name: getattr(route, name) for name in type(route).model_fields if name.startswith("on_")
    }
    return {
        name: tuple(
            hook.model_copy(update={"secret_file": folder / hook.secret_file}) if hook.secret_file else hook
            for hook in given
        )
        for name, given in hooks.items()
    }


def _check_folders(plans: Iterable[MailboxPlan], lines: Lines, faults: list[SettingFault]) -> None:
    """No folder is sent from twice, and nothing is received into a folder that is sent from."""
    outgoing: dict[Path, str] = {}
    for plan in plans:
        for number, route in enumerate(plan.options.send):
            where = lines.at(("mailboxes", plan.mailbox_id, "send", number, "from"))
            folder = route.folder.absolute()
            if folder in outgoing:
                message = f"this folder is sent from already ({outgoing[folder]}); give each its own"
                faults.append(SettingFault(None, where, "invalid", message))
            outgoing[folder] = where
            for name in ("archive", "failed"):
                other = getattr(route, name)
                if other is not None and other.absolute() == folder:
                    message = f"`{name}` is the outgoing folder itself; what is moved there would be sent again"
                    faults.append(SettingFault(None, where, "invalid", message))
    for plan in plans:
        for number, incoming in enumerate(plan.options.receive):
            for place in incoming.into:
                into = received_into(place)
                if into is not None and into.absolute() in outgoing:
                    where = lines.at(("mailboxes", plan.mailbox_id, "receive", number, "into"))
                    message = "this is an outgoing folder; what is received there would be sent"
                    faults.append(SettingFault(None, where, "invalid", message))


_TABLES: Mapping[str, type[BaseModel]] = {
    "": _File,
    "agent": Options,
    "console": ConsoleOptions,
    "openid": OpenIdOptions,
    "defaults": Defaults,
    "mailboxes": Mailbox,
    "receive": ReceiveRoute,
    "send": SendRoute,
}


def _fault(detail: ErrorDetails, lines: Lines) -> SettingFault:
    """Say what pydantic found, in words for the author of the file."""
    place = tuple(part for part in detail["loc"] if part not in ("path", "dict[str,any]"))
    where = lines.at(place)
    match detail["type"]:
        case "extra_forbidden":
            table = next((_TABLES[str(part)] for part in reversed(place[:-1]) if str(part) in _TABLES), _File)
            known = [field.alias or name for name, field in table.model_fields.items()]
            like = difflib.get_close_matches(str(place[-1]), known, 1)
            advice = f"did you mean {like[0]}?" if like else f"known here are {', '.join(known)}"
            return SettingFault(None, where, "unknown_name", f"there is no such setting; {advice}")
        case "missing":
            return SettingFault(None, where, "missing", "it is missing")
        case "value_error":
            return SettingFault(None, where, "invalid", detail["msg"].removeprefix("Value error, "))
        case _:
            return SettingFault(None, where, "invalid", detail["msg"][:1].lower() + detail["msg"][1:])


class Lines:
    """Finds the line of a key, as `tomllib` does not say it.

    Args:
        label: what the text is called.
        text: the text.
    """

    _TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
    _KEY = re.compile(r"""^\s*("[^"]*"|'[^']*'|[\w.-]+)\s*=""")

    def __init__(self, label: str, text: str) -> None:
        self._label = label
        self._found: dict[tuple[str | int, ...], int] = {}
        table: tuple[str | int, ...] = ()
        counts: dict[tuple[str | int, ...], int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if header := self._TABLE.match(line):
                names = [part.strip().strip("\"'") for part in header[2].split(".")]
                table = ()
                for name in names:
                    table = (*table, name)
                    if table in counts and name != names[-1]:
                        table = (*table, counts[table])
                if header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                self._found.setdefault(table, number)
            elif key := self._KEY.match(line):
                self._found.setdefault((*table, *(part.strip("\"'") for part in key[1].split("."))), number)

    def at(self, place: tuple[str | int, ...]) -> str:
        """Return the place of a key, by its names from the top; of what has no line, that of its table."""
        name = ".".join(str(part) for part in place if not isinstance(part, int))
        wanted = [str(part).casefold() for part in place]
        for length in range(len(place), 0, -1):
            for found, number in self._found.items():
                if [str(part).casefold() for part in found[:length]] == wanted[:length]:
                    return f"`{name}` in {self._label}, line {number}"
        return f"`{name}` in {self._label}"
