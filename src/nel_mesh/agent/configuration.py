"""The agent's configuration file, read and checked. Every fault is reported at once, with its line.

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
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from nel_mesh.agent.console_options import ConsoleOptions, OpenIdOptions
from nel_mesh.agent.tables import (
    JAVA,
    POLL_INTERVAL_IN_MINUTES,
    Contact,
    Defaults,
    Hook,
    Mailbox,
    Options,
    ReceiveRoute,
    SendRoute,
    Table,
    received_into,
)
from nel_mesh.destinations.urls import with_sidecar
from nel_mesh.errors import ConfigurationError, SettingFault
from nel_mesh.settings import MeshSettings, is_loopback


class _File(Table):
    agent: Options = Options()
    console: ConsoleOptions = ConsoleOptions()
    defaults: Defaults = Defaults()
    contacts: dict[str, Contact] = Field(default_factory=dict)
    mailboxes: dict[str, Mailbox] = Field(default_factory=dict)


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
