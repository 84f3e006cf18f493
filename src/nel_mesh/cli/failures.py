"""Failures as the command reports them: what happened, why, and the next step; as a paragraph, and as an object.

The advice follows from values: the operation that failed and the exit code of the failure.
"""

from __future__ import annotations

import dataclasses
import errno
import re
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nel_mesh.cli.exit_codes import ExitCode, exit_code_of
from nel_mesh.errors import HandlerError

_Table = Mapping[tuple[str | None, ExitCode | None], str]

_HAPPENED: _Table = {
    (None, ExitCode.SETTINGS): "The settings cannot be used.",
    ("send_message", ExitCode.UNKNOWN): "The message may or may not have been sent.",
    ("send_message", None): "The message was not sent.",
    ("receive_messages", None): "The message was not received.",
    ("receive_file", None): "The message was not received.",
    ("retrieve_message", None): "The message was not received.",
    ("handshake", None): "The handshake failed.",
    ("acknowledge_message", ExitCode.NETWORK): "The acknowledgement may not have reached MESH.",
    ("acknowledge_message", None): "The message was not acknowledged.",
    ("list_messages", None): "The inbox could not be read.",
    ("message_metadata", None): "The message could not be looked up.",
    ("track_message", None): "The message could not be tracked.",
    ("resolve_send", ExitCode.UNKNOWN): "MESH has begun to take the message, and has not finished.",
    ("resolve_send", None): "The message could not be tracked.",
    ("lookup_endpoint", None): "The mailbox could not be looked up.",
    ("search_workflow", None): "The mailboxes could not be looked up.",
}
"""What happened. The first entry counts that has both operation and code, then the code, then the operation."""

_NEXT_STEP: _Table = {
    (None, ExitCode.USAGE): "Check the command; `--help` shows an example.",
    (None, ExitCode.SETTINGS): "Correct the settings; `nel-mesh check` tries them step by step.",
    (None, ExitCode.FILE): "Check the file, disk, store or database that is named, then run the same command again.",
    (None, ExitCode.NETWORK): "`nel-mesh check` shows how far the connection gets; then run the same command again.",
    (None, ExitCode.NOT_AUTHORISED): "`nel-mesh check` compares the clocks and checks the certificate. Mailbox id, "
    "password and shared key must be this environment's.",
    (None, ExitCode.NOT_FOUND): "Check the id, and whose mailbox it belongs to; an expired message must be sent again.",
    (None, ExitCode.REFUSED): "Correct what MESH names, then run the command again.",
    (None, ExitCode.TRY_LATER): "Run the same command again in a few minutes.",
    (None, ExitCode.UNKNOWN): "Do not send it as a new message before you know.",
    (None, ExitCode.DAMAGED): "Do not use what has arrived. The message is still in the inbox: run the same command "
    "again.",
    ("acknowledge_message", ExitCode.NOT_FOUND): "It may have been acknowledged before, or have expired.",
    ("resolve_send", ExitCode.UNKNOWN): "Ask again in a few minutes.",
}
"""What to do next; found in the same order."""

_SYSTEM_NEXT_STEP = {
    errno.ENOSPC: "Free some space on the disk, then run the same command again.",
    errno.EDQUOT: "Free some of your disk quota, then run the same command again.",
    errno.EACCES: "Fix its permissions, or use another place.",
    errno.EPERM: "Fix its permissions, or use another place.",
    errno.EROFS: "Use another place.",
    errno.EISDIR: "It is a folder; name a file.",
    errno.ENOTDIR: "It is a file; name a folder.",
    errno.ENOENT: "Check the path.",
    errno.EADDRINUSE: "Use another port; `--port 0` takes a free one.",
}
"""What to do next about an error of the operating system."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failure as it is reported.

    Attributes:
        code: the exit code.
        text: for people.
        record: for scripts.
        label: the word before the text.
    """

    code: ExitCode
    text: str
    record: dict[str, Any]
    label: str = "Error:"

    def about(self, message_id: str, sentence: str = "", **more: Any) -> Failure:
        """Return this failure as that of one of several messages, with a sentence to begin with."""
        text = " ".join(part for part in (f"{message_id}:", sentence, self.text) if part)
        record = {**self.record, "message": text, "message_id": message_id, **more}
        return dataclasses.replace(self, text=text, record=record)


class CommandFailed(Exception):
    """A failure for which a command has its own words; see `simple`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def missing_extra(extra: str) -> Failure:
    """A part of the package is not installed."""
    return simple(ExitCode.SETTINGS, "not_installed", f'This needs an extra: pip install "nel-mesh[{extra}]"')


def not_in_inbox() -> Failure:
    """A message that was to be received is gone."""
    text = (
        "There is no such message in the inbox. It was taken by another process, has expired, or is of another mailbox."
    )
    return simple(ExitCode.NOT_FOUND, "not_found", text)


def failure_of(error: BaseException) -> Failure:
    """Return the report of any error."""
    if isinstance(error, CommandFailed):
        return error.failure
    code = exit_code_of(error)
    if code is ExitCode.BUG:
        return _bug(error)
    return _of_system(error) if isinstance(error, OSError) else _of_mesh(error, code)


def usage(text: str) -> Failure:
    """The command line cannot be understood."""
    return simple(ExitCode.USAGE, "usage", text)


def cancelled(error: BaseException, by: signal.Signals) -> Failure:
    """The user or the system ended the command."""
    code = {"SIGINT": ExitCode.INTERRUPTED, "SIGHUP": ExitCode.HUNG_UP}.get(by.name, ExitCode.TERMINATED)
    notes = (note if note.endswith(".") else f"{note}." for note in _notes(error))
    failure = simple(code, "interrupted", " ".join(["Cancelled.", *notes]))
    return dataclasses.replace(failure, label="")


def simple(code: ExitCode, kind: str, text: str, **more: Any) -> Failure:
    """A failure in the given words."""
    return Failure(code, text, {"kind": kind, "exit_code": int(code), "message": text, **more})


def _find(table: _Table, operation: str | None, code: ExitCode) -> str:
    keys = ((operation, code), (None, code), (operation, None))
    return next((table[key] for key in keys if key in table), "")


def _of_mesh(error: Any, code: ExitCode) -> Failure:
    happened, why = _find(_HAPPENED, error.operation, code), _why(error, code)
    next_step = " ".join([_next_step(error, code), *_notes(error)])
    separator = "\n" if "\n" in why else " "
    text = separator.join(part for part in (happened, why, next_step) if part)
    values = {
        "kind": _snake(type(error).__name__),
        "exit_code": int(code),
        "message": text,
        "operation": error.operation,
        "reason": error.reason,
        "outcome": error.outcome.value,
        "status": error.status,
        "event": error.event,
        "code": error.code,
        "description": error.description,
        "message_id": error.message_id,
        "local_id": error.local_id,
    }
    if getattr(error, "faults", ()):
        values["faults"] = [dataclasses.asdict(fault) for fault in error.faults]
    return Failure(code, text, {name: value for name, value in values.items() if value is not None})


def _why(error: Any, code: ExitCode) -> str:
    faults = getattr(error, "faults", ())
    if len(faults) > 1:
        return "\n".join(f"- {fault}" for fault in faults)
    reason = _sentence(str(faults[0]) if faults else error.reason)
    mesh = " ".join(word for word in (error.event, error.code, error.description) if word)
    if mesh:
        reason += f" MESH says: {_sentence(mesh)}"
    if error.message_id:
        reason += f" Message id {error.message_id}."
    if error.local_id and code is ExitCode.UNKNOWN:
        reason += f" Local id {error.local_id}."
    return reason


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def _next_step(error: Any, code: ExitCode) -> str:
    wait = getattr(error, "retry_after_in_seconds", None)
    if wait:
        return f"Run the same command again in {wait:.0f} seconds; MESH asked for that."
    cause = error.__cause__
    if code is ExitCode.FILE and isinstance(cause, OSError) and cause.errno in _SYSTEM_NEXT_STEP:
        return _SYSTEM_NEXT_STEP[cause.errno]
    return _find(_NEXT_STEP, error.operation, code)


def _of_system(error: OSError) -> Failure:
    name = f"{error.filename}: " if error.filename is not None else ""
    reason = f"{name}{error.strerror or type(error).__name__}"
    next_step = _SYSTEM_NEXT_STEP.get(error.errno or 0, "Check the file and the disk.")
    text = " ".join([_sentence(reason), next_step, *_notes(error)])
    return simple(ExitCode.FILE, "file", text, reason=reason)


def _bug(error: BaseException) -> Failure:
    # Not the error's own text, which may quote anything.
    kind = type(error).__name__
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, HandlerError):  # the command has no handler but its own
        kind, places = error.kind, re.findall(r'File "(.*)", line (\d+)', error.where)
    where = f" at {Path(places[-1][0]).name}:{places[-1][1]}" if places else ""
    text = (
        f"This is a bug in nel-mesh {_version()}: {kind}{where}. Please report this line and the "
        "command to the maintainers (without passwords or patient data); --verbose shows the whole trace."
    )
    return simple(ExitCode.BUG, "bug", text, python=sys.version.split()[0])


def _version() -> str:
    from nel_mesh import __version__

    return __version__


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:] if re.match(r"[a-z]+ ", text) else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
