"""What every command is given: the options that all commands share, and what follows from them."""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import typer

if TYPE_CHECKING:
    from nel_mesh import MeshClient, MeshSettings
    from nel_mesh.cli.output import Output
    from nel_mesh.settings import SettingsKeywords

VARIABLE = "MESH_SETTINGS"
"""The environment variable that names the settings file."""

HERE = ("appsettings.Development.json", "mesh.toml")
"""Settings files that are looked for in the working directory."""


@dataclasses.dataclass
class Session:
    """One run of the command. Commands get it by `session_of(ctx)`.

    Attributes:
        settings_file: what `--settings` said.
        profile: what `--profile` said.
        json: one JSON object per line on stdout, errors as a JSON object on stderr, and nothing else.
        quiet: nothing for people but errors.
        verbose: log to stderr.
    """

    settings_file: Path | None = None
    profile: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @cached_property
    def out(self) -> Output:
        """Where results, notes and progress go."""
        from nel_mesh.cli.output import Output

        return Output(json=self.json, quiet=self.quiet)

    def settings_path(self) -> Path | None:
        """The settings file: the option's, MESH_SETTINGS's, or the first there is; None if there is none."""
        if self.settings_file is not None:
            return self.settings_file
        if named := os.environ.get(VARIABLE):
            return Path(named.strip())
        return next((path for path in default_paths() if path.is_file()), None)

    def load_settings(self, **keywords: Unpack[SettingsKeywords]) -> MeshSettings:
        """Load the settings from the file, if there is one, and the environment, which wins; keywords win over both.

        Raises ConfigurationError with every fault in them.
        """
        from nel_mesh.errors import ConfigurationError, SettingFault
        from nel_mesh.settings import MeshSettings

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
        """A client for the mailbox of the settings, to be used in a `with` block."""
        from nel_mesh._sync.client import MeshClient

        return MeshClient(self.load_settings())


def session_of(ctx: typer.Context) -> Session:
    """The session of this run."""
    session = ctx.find_object(Session)
    if session is None:
        raise RuntimeError("the command was called outside of the app")
    return session


def default_paths() -> list[Path]:
    """Where a settings file is looked for when nobody names one, in this order."""
    return [*(Path(name) for name in HERE), user_settings_file()]


def user_settings_file() -> Path:
    """The settings file of the user, for all working directories: `~/.config/nel-mesh/mesh.toml` on Linux."""
    return Path(typer.get_app_dir("nel-mesh")) / "mesh.toml"


def transfers_folder() -> Path:
    """Where records of unfinished sends are kept, unless `--transfers` says otherwise."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "nel-mesh" / "transfers"
