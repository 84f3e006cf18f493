"""One run of the command: arguments in, exit code out; reports every failure."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

import typer

from nel_mesh.cli.app import app
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.failures import Failure, cancelled, failure_of, usage
from nel_mesh.cli.session import Session

# Typer carries its own copy of click, or uses the package, by its version; this holds for both.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickError: Any = typer.BadParameter.__mro__[2]

_COMPLETION = "_NEL_MESH_COMPLETE"
"""The environment variable by which a shell asks for completions."""


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end; its number is the argument."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    code = _run(arguments)
    # The launcher of the Java client takes 2 for "upgraded, start me again", and would do so for ever.
    is_in_its_place = any(argument.partition("=")[0] == "--java-config" for argument in arguments)
    return ExitCode.SETTINGS if code == ExitCode.USAGE and is_in_its_place else code


def _run(arguments: Sequence[str]) -> int:
    # An error in the arguments comes before --json has been parsed.
    session = Session(json="--json" in arguments)
    logging.getLogger("nel_mesh").addHandler(logging.NullHandler())
    _prepare_streams()
    command: Any = typer.main.get_command(app)
    if _COMPLETION in os.environ:
        command.main(prog_name="nel-mesh")
    try:
        _end_on_signals()
        with command.make_context("nel-mesh", list(arguments), obj=session) as ctx:
            command.invoke(ctx)
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        _discard(sys.stdout)
        return ExitCode.PIPE_CLOSED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug too is reported in one sentence
        return _report(session, error)
    return ExitCode.OK


def _end_on_signals() -> None:
    """End by an exception, as Ctrl-C does, also on the signals that ask a process to end.

    Without a handler the system ignores SIGTERM for process 1, as in a container. An ignored signal stays ignored
    (nohup).
    """
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise_terminated)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def _prepare_streams() -> None:
    """Make stdout and stderr usable: open, and able to write any character."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            # Its file descriptor is closed, and would else go to the first file or socket that is opened.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123  for as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _report(session: Session, error: BaseException) -> int:
    failure = _failure(error)
    try:
        if session.verbose and failure.code is ExitCode.BUG:
            traceback.print_exception(error)
        session.out.failure(failure)
    except OSError:
        _discard(sys.stderr)
    if isinstance(error, OSError):
        _discard(sys.stdout)
    return failure.code


def _failure(error: BaseException) -> Failure:
    if isinstance(error, Terminated):
        return cancelled(error, signal.Signals(error.args[0]))
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return cancelled(error, signal.SIGINT)
    if isinstance(error, _UsageError) and error.ctx:
        return usage(f"{error.format_message()} `{error.ctx.command_path} --help` shows the usage.")
    if isinstance(error, _ClickError):
        return usage(error.format_message())
    return failure_of(error)


def _discard(stream: Any) -> None:
    """Keep the interpreter from writing once more, at its end, what could not be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
