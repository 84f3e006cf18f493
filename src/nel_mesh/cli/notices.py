"""Notices of what happens during an operation: a wait before a retry, which can last minutes; a send without record."""

from __future__ import annotations

import sys

from nel_mesh.cli.output import Output, is_terminal
from nel_mesh.instrumentation import Event, Hook, RetryScheduled, SendRecordFailed

_REASONS = {
    "ConnectionFailed": "Could not connect",
    "ConnectionLost": "The connection was lost",
}


def notice_hook(out: Output, *, verbose: bool) -> Hook:
    """Return a hook that prints the notices. A wait is announced on a terminal only, and not twice (`--verbose`)."""

    def hook(event: Event) -> None:
        if isinstance(event, RetryScheduled) and not verbose and is_terminal(sys.stderr):
            out.note(_text(event))
        elif isinstance(event, SendRecordFailed) and event.step == "begin":
            out.warn(without_record(f"No record of the send can be kept ({event.os_error or event.failure.error})"))

    return hook


def without_record(reason: str) -> str:
    """Return the warning that a send cannot resume."""
    return f"{reason}. If this send is interrupted, it starts again; --transfers DIR names another folder."


def _text(event: RetryScheduled) -> str:
    status = event.failure.status
    reason = f"MESH is not available (status {status})" if status else ""
    if status == 429:
        reason = "Rate limited by MESH (status 429)"
    seconds = event.delay_in_seconds
    delay = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.1f} s"
    reason = reason or _REASONS.get(event.failure.error, "The attempt failed")
    return f"{reason}. Attempt {event.attempt + 1} of {event.max_attempts} follows in {delay}; Ctrl-C cancels."
