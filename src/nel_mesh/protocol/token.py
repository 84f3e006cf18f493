"""The one-time token in the `Authorization` header (MESH API, "MESH Authorization header").

A token is good for one request: make one for each attempt. Time and nonce are passed in, so both ends, the client
and the sandbox that checks it, compute it here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

SCHEME = "NHSMESH"
CLOCK_TOLERANCE = timedelta(hours=2)
"""How far the server lets a token's timestamp be from its own clock, either way."""

_TIMESTAMP = "%Y%m%d%H%M"
_TOKEN = re.compile(
    rf"{SCHEME} (?P<mailbox_id>[^:\s]+):(?P<nonce>[^:\s]+):(?P<nonce_count>\d{{1,9}}):"
    r"(?P<timestamp>\d{12}):(?P<digest>[0-9a-f]{64})"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """What a token says, before it is believed."""

    mailbox_id: str
    nonce: str
    nonce_count: int
    timestamp: str
    digest: str

    @property
    def time(self) -> datetime:
        """The minute at which the token was made, in UTC. Raises ValueError if it is no date."""
        return datetime.strptime(self.timestamp, _TIMESTAMP).replace(tzinfo=UTC)


def authorization(
    *, mailbox_id: str, password: str, shared_key: str, nonce: str, now: datetime, nonce_count: int = 0
) -> str:
    """The value of the `Authorization` header for one request.

    Args:
        mailbox_id: the sender's own mailbox; goes in upper case.
        password: the mailbox's password.
        shared_key: the environment's shared secret, the key of the HMAC.
        nonce: unique to this request (a random UUID).
        now: the present time, with its time zone.
        nonce_count: how often this nonce has been used before.
    """
    mailbox_id = mailbox_id.upper()
    timestamp = now.astimezone(UTC).strftime(_TIMESTAMP)
    digest = _digest(shared_key, password, mailbox_id, nonce, nonce_count, timestamp)
    return f"{SCHEME} {mailbox_id}:{nonce}:{nonce_count}:{timestamp}:{digest}"


def parse(header: str) -> Token | None:
    """The parts of an `Authorization` header, or None if it is not a MESH token."""
    match = _TOKEN.fullmatch(header)
    if match is None:
        return None
    parts = match.groupdict()
    return Token(parts["mailbox_id"], parts["nonce"], int(parts["nonce_count"]), parts["timestamp"], parts["digest"])


def is_genuine(token: Token, *, password: str, shared_key: str) -> bool:
    """Whether the token's digest was made with this password and shared key; compares in constant time."""
    expected = _digest(shared_key, password, token.mailbox_id, token.nonce, token.nonce_count, token.timestamp)
    return hmac.compare_digest(expected, token.digest)


def is_timely(token: Token, *, now: datetime) -> bool:
    """Whether the token was made within two hours of `now`, either way."""
    try:
        return abs(now - token.time) <= CLOCK_TOLERANCE
    except ValueError:
        return False


def _digest(shared_key: str, password: str, mailbox_id: str, nonce: str, nonce_count: int, timestamp: str) -> str:
    message = f"{mailbox_id}:{nonce}:{nonce_count}:{password}:{timestamp}"
    return hmac.new(shared_key.encode(), message.encode(), hashlib.sha256).hexdigest()
