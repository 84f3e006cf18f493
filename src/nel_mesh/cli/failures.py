"""A failure, told: what happened, why, and what to do; as a paragraph, and as an object for scripts."""

from __future__ import annotations

import dataclasses
import errno
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from nel_mesh.cli.exit_codes import ExitCode, exit_code_of

_WHAT = {
    "send_message": "The message was not sent.",
    "receive_file": "The message was not received.",
    "retrieve_message": "The message was not received.",
    "handshake": "The handshake failed.",
    "acknowledge_message": "The message was not acknowledged.",
    "list_messages": "The inbox could not be read.",
    "message_metadata": "The message could not be looked at.",
    "track_message": "The message could not be tracked.",
    "lookup_endpoint": "The mailbox could not be looked up.",
    "search_workflow": "The mailboxes could not be looked up.",
}

_CURE = {
    ExitCode.USAGE: "Mend the command; --help shows an example.",
    ExitCode.SETTINGS: "Mend the settings; `nel-mesh check` goes through them step by step.",
    ExitCode.FILE: "See to the file or the disk, then run the same command again.",
    ExitCode.NETWORK: "`nel-mesh check` shows how far the connection gets; then run the same command again.",
    ExitCode.NOT_AUTHORISED: "`nel-mesh check` compares the clocks and looks at the certificate; mailbox id, password "
    "and shared key must be this environment's.",
    ExitCode.NOT_FOUND: "Check the id, and whose mailbox it belongs to; an expired message must be sent again.",
    ExitCode.REFUSED: "Read MESH's words, mend what they name, and send it again.",
    ExitCode.TRY_LATER: "Run the same command again in a few minutes.",
    ExitCode.UNKNOWN: "Do not send it again before you have asked MESH (`nel-mesh track`) or the recipient.",
    ExitCode.DAMAGED: "Run the same command again. Use nothing of what came; the message is still in the inbox.",
}


@dataclasses.dataclass(frozen=True)
class Failure:
    """What is told of a failure."""

    code: ExitCode
    text: str
    record: dict[str, Any]


class CommandFailed(Exception):
    """A failure that a command has words for itself; see `simple`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def missing_extra(extra: str) -> Failure:
    """A part of the package that was not installed."""
    return simple(ExitCode.SETTINGS, "not_installed", f'This needs an extra: pip install "nel-mesh[{extra}]"')


def failure_of(error: BaseException) -> Failure:
    """What to tell of an error, whatever it is."""
    if isinstance(error, CommandFailed):
        return error.failure
    code = exit_code_of(error)
    if code is ExitCode.BUG:
        return _bug(error)
    return _of_system(error) if isinstance(error, OSError) else _of_mesh(error, code)


def usage(text: str) -> Failure:
    """A command line that cannot be understood."""
    return simple(ExitCode.USAGE, "usage", text)


def simple(code: ExitCode, kind: str, text: str, **more: Any) -> Failure:
    """A failure that is told in given words."""
    return Failure(code, text, {"kind": kind, "exit_code": int(code), "message": text, **more})


def _of_mesh(error: Any, code: ExitCode) -> Failure:
    what = _WHAT.get(error.operation or "", "")
    if code is ExitCode.UNKNOWN:
        what = "It is not known whether the message arrived." if error.operation == "send_message" else what
    if code is ExitCode.SETTINGS:
        what = "The settings cannot be used."
    why, cure = _why(error), " ".join([_cure(error, code), *_notes(error)])
    separator = "\n" if "\n" in why else " "
    text = separator.join(part for part in (what, why, cure) if part)
    told = {
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
        told["faults"] = [dataclasses.asdict(fault) for fault in error.faults]
    return Failure(code, text, {name: value for name, value in told.items() if value is not None})


def _why(error: Any) -> str:
    faults = getattr(error, "faults", ())
    if len(faults) > 1:
        return "\n".join(f"- {fault}" for fault in faults)
    reason = _sentence(str(faults[0]) if faults else error.reason)
    mesh = " ".join(word for word in (error.event, error.code, error.description) if word)
    if mesh:
        reason += f" MESH says: {_sentence(mesh)}"
    if error.message_id:
        reason += f" Message id {error.message_id}."
    if error.local_id and exit_code_of(error) is ExitCode.UNKNOWN:
        reason += f" Local id {error.local_id}."
    return reason


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def _cure(error: Any, code: ExitCode) -> str:
    cure = _CURE.get(code, "")
    wait = getattr(error, "retry_after_in_seconds", None)
    if wait:
        cure = f"Run the same command again in {wait:.0f} seconds; MESH asked for that."
    return cure


def _of_system(error: OSError) -> Failure:
    name = f"{error.filename}: " if error.filename is not None else ""
    reason = f"{name}{error.strerror or type(error).__name__}"
    cure = {
        errno.ENOSPC: "Make room on the disk, then run the same command again.",
        errno.EACCES: "Ask for permission to it, or use another place.",
        errno.EISDIR: "It is a folder; name a file.",
        errno.ENOTDIR: "It is a file; name a folder.",
        errno.ENOENT: "Check the path.",
    }.get(error.errno or 0, "See to the file or the disk.")
    text = " ".join([_sentence(reason), cure, *_notes(error)])
    return simple(ExitCode.FILE, "file", text, reason=reason)


def _bug(error: BaseException) -> Failure:
    # Not the error's own text: nobody knows what it quotes.
    trace = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(trace[-1].filename).name}:{trace[-1].lineno}" if trace else ""
    text = (
        f"This is a bug in nel-mesh {_version()}: {type(error).__name__}{where}. Please report this line and the "
        "command to the maintainers (without passwords or patient data); --verbose shows the whole trace."
    )
    return simple(ExitCode.BUG, "bug", text, python=sys.version.split()[0])


def _version() -> str:
    from nel_mesh._version import __version__

    return __version__


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:] if re.match(r"[a-z]+ ", text) else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
