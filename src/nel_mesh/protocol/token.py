"""The one-time token in the `Authorization` header (MESH API, "MESH Authorization header").

    NHSMESH mailbox:nonce:nonce_count:yyyyMMddHHmm:HMAC-SHA256

The HMAC's key is the environment's shared key; its message is
`mailbox:nonce:nonce_count:password:timestamp`.
A token is valid for one request: a second use is answered 403. So make one for each attempt, retries
included.
The client makes tokens here and the sandbox verifies them here; time and nonce are passed in.
"""

from __future__ import annotations

import dataclasses
import functools
import hmac
import re
from datetime import UTC, datetime, timedelta

SCHEME = "NHSMESH"
CLOCK_TOLERANCE = timedelta(hours=2)
"""How far a token's timestamp may be from the server's clock, in both directions."""

_TIMESTAMP = "%Y%m%d%H%M"
_TOKEN = re.compile(
    rf"{SCHEME} (?P<mailbox_id>[^:\s]+):(?P<nonce>[^:\s]+):(?P<nonce_count>\d+):"
    r"(?P<timestamp>\d{12}):(?P<digest>[0-9A-Fa-f]{64})",
    re.ASCII,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """The parts of a token as they came, not yet verified.

    `nonce_count` is text, as it is hashed as text: `001` is not `1`.
    """

    mailbox_id: str
    nonce: str
    nonce_count: str
    timestamp: str
    digest: str = dataclasses.field(repr=False)

    @property
    def time(self) -> datetime:
        """The minute in which the token was made. Raises ValueError if the timestamp is not a date."""
        return datetime.strptime(self.timestamp, _TIMESTAMP).replace(tzinfo=UTC)


def authorization(
    *,
    mailbox_id: str,
    password: str,
    shared_key: str,
    nonce: str,
    now: datetime,
    nonce_count: int = 0,
) -> str:
    """Make the value of the `Authorization` header for one request.

    Args:
        mailbox_id: the client's own mailbox; sent in upper case.
        password: the mailbox's password.
        shared_key: the environment's shared key.
        nonce: unique to this request (a random UUID).
        now: the current time, with its time zone.
        nonce_count: how often this nonce has been used before.
    """
    mailbox_id = mailbox_id.upper()
    utc = now.astimezone(UTC)
    # As _TIMESTAMP says. strftime takes several times as long, and may leave zeros out before a year.
    timestamp = f"{utc.year:04}{utc.month:02}{utc.day:02}{utc.hour:02}{utc.minute:02}"
    digest = _digest(shared_key, password, mailbox_id, nonce, str(nonce_count), timestamp)
    return f"{SCHEME} {mailbox_id}:{nonce}:{nonce_count}:{timestamp}:{digest}"


def parse(header: str) -> Token | None:
    """Parse an `Authorization` header; None if it is not a MESH token."""
    match = _TOKEN.fullmatch(header)
    return Token(**match.groupdict()) if match else None


def is_genuine(token: Token, *, password: str, shared_key: str) -> bool:
    """Whether the digest was made with this password and shared key.

    Upper and lower case of the hexadecimal digits are the same, as in the official sandbox.
    Compares in constant time.
    """
    expected = _digest(shared_key, password, token.mailbox_id, token.nonce, token.nonce_count, token.timestamp)
    return hmac.compare_digest(expected, token.digest.lower())


def is_timely(token: Token, *, now: datetime) -> bool:
    """Whether the timestamp is within two hours of `now`, in both directions."""
    try:
        return abs(now - token.time) <= CLOCK_TOLERANCE
    except ValueError:
        return False


def _digest(shared_key: str, password: str, mailbox_id: str, nonce: str, nonce_count: str, timestamp: str) -> str:
    keyed = _keyed(shared_key).copy()
    keyed.update(f"{mailbox_id}:{nonce}:{nonce_count}:{password}:{timestamp}".encode())
    return keyed.hexdigest()


@functools.lru_cache(maxsize=16)
def _keyed(shared_key: str) -> hmac.HMAC:
    """Return an HMAC of nothing yet. OpenSSL takes longer to make one than to copy it and compute a token."""
    return hmac.new(shared_key.encode(), digestmod="sha256")
