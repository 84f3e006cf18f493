"""The rules of retries: whether to repeat a failed request, and when.

Two questions decide: can MESH have acted on the failed attempt, and would a second effect do harm?

| failure                                  | can MESH have acted? | retried           |
| ---------------------------------------- | -------------------- | ----------------- |
| no connection (but for its certificate)  | no                   | yes               |
| connection lost, request incomplete      | no                   | yes               |
| connection lost, request complete        | yes                  | if idempotent     |
| 425, 429, 503                            | no                   | yes               |
| 500, 502, 504                            | yes                  | if idempotent     |
| a success that was not expected          | yes                  | no                |
| any other status                         | no (5xx: yes)        | no                |

The MESH API lists no 425, 429 or 5xx, but its official client retries them, so they occur.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from nel_mesh.errors import Busy, ConnectionFailed, ConnectionLost, MeshError, ResponseError

_TRANSIENT_STATUSES: Final = frozenset({500, 502, 504})
"""Failures that may pass, and do not say whether the request was acted on."""

_MAX_DOUBLINGS: Final = 60
"""Attempts are not limited, and 2.0 ** 1024 is an OverflowError."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The limits of retries.

    Attributes:
        max_attempts: the maximum number of attempts in all; 1 means no retry.
        initial_delay_in_seconds: the maximum delay before the second attempt; doubles for each
            further one.
        max_delay_in_seconds: the maximum delay, unless MESH asks for more.
        max_retry_after_in_seconds: the maximum `Retry-After`; if MESH asks for more, there is no
            retry.
    """

    max_attempts: int = 5
    initial_delay_in_seconds: float = 0.5
    max_delay_in_seconds: float = 30.0
    max_retry_after_in_seconds: float = 300.0


def may_have_acted(failure: MeshError) -> bool:
    """Whether MESH may have acted on the request that ended in this failure."""
    if isinstance(failure, ConnectionLost):
        return failure.request_complete
    if isinstance(failure, (ConnectionFailed, Busy)):
        return False
    status = failure.status or 0
    return isinstance(failure, ResponseError) and (200 <= status < 300 or status >= 500)


def delay_before_retry(
    policy: RetryPolicy, failure: MeshError, *, attempt: int, idempotent: bool, jitter: float
) -> float | None:
    """The delay before the next attempt, in seconds; None if there must be none.

    Exponential backoff with full jitter, after the time that MESH asks for, if it does.

    Args:
        policy: the limits.
        failure: how the attempt ended.
        attempt: how many attempts there have been, from 1.
        idempotent: whether a second effect does no harm.
        jitter: a random number from 0 to 1; keeps clients of a server that comes back apart.
    """
    if attempt >= policy.max_attempts or not _is_transient(failure):
        return None
    if may_have_acted(failure) and not idempotent:
        return None
    backoff = policy.initial_delay_in_seconds * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
    delay = min(policy.max_delay_in_seconds, backoff) * jitter
    retry_after = failure.retry_after_in_seconds if isinstance(failure, ResponseError) else None
    if retry_after is None:
        return delay
    return None if retry_after > policy.max_retry_after_in_seconds else retry_after + delay


def _is_transient(failure: MeshError) -> bool:
    if isinstance(failure, ConnectionFailed):
        return failure.transient
    if isinstance(failure, ResponseError):
        return isinstance(failure, Busy) or failure.status in _TRANSIENT_STATUSES
    return isinstance(failure, ConnectionLost)
