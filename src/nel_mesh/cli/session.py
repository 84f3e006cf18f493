"""One run of the command: the shared options, and what follows from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import typer

from nel_mesh.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from nel_mesh import MeshClient, MeshSettings
    from nel_mesh.cli.output import Output
    from nel_mesh.settings import SettingsKeywords

VARIABLE = "MESH_SETTINGS"
"""The environment variable that names the settings file."""

SIGNAL_WAIT_SECONDS = 0.25
"""How long the main thread of a server waits at a time: a signal that comes just before a wait does not end it."""

HERE = ("appsettings.Development.json", "mesh.toml")
"""Settings files that are looked for in the working directory."""

_OF_ONE_MESSAGE = (ExitCode.USAGE, ExitCode.NOT_FOUND, ExitCode.REFUSED, ExitCode.UNKNOWN, ExitCode.DAMAGED)
"""Failures that concern one message, and do not stop the others."""


@dataclasses.dataclass
class Session:
    """One run of the command. Commands get it by `session_of(ctx)`.

    Attributes:
        settings_file: the value of `--settings`.
        profile: the value of `--profile`.
        json: print one JSON object per line on stdout, errors as a JSON object on stderr, and nothing else.
        quiet: print nothing for people but errors.
        verbose: log to stderr.
    """

    settings_file: Path | None = None
    profile: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @cached_property
    def out(self) -> Output:
        """The output of results, notes and progress."""
        from nel_mesh.cli.output import Output

        return Output(json=self.json, quiet=self.quiet)

    def settings_path(self) -> Path | None:
        """The settings file: the option's, that of MESH_SETTINGS, or the first default that exists."""
        if self.settings_file is not None:
            return self.settings_file
        if named := os.environ.get(VARIABLE):
            return Path(named.strip())
        return next((path for path in default_paths() if path.is_file()), None)

    def load_settings(self, **keywords: Unpack[SettingsKeywords]) -> MeshSettings:
        """Load the settings from the file, if there is one, and the environment, which wins; keywords win over both.

        Raises ConfigurationError with every fault in them.
        """
        from nel_mesh import MeshSettings
        from nel_mesh.errors import ConfigurationError, SettingFault

        path = self.settings_path()
        if self.profile and path is None:
            message = f"there is none with the profile {self.profile}; name it with --settings FILE"
            raise ConfigurationError.of([SettingFault(None, "settings file", "missing", message)])
        if path is not None:
            return MeshSettings.from_file(path, profile=self.profile, **keywords)
        try:
            return MeshSettings(**keywords)
        except ConfigurationError as error:
            if all(fault.kind != "missing" for fault in error.faults):
                raise
            places = ", ".join(str(place) for place in default_paths())
            message = f"there is none ({places}); `nel-mesh init` creates one"
            raise ConfigurationError.of(
                [SettingFault(None, "settings file", "missing", message), *error.faults]
            ) from None

    def client(self) -> MeshClient:
        """A client for the mailbox of the settings, for a `with` block."""
        from nel_mesh import MeshClient
        from nel_mesh.cli.notices import notice_hook

        return MeshClient(self.load_settings(), hooks=[notice_hook(self.out, verbose=self.verbose)])

    def for_each(self, message_ids: Iterable[str], work: Callable[[str], object]) -> None:
        """Do the work for each message; a failure that concerns one message does not stop the others.

        Raises typer.Exit with the exit code of the first failure.
        """
        from nel_mesh.cli.failures import failure_of
        from nel_mesh.errors import MeshError

        code = ExitCode.OK
        for message_id in message_ids:
            try:
                work(message_id)
            except MeshError as error:
                failure = failure_of(error)
                if failure.code not in _OF_ONE_MESSAGE:
                    raise
                self.out.failure(failure.about(message_id))
                code = code or failure.code
        if code:
            raise typer.Exit(code)


def session_of(ctx: typer.Context) -> Session:
    """The session of this run."""
    session = ctx.find_object(Session)
    if session is None:
        raise RuntimeError("the command was called outside of the app")
    return session


def default_paths() -> list[Path]:
    """The default places of a settings file, in the order in which they are looked for."""
    user = user_settings_file()
    return [*(Path(name) for name in HERE), *([user] if user else [])]


def user_settings_file() -> Path | None:
    """The user's settings file for all working directories: `~/.config/nel-mesh/mesh.toml` on Linux.

    None for a user without a home folder.
    """
    folder = Path(typer.get_app_dir("nel-mesh"))
    return folder / "mesh.toml" if folder.is_absolute() else None


def transfers_folder() -> Path | None:
    """The default folder for records of unfinished sends; None for a user without a home folder."""
    try:
        if os.name == "nt":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
        else:
            base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        return None
    return base / "nel-mesh" / "transfers"
