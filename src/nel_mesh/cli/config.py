"""`nel-mesh config`: the settings in force."""

from __future__ import annotations

import typer

from nel_mesh.cli.output import shown
from nel_mesh.cli.session import session_of

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Show the settings in force.")


@app.callback()
def _group() -> None:
    """Show the settings in force."""


@app.command()
def show(ctx: typer.Context) -> None:
    """Show every setting in force, and where it was given.

    Secrets are hidden. With --json: one object per setting, with setting, value and source.

    \b
    Examples:
      nel-mesh config show
      nel-mesh --profile lab config show --json
    """
    import dataclasses

    from nel_mesh.check.effective import effective_settings

    session = session_of(ctx)
    settings = session.load_settings()
    path = session.settings_path()
    session.out.note(f"Settings file: {path}" if path else "No settings file.")
    found = list(effective_settings(settings))
    width = max(len(each.setting) for each in found)
    for each in found:
        value = ", ".join(each.value) if isinstance(each.value, list) else shown(each.value)
        source = "" if each.source == "default" else f"  ({each.source})"
        text = f"{each.setting:{width}}  {value or '-'}{source}"
        session.out.result(dataclasses.asdict(each), text, brief=text)
