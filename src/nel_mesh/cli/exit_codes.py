"""The exit codes, by kind of failure. Scripts rely on them: a code never changes its meaning."""

from __future__ import annotations

import enum
from typing import Any


class ExitCode(enum.IntEnum):
    """The exit code of the command."""

    OK = 0
    """Success."""
    BUG = 1
    """An unforeseen error: please report it."""
    USAGE = 2
    """The command line is wrong: an unknown option, a missing or unusable argument."""
    SETTINGS = 3
    """The settings, or a certificate in them, cannot be used; or a part of the package is not installed."""
    FILE = 4
    """A local file cannot be read or written: missing, a folder, no permission, disk full, changed meanwhile."""
    NETWORK = 5
    """Could not connect, or the connection dropped. Safe to retry."""
    NOT_AUTHORISED = 6
    """MESH did not accept mailbox, password, shared key, certificate or clock."""
    NOT_FOUND = 7
    """There is no such message for this mailbox, or it has expired."""
    REFUSED = 8
    """MESH read the request and refused it."""
    TRY_LATER = 9
    """MESH is rate limiting (429), busy or broken: retry later."""
    UNKNOWN = 10
    """The response to a send was lost: the message may have arrived. Look before you send it again."""
    DAMAGED = 11
    """A received message is incomplete or damaged. Do not use any of it; it is still in the inbox."""
    NOT_DELIVERED = 12
    """`track`: MESH says that the message failed."""
    NOT_YET = 13
    """`track --wait`: the message was still not collected when the time was up."""
    CHECK_FAILED = 14
    """`check`: a step failed."""
    HUNG_UP = 129
    """Cancelled by SIGHUP."""
    INTERRUPTED = 130
    """Cancelled by Ctrl-C."""
    PIPE_CLOSED = 141
    """The reader of stdout closed it."""
    TERMINATED = 143
    """Cancelled by SIGTERM."""


_BY_CLASS = {
    "ConfigurationError": ExitCode.SETTINGS,
    "InvalidArgument": ExitCode.USAGE,
    "SourceError": ExitCode.FILE,
    "StorageError": ExitCode.FILE,
    "OutcomeUnknown": ExitCode.UNKNOWN,
    "IntegrityError": ExitCode.DAMAGED,
    "HandlerError": ExitCode.BUG,
    "ConnectionFailed": ExitCode.NETWORK,
    "ConnectionLost": ExitCode.NETWORK,
    "NotAuthorised": ExitCode.NOT_AUTHORISED,
    "NotFound": ExitCode.NOT_FOUND,
    "Gone": ExitCode.NOT_FOUND,
    "Refused": ExitCode.REFUSED,
    "BadRequest": ExitCode.REFUSED,
    "UploadFinished": ExitCode.REFUSED,
    "Busy": ExitCode.TRY_LATER,
    "ServerError": ExitCode.TRY_LATER,
    "OSError": ExitCode.FILE,
    "MeshError": ExitCode.REFUSED,
}
"""By name, so that the errors' module need not be imported before there is an error."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error of the library or the operating system; BUG for any other."""
    if _may_have_sent(error):
        return ExitCode.UNKNOWN
    return next((_BY_CLASS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _BY_CLASS), ExitCode.BUG)


def _may_have_sent(error: Any) -> bool:
    # An acknowledgement whose outcome is unknown can be repeated; a send cannot.
    outcome = getattr(error, "outcome", None)
    return getattr(error, "operation", None) == "send_message" and getattr(outcome, "name", "") == "UNKNOWN"
