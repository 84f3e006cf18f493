"""One run of the command: its arguments in, its exit code out, and whatever fails told on the way."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from nel_mesh.cli.app import Interrupted, PipeClosed, app
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.failures import Failure, failure_of, simple, usage
from nel_mesh.cli.session import Session

# Typer carries its own copy of click, or uses the package, by its version; this holds for both.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickError: Any = typer.BadParameter.__mro__[2]


def run(arguments: Sequence[str]) -> int:
    """Runs the command with these arguments; never raises but what ends the process."""
    # A parser's error comes before --json has been parsed.
    session = Session(json="--json" in arguments)
    logging.getLogger("nel_mesh").addHandler(logging.NullHandler())
    _make_writable()
    try:
        code = typer.main.get_command(app).main(
            list(arguments), prog_name="nel-mesh", standalone_mode=False, obj=session
        )
    except PipeClosed:
        code = ExitCode.PIPE_CLOSED
        _forget(sys.stdout)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else ExitCode.BUG
    except Exception as error:  # noqa: BLE001 - a bug too ends in one sentence
        code = _tell(session, error)
    return code if isinstance(code, int) else ExitCode.OK


def _make_writable() -> None:
    """Sees to it that there is a stdout and a stderr, and that no character is too much for them."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            # Its file descriptor is closed, and would else go to the first file or socket that is opened.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123  for as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _tell(session: Session, error: Exception) -> int:
    failure = _failure(error)
    try:
        if session.verbose and failure.code is ExitCode.BUG:
            traceback.print_exception(error)
        session.out.error(failure.text, failure.record)
    except OSError:
        _forget(sys.stderr)
    if isinstance(error, OSError):
        _forget(sys.stdout)
    return failure.code


def _failure(error: Exception) -> Failure:
    if isinstance(error, Interrupted):
        return simple(ExitCode.INTERRUPTED, "interrupted", str(error))
    if isinstance(error, typer.Abort):
        return simple(ExitCode.INTERRUPTED, "interrupted", "Given up, as you asked; nothing more was done.")
    if isinstance(error, _UsageError):
        ctx = error.ctx
        if type(error).__name__ == "NoArgsIsHelpError":
            return usage(error.format_message())
        hint = f" `{ctx.command_path} --help` shows how it is used." if ctx else ""
        return usage(error.format_message() + hint)
    if isinstance(error, _ClickError):
        return usage(error.format_message())
    return failure_of(error)


def _forget(stream: Any) -> None:
    """Sees to it that the interpreter, when it ends, does not try once more to write what could not be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
