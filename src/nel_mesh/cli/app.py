"""The command `nel-mesh`: its commands, the options that they share, and what it does with a failure.

To add a command: write a function with typer annotations in a module of this package, and add a row to COMMANDS.

    def hello(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Whom to greet.")]) -> None:
        \"""Greets somebody.

        \b
        Example:
          nel-mesh hello world
        \"""
        session = session_of(ctx)
        session.out.result({"greeting": name}, f"Hello, {name}")

Its module is imported only when the command, or the list of all commands, is asked for; what takes long to import
(the client, pydantic, rich) is imported in the function. Errors are raised as they are: `run` tells them and chooses
the exit code. A command that has told its failure itself raises `typer.Exit(code)`, with a code of `exit_codes`. The
shared options (`--json` and so on) are added here; see `context.Session` for what a command can do with them.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nel_mesh.cli.session import Session

COMMANDS = {
    "init": "init:init",
    "check": "check:check",
    "config": "config:app",
    "csr": "csr:csr",
    "handshake": "handshake:handshake",
    "send": "sending:send",
    "track": "sending:track",
    "inbox": "receiving:inbox",
    "show": "receiving:show",
    "receive": "receiving:receive",
    "ack": "receiving:ack",
    "reports": "receiving:reports",
    "lookup": "lookup:lookup",
    "search": "lookup:search",
    "token": "token:token",
    "sandbox": "sandbox:app",
}
"""Each command by its name: the module of this package, and the function in it (or the typer app, for a group)."""


class Interrupted(Exception):
    """Ctrl-C; its text says what that means and how to go on. Raised in its place by commands that know."""


class PipeClosed(Exception):
    """Whoever was reading stdout has gone."""


_SHARED = set(Session.__dataclass_fields__)


class Commands(TyperGroup):
    """The commands of COMMANDS, each imported when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Keys are what a mistyped name is compared with.
        unread: Any = dict.fromkeys(COMMANDS)
        self.commands.update(unread)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command, with the shared options; None if there is none of that name."""
        if self.commands.get(cmd_name, ...) is None:
            self.commands[cmd_name] = self._load(cmd_name)
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for. What ends it from outside becomes an ordinary exception."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            notes = (note if note.endswith(".") else f"{note}." for note in getattr(interruption, "__notes__", ()))
            raise Interrupted(" ".join(["Interrupted.", *notes])) from None
        except BrokenPipeError:
            raise PipeClosed from None

    def _load(self, name: str) -> Any:
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(importlib.import_module(f"nel_mesh.cli.{module}"), attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            alone.command(name, no_args_is_help=False)(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = name
        shared = [parameter for parameter in self.params if parameter.name in _SHARED]
        for one in getattr(command, "commands", {"": command}).values():
            one.params += shared
        return command


def _note(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    """Keeps a shared option, which may stand before or after the command's name."""
    if value:
        setattr(ctx.ensure_object(Session), param.name or "", value)
    if value and param.name == "verbose":
        _log()


def _log() -> None:
    import logging

    logger = logging.getLogger("nel_mesh")
    if not any(type(handler) is logging.StreamHandler for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def _version(value: bool) -> None:
    if value:
        from nel_mesh._version import __version__

        typer.echo(f"nel-mesh {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _shared(*names: str, **more: Any) -> Any:
    return typer.Option(*names, callback=_note, expose_value=False, **more)


@app.callback()
def _nel_mesh(
    settings_file: Annotated[
        Path | None,
        _shared(
            "--settings",
            metavar="FILE",
            help="The settings file. Default: what MESH_SETTINGS names, else "
            "appsettings.Development.json or mesh.toml here, else mesh.toml in your configuration folder.",
        ),
    ] = None,
    profile: Annotated[
        str | None, _shared("--profile", metavar="NAME", help="Which profile in the settings file.")
    ] = None,
    json: Annotated[
        bool, _shared("--json", help="For scripts: one JSON object per line on stdout; errors as one on stderr.")
    ] = False,
    quiet: Annotated[bool, _shared("--quiet", "-q", help="Say nothing but results asked for, and errors.")] = False,
    verbose: Annotated[
        bool, _shared("--verbose", "-v", help="Log to stderr; without secrets or patient data.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Sends and receives files over NHS MESH.

    \b
    Examples:
      nel-mesh check
      nel-mesh send results.csv --to X26ABC2 --workflow-id PATH_RESULTS
      nel-mesh receive --into inbox
    """
