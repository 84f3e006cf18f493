"""`nel-mesh check`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import session_of

if TYPE_CHECKING:
    from nel_mesh.check.steps import Step

_MARKS = {"ok": "\N{CHECK MARK}", "warning": "!", "failed": "\N{BALLOT X}", "skipped": "-"}
_PLAIN_MARKS = {"ok": "ok", "warning": "!", "failed": "X", "skipped": "-"}
"""For a terminal or file whose encoding has no ticks."""

_STYLES = {"ok": "32", "warning": "33;1", "failed": "31;1", "skipped": "2"}
"""Green, yellow, red and dim, for a terminal."""

_TITLE_WIDTH = 21


def check(ctx: typer.Context) -> None:
    """Try the settings step by step, up to the inbox.

    Each step that fails gives its cause and its cure. Ends with 0 if no step failed, and with 14 if one did. A warning,
    such as of a certificate that ends within 60 days, is no failure. With --json each step is an object: step, state
    (ok, warning, failed, skipped), detail, advice, facts.

    \b
    Examples:
      nel-mesh check
      nel-mesh --profile lab check --json
    """
    from nel_mesh.check.steps import State, diagnose
    from nel_mesh.cli.output import terminal_width

    session = session_of(ctx)
    columns = terminal_width(sys.stdout)
    # In a pipe or a file no line is broken.
    width = sys.maxsize if columns is None else min(max(columns, 60), 110)
    marks = _MARKS if _can_tick() else _PLAIN_MARKS
    failed = 0
    for step in diagnose(session.load_settings, file=session.settings_path()):
        failed += step.state is State.FAILED
        text = "\n".join(_lines(step, marks[step.state], width))
        brief = text if step.state in (State.FAILED, State.WARNING) else None
        session.out.result(_record(step), text, brief=brief, style=_STYLES[step.state])
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _record(step: Step) -> dict[str, object]:
    return {
        "step": step.name,
        "state": step.state.value,
        "detail": step.detail,
        "advice": list(step.advice),
        "facts": step.facts,
    }


def _lines(step: Step, mark: str, width: int) -> Iterator[str]:
    """The step for people: each fault begins a line, and so does each advice."""
    indent = " " * (len(mark) + 1 + _TITLE_WIDTH)
    first = f"{mark} {step.title:{_TITLE_WIDTH - 1}} "
    for detail in step.detail.splitlines():
        yield from _wrap(detail, width, first, indent + "  " if "\n" in step.detail else indent)
        first = indent
    for cure in step.advice:
        yield from _wrap(f"-> {cure}", width, indent, indent + "   ")


def _wrap(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _can_tick() -> bool:
    try:
        "".join(_MARKS.values()).encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
