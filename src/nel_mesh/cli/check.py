"""`nel-mesh check`."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import typer

from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import session_of

if TYPE_CHECKING:
    from nel_mesh.check.steps import Step

_MARKS = {"ok": "\N{CHECK MARK}", "warning": "!", "failed": "\N{BALLOT X}", "skipped": "-"}
_PLAIN_MARKS = {"ok": "ok", "warning": "!", "failed": "X", "skipped": "-"}
"""For a terminal or file whose encoding has no ticks."""

_TITLE_WIDTH = 21


def check(ctx: typer.Context) -> None:
    """Tries the settings step by step, up to the inbox, and says what to do about what fails.

    Ends with 0 if no step failed, and with 14 if one did. Warnings, such as a certificate that ends within 60 days, are
    no failure. With --json each step is an object: step, state (ok, warning, failed, skipped), detail, advice, facts.

    \b
    Examples:
      nel-mesh check
      nel-mesh --profile lab check --json
    """
    from nel_mesh.check.steps import State, diagnose
    from nel_mesh.cli.output import terminal_width

    session = session_of(ctx)
    width = min(terminal_width(sys.stdout) or 110, 110)
    marks = _MARKS if _can_tick() else _PLAIN_MARKS
    failed = 0
    for step in diagnose(session.load_settings, file=session.settings_path()):
        failed += step.state is State.FAILED
        text = _told(step, marks[step.state], width)
        session.out.result(_record(step), text, brief=text if step.state in (State.FAILED, State.WARNING) else None)
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


def _told(step: Step, mark: str, width: int) -> str:
    indent = " " * (len(mark) + 1 + _TITLE_WIDTH)
    lines = textwrap.wrap(
        f"{mark} {step.title:{_TITLE_WIDTH - 1}} {step.detail}",
        max(width, 60),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    for advice in step.advice:
        lines += textwrap.wrap(
            f"-> {advice}",
            max(width, 60),
            initial_indent=indent,
            subsequent_indent=indent + "   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _can_tick() -> bool:
    try:
        "".join(_MARKS.values()).encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
