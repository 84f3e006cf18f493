"""Retries (protocol/retry.py)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh import errors
from nel_mesh.protocol import retry
from nel_mesh.protocol.responses import error_from_response

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
POLICY = retry.RetryPolicy(
    max_attempts=4, initial_delay_in_seconds=1, max_delay_in_seconds=3, max_retry_after_in_seconds=60
)


def answered(status: int, after: str | None = None) -> errors.ResponseError:
    headers = {"retry-after": after} if after else {}
    return error_from_response("send_message", status, headers, b"", now=NOW)


def lost(*, complete: bool) -> errors.ConnectionLost:
    failure = errors.ConnectionLost("lost")
    failure.request_complete = complete
    return failure


def refused_certificate() -> errors.ConnectionFailed:
    failure = errors.ConnectionFailed("certificate")
    failure.transient = False
    return failure


FAILURES = [
    # failure, may have acted, retried if idempotent, retried if not
    (errors.ConnectionFailed("refused"), False, True, True),
    (refused_certificate(), False, False, False),
    (lost(complete=False), False, True, True),
    (lost(complete=True), True, True, False),
    *((answered(status), False, True, True) for status in (425, 429, 503)),
    *((answered(status), True, True, False) for status in (500, 502, 504)),
    *((answered(status), True, False, False) for status in (200, 201, 299, 501, 505, 599)),
    *((answered(status), False, False, False) for status in (100, 199, 300, 400, 401, 403, 404, 406, 410, 413)),
    *((answered(status), False, False, False) for status in (417, 423, 499)),
    (errors.IntegrityError("damaged"), False, False, False),
    (errors.IntegrityError("damaged", status=200), False, False, False),
    (errors.SourceError("unreadable"), False, False, False),
    (errors.ResponseError("no status"), False, False, False),
]


@pytest.mark.parametrize(("failure", "acted", "if_idempotent", "if_not"), FAILURES)
def test_each_failure_is_retried_where_that_is_safe(
    failure: errors.MeshError, acted: bool, if_idempotent: bool, if_not: bool
) -> None:
    assert retry.may_have_acted(failure) is acted
    for idempotent, expected in ((True, if_idempotent), (False, if_not)):
        delay = retry.delay_before_retry(POLICY, failure, attempt=1, idempotent=idempotent, jitter=0.5)
        assert (delay is not None) is expected


def test_the_delay_doubles_up_to_its_limit_and_the_attempts_end() -> None:
    busy = answered(503)
    delays = [retry.delay_before_retry(POLICY, busy, attempt=n, idempotent=True, jitter=1.0) for n in range(1, 6)]
    assert delays == [1, 2, 3, None, None]
    assert retry.delay_before_retry(POLICY, busy, attempt=1, idempotent=True, jitter=0.25) == 0.25


@pytest.mark.parametrize("failure", [answered(503), errors.ConnectionFailed("refused"), lost(complete=False)])
def test_one_attempt_is_never_retried(failure: errors.MeshError) -> None:
    once = retry.RetryPolicy(max_attempts=1)
    assert retry.delay_before_retry(once, failure, attempt=1, idempotent=True, jitter=1.0) is None


def test_a_retry_after_is_waited_for_in_addition_up_to_its_limit() -> None:
    def delay(after: str) -> float | None:
        return retry.delay_before_retry(POLICY, answered(429, after), attempt=1, idempotent=True, jitter=0.5)

    assert delay("7") == 7.5
    assert delay("0") == 0.5
    assert delay("60") == 60.5
    assert delay("61") is None


def test_the_defaults() -> None:
    policy = retry.RetryPolicy()
    assert (policy.max_attempts, policy.initial_delay_in_seconds) == (5, 0.5)
    assert (policy.max_delay_in_seconds, policy.max_retry_after_in_seconds) == (30, 300)


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 10**9), st.floats(0, 10**9))
def test_no_delay_is_longer_than_its_limit(attempt: int, jitter: float, initial: float, limit: float) -> None:
    policy = retry.RetryPolicy(max_attempts=10**7, initial_delay_in_seconds=initial, max_delay_in_seconds=limit)
    delay = retry.delay_before_retry(policy, answered(503), attempt=attempt, idempotent=True, jitter=jitter)
    assert delay is not None
    assert 0 <= delay <= limit


def test_many_attempts_wait_as_long_as_a_few() -> None:
    patient = retry.RetryPolicy(max_attempts=10**6)
    assert retry.delay_before_retry(patient, answered(503), attempt=10**5, idempotent=True, jitter=1.0) == 30
