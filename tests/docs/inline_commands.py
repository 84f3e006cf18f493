"""Commands of ours that stand within a line of a page."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer
from pages import Page

from nel_mesh.cli.app import app

ASKING = ("nel-mesh init", "nel-mesh csr")
"""Commands that ask for what they need, at a terminal; the tests of the command line have one, and answer."""

_PLACEHOLDER = re.compile("[A-Z]+")
_UsageError: Any = typer.BadParameter.__mro__[1]


def first_command(page: Page) -> str | None:
    """Return the first command of a page that can be run as it is written; None if there is none."""
    return next((code for code in page.code_of_ours if code not in ASKING and is_complete(code)), None)


def is_complete(code: str) -> bool:
    """Whether a text is a command with all that it must have, and not only its name or what its parts are."""
    if not code.startswith("nel-mesh ") or fault_of(code) is not None or "completion" in code:
        return False
    words = shlex.split(code)[1:]
    if any(map(_PLACEHOLDER.fullmatch, words)):
        return False
    command: Any = typer.main.get_command(app)
    context = None
    while True:
        try:
            context = command.make_context(command.name, words, parent=context)
        except (_UsageError, typer.Exit):
            return False
        if not hasattr(command, "get_command"):
            return True
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def fault_of(code: str) -> str | None:
    """Say what a command lacks: itself, or an option of its own or of those that it belongs to."""
    command: Any = typer.main.get_command(app)
    options = {"--help": False, **_options(command)}
    words = iter(shlex.split(code)[1:])
    for word in words:
        if word.startswith("-") and word != "-":
            option, _, value = word.partition("=")
            if option not in options:
                return f"{command.name} has no {option}"
            if options[option] and not value:
                next(words, None)
        elif hasattr(command, "get_command"):
            if word == "help":
                return None
            found = command.get_command(command.make_context("", [], resilient_parsing=True), word)
            if found is None:
                return f"{command.name} has no command {word}"
            command = found
            options |= _options(command)
    return None


def _options(command: Any) -> dict[str, bool]:
    """The options of a command, and whether each takes a value."""
    options = [one for one in command.params if one.param_type_name == "option"]
    return {name: not one.is_flag for one in options for name in (*one.opts, *one.secondary_opts)}
