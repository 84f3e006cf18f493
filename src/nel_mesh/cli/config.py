"""`nel-mesh config`: the settings in force."""

from __future__ import annotations

import typer

from nel_mesh.cli.app import Command, Group
from nel_mesh.cli.output import shown
from nel_mesh.cli.session import session_of

app = typer.Typer(cls=Group, add_completion=False, rich_markup_mode=None, help="Show the settings in force.")


@app.callback()
def _group() -> None:
    """Show the settings in force."""


@app.command(cls=Command)
def show(ctx: typer.Context) -> None:
    """Show every setting in force, and where it was given.

    Secrets are hidden. If some settings are missing or cannot be used, the others are shown all the same, and the
    command ends with 3. With --json: one object per setting, with setting, value and source.

    \b
    Examples:
      nel-mesh config show
      nel-mesh --profile lab config show --json
    """
    import dataclasses

    from nel_mesh.check.effective import effective_settings
    from nel_mesh.check.loading import load_partially
    from nel_mesh.errors import ConfigurationError

    session = session_of(ctx)
    loaded = load_partially(session.load_settings)
    path = session.settings_path()
    session.out.note(f"Settings file: {path}" if path else "No settings file.")
    found = list(effective_settings(loaded))
    width = max((len(each.setting) for each in found), default=0)
    for each in found:
        value = ", ".join(each.value) if isinstance(each.value, list) else shown(each.value)
        source = "" if each.source == "default" else f"  ({each.source})"
        text = f"{each.setting:{width}}  {value or '-'}{source}"
        session.out.result(dataclasses.asdict(each), text, brief=text)
    if loaded.faults:
        raise ConfigurationError.of(loaded.faults)
