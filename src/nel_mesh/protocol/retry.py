"""Whether to try again after a failure, and after how long.

Two questions decide: can the failed attempt have had an effect, and would a second effect do harm?
"""

from __future__ import annotations

import dataclasses

from nel_mesh.errors import Busy, ConnectionFailed, ConnectionLost, MeshError, ResponseError

_PASSING = frozenset({500, 502, 504})
"""Statuses that may pass, but do not say whether the request was acted on."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The limits within which a failed request is tried again.

    Attributes:
        max_attempts: how often a request is tried in all; 1 means never again.
        initial_delay_in_seconds: the longest wait before the second attempt; it doubles for each one after.
        max_delay_in_seconds: no wait of our own choice is longer.
        max_retry_after_in_seconds: a `Retry-After` that asks for more than this ends the attempts.
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
    # A success that is not the one that was to be expected is still no refusal.
    status = failure.status or 0
    return isinstance(failure, ResponseError) and (200 <= status < 300 or status >= 500)


def delay_before_retry(
    policy: RetryPolicy, failure: MeshError, *, attempt: int, repeatable: bool, chance: float
) -> float | None:
    """How many seconds to wait before the next attempt; None if there must not be one.

    Args:
        policy: the limits.
        failure: what the attempt ended in.
        attempt: how many attempts there have been, from 1.
        repeatable: whether doing it twice does no harm.
        chance: from 0 to 1, spreads the clients of a server that comes back ("full jitter").
    """
    if attempt >= policy.max_attempts or not _may_pass(failure):
        return None
    if may_have_acted(failure) and not repeatable:
        return None
    # The exponent is bounded, as attempts need not be.
    ceiling = min(policy.max_delay_in_seconds, policy.initial_delay_in_seconds * 2.0 ** min(attempt - 1, 60))
    delay = ceiling * chance
    asked = failure.retry_after_in_seconds if isinstance(failure, ResponseError) else None
    if asked is None:
        return delay
    return None if asked > policy.max_retry_after_in_seconds else asked + delay


def _may_pass(failure: MeshError) -> bool:
    if isinstance(failure, ConnectionFailed):
        return failure.transient
    if isinstance(failure, ResponseError):
        return isinstance(failure, Busy) or failure.status in _PASSING
    return isinstance(failure, ConnectionLost)
