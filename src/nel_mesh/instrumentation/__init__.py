"""Events of client operations, for the hooks of a program; and logging and OpenTelemetry, which are two of them."""

from .events import (
    AcknowledgementFailed,
    Event,
    Failure,
    Hook,
    MessageFailed,
    OperationEntered,
    OperationFinished,
    OperationLeft,
    OperationStarted,
    ProgressFailed,
    ReportReceived,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
    Server,
)

__all__ = [
    "AcknowledgementFailed",
    "Event",
    "Failure",
    "Hook",
    "MessageFailed",
    "OperationEntered",
    "OperationFinished",
    "OperationLeft",
    "OperationStarted",
    "ProgressFailed",
    "ReportReceived",
    "RequestFinished",
    "RequestStarted",
    "RetryScheduled",
    "Server",
]
