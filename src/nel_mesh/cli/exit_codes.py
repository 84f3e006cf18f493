"""The exit codes, by kind of failure. Scripts rely on them: a code never changes its meaning."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What the command ends with."""

    OK = 0
    """It did what it was asked to."""
    BUG = 1
    """Something went wrong that nobody foresaw: report it."""
    USAGE = 2
    """The command line is wrong: an unknown option, a missing or unusable argument."""
    SETTINGS = 3
    """The settings, or a certificate in them, cannot be used; or a part of the package is not installed."""
    FILE = 4
    """A file here cannot be read or written: missing, a folder, no permission, disk full, changed meanwhile."""
    NETWORK = 5
    """No connection, or it broke. Nothing was sent that may not be sent again."""
    NOT_AUTHORISED = 6
    """MESH did not accept mailbox, password, shared key, certificate or clock."""
    NOT_FOUND = 7
    """There is no such message for this mailbox, or it has expired."""
    REFUSED = 8
    """MESH read the request and will not do it."""
    TRY_LATER = 9
    """MESH is busy or broken: try again later."""
    UNKNOWN = 10
    """A send's answer was lost: the message may have arrived. Look before you send it again."""
    DAMAGED = 11
    """What arrived is incomplete or damaged. Nothing of it may be used; it is still in the inbox."""
    NOT_DELIVERED = 12
    """`track`: MESH says that the message failed."""
    NOT_YET = 13
    """`track --wait`: the message was still not collected when the time was up."""
    CHECK_FAILED = 14
    """`check`: a step failed."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """Whoever was reading the output has gone."""


_BY_ERROR = {
    "ConfigurationError": ExitCode.SETTINGS,
    "InvalidArgument": ExitCode.USAGE,
    "SourceError": ExitCode.FILE,
    "StorageError": ExitCode.FILE,
    "OutcomeUnknown": ExitCode.UNKNOWN,
    "IntegrityError": ExitCode.DAMAGED,
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
    """The exit code for an error of the library or the operating system; BUG for any other."""
    outcome = getattr(error, "outcome", None)
    if getattr(outcome, "name", "") == "UNKNOWN":
        return ExitCode.UNKNOWN
    return next((_BY_ERROR[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _BY_ERROR), ExitCode.BUG)
