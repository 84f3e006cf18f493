"""The command `nel-mesh`: its commands, and the options that they share.

To add a command, write a function with typer annotations in a module of this package, and add a row to COMMANDS:

    def hello(ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="Whom to greet.")]) -> None:
        \"""Greet somebody.

        \b
        Example:
          nel-mesh hello world
        \"""
        session_of(ctx).out.result({"greeting": name}, f"Hello, {name}")

The module is imported only when the command, or the list of all commands, is asked for. Slow imports (the client,
pydantic, rich) belong into the function. Let errors through: `main.run` reports them and chooses the exit code. A
command that has reported its failure itself raises `typer.Exit(code)`, with a code of `exit_codes`. The shared options
(`--json` and so on) are added here; `session.Session` says what a command can do with them.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from nel_mesh.cli.session import Session

GROUPS = ("Set up", "Send", "Receive", "Unattended", "Look up", "Debug")
"""The groups in which `--help` lists the commands."""


class Entry(NamedTuple):
    """A row of COMMANDS.

    Attributes:
        group: one of GROUPS.
        place: the module of this package, and the function in it (or the typer app, for a group of commands).
        is_local: the command uses no settings and calls no server, so it has no `--settings`, `--profile`, `--verbose`.
    """

    group: str
    place: str
    is_local: bool = False


COMMANDS = {
    "init": Entry("Set up", "init:init", is_local=True),
    "csr": Entry("Set up", "csr:csr", is_local=True),
    "check": Entry("Set up", "check:check"),
    "config": Entry("Set up", "config:app"),
    "handshake": Entry("Set up", "mailboxes:handshake"),
    "witness": Entry("Set up", "witness:witness"),
    "send": Entry("Send", "sending:send"),
    "track": Entry("Send", "sending:track"),
    "inbox": Entry("Receive", "inbox:inbox"),
    "show": Entry("Receive", "inbox:show"),
    "receive": Entry("Receive", "receiving:receive"),
    "received": Entry("Receive", "receiving:received", is_local=True),
    "ack": Entry("Receive", "inbox:ack"),
    "reports": Entry("Receive", "inbox:reports"),
    "agent": Entry("Unattended", "agent:app", is_local=True),
    "lookup": Entry("Look up", "mailboxes:lookup"),
    "search": Entry("Look up", "mailboxes:search"),
    "token": Entry("Debug", "mailboxes:token"),
    "sandbox": Entry("Debug", "sandbox:app", is_local=True),
}
"""The commands by name, in the order of `--help`."""

_SHARED = tuple(Session.__dataclass_fields__)
_LOCAL = ("json", "quiet")


class Command(TyperCommand):
    """A command. Its help names arguments as the usage line does, and lists the shared options last."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        arguments = [one for one in self.params if one.param_type_name == "argument"]
        names = [(_metavar(one) if one.required else f"[{_metavar(one)}]") for one in arguments]
        return ["[OPTIONS]", *names]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the command's own options, and the shared ones."""
        _write_options(self, ctx, formatter)


class Group(TyperGroup):
    """A command that has commands. Alone it shows its help; `help` in front of a command shows that command's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments up to the command's name."""
        if not args or args[0] == "help":
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)


class Commands(Group):
    """The commands of COMMANDS, each imported when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # A mistyped name is compared with the keys.
        unread: Any = dict.fromkeys(COMMANDS)
        self.commands.update(unread)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, with the shared options; None for an unknown name."""
        if self.commands.get(cmd_name, ...) is None:
            self.commands[cmd_name] = self._load(cmd_name)
        return self.commands.get(cmd_name)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by group, then the options."""
        for group in GROUPS:
            names = [name for name, entry in COMMANDS.items() if entry.group == group]
            with formatter.section(group):
                rows = [(f"{name:9}", self.get_command(ctx, name).get_short_help_str(60)) for name in names]
                formatter.write_dl(rows)
        _write_options(self, ctx, formatter)

    def _load(self, name: str) -> Any:
        entry = COMMANDS[name]
        module, _, attribute = entry.place.partition(":")
        found = getattr(importlib.import_module(f"nel_mesh.cli.{module}"), attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            alone.command(name, cls=Command)(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = name
        names = _LOCAL if entry.is_local else _SHARED
        for one in getattr(command, "commands", {"": command}).values():
            one.params += [parameter for parameter in self.params if parameter.name in names]
        return command


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Shared options": []}
    for one in command.get_params(ctx):
        record = one.get_help_record(ctx)
        if record is not None and one.param_type_name == "argument":
            # Typer puts the Python type behind the name.
            sections["Arguments"].append((_metavar(one), record[1]))
        elif record is not None:
            sections["Shared options" if one.name in (*_SHARED, "help") else "Options"].append(record)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    """Keep the value of a shared option, which may stand before or after the command's name."""
    if value:
        setattr(ctx.ensure_object(Session), param.name or "", value)
    if value and param.name == "verbose":
        _log_to_stderr()


def _log_to_stderr() -> None:
    import logging

    from nel_mesh.cli.output import clean

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return clean(super().format(record), keep="\n")

    logger = logging.getLogger("nel_mesh")
    if not any(type(handler) is logging.StreamHandler for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def _version(value: bool) -> None:
    if value:
        from nel_mesh import __version__

        typer.echo(f"nel-mesh {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _shared(*names: str, **more: Any) -> Any:
    return typer.Option(*names, callback=_keep, expose_value=False, **more)


@app.callback()
def _nel_mesh(
    settings_file: Annotated[
        Path | None,
        _shared(
            "--settings",
            metavar="FILE",
            help="Settings file. Default: the file that MESH_SETTINGS names, else appsettings.Development.json or "
            "mesh.toml in this folder, else mesh.toml in your configuration folder.",
        ),
    ] = None,
    profile: Annotated[str | None, _shared("--profile", metavar="NAME", help="Profile in the settings file.")] = None,
    json: Annotated[
        bool, _shared("--json", help="Print one JSON object per line on stdout, and errors as one on stderr.")
    ] = False,
    quiet: Annotated[bool, _shared("--quiet", "-q", help="Print only bare results and errors.")] = False,
    verbose: Annotated[
        bool, _shared("--verbose", "-v", help="Log to stderr, without secrets or patient data.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Send and receive files over NHS MESH.

    \b
    Examples:
      nel-mesh check
      nel-mesh send results.csv --to X26ABC2 --workflow-id PATH_RESULTS
      nel-mesh receive --into inbox
      nel-mesh help receive
    """
