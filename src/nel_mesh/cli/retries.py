"""One line on a terminal for each wait before a retry, which can last minutes."""

from __future__ import annotations

import sys

from nel_mesh.cli.output import Output, is_terminal
from nel_mesh.instrumentation import Event, Hook, RetryScheduled

_REASONS = {
    "ConnectionFailed": "Could not connect",
    "ConnectionLost": "The connection was lost",
}


def retry_hook(out: Output, *, verbose: bool) -> Hook:
    """Return a hook that writes the line; nothing for scripts, with `--quiet`, or with `--verbose`, which logs it."""

    def hook(event: Event) -> None:
        if isinstance(event, RetryScheduled) and not verbose and is_terminal(sys.stderr):
            out.note(_text(event))

    return hook


def _text(event: RetryScheduled) -> str:
    status = event.failure.status
    reason = f"MESH is not available (status {status})" if status else ""
    if status == 429:
        reason = "Rate limited by MESH (status 429)"
    seconds = event.delay_in_seconds
    delay = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.1f} s"
    reason = reason or _REASONS.get(event.failure.error, "The attempt failed")
    return f"{reason}. Attempt {event.attempt + 1} of {event.max_attempts} follows in {delay}; Ctrl-C cancels."
