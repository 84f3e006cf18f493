"""Verification of the one-time token of each request (MESH API, "MESH Authorization header")."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from nel_mesh.protocol import token
from nel_mesh.sandbox.configuration import SandboxMailbox
from nel_mesh.sandbox.errors import Refusal

_UNREADABLE = "Error reading from Authorization header"
_MISMATCH = "Mailbox id does not match token"
_INVALID = "Invalid Authentication Token"
_DUPLICATED = "Error Duplicated Authentication Token"


class TokenVerifier:
    """Accepts each token once."""

    def __init__(
        self,
        mailboxes: Iterable[SandboxMailbox],
        shared_key: str,
        clock: Callable[[], datetime],
        *,
        ids_in_any_case: bool = False,
    ) -> None:
        self._ids_in_any_case = ids_in_any_case
        self._passwords = {mailbox.mailbox_id: mailbox.password for mailbox in mailboxes}
        self._shared_key = shared_key
        self._clock = clock
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Forget every token used so far."""
        with self._lock:
            self._used: set[tuple[str, str, str]] = set()
            self._used_by_minute: dict[str, list[tuple[str, str, str]]] = {}

    def verify(self, mailbox_id: str, header: str | None) -> None:
        """Verify the `Authorization` header of a request for this mailbox, and use the token up.

        Raises Refusal, 403, for a token that is missing, malformed, another mailbox's, not made with this mailbox's
        password and the shared key, more than two hours off, or used before.
        """
        if not header:
            raise _forbidden(_UNREADABLE, "there is no Authorization header")
        given = token.parse(header)
        if given is None:
            raise _forbidden(_UNREADABLE, "the Authorization header is not a MESH token")
        password = self._passwords.get(mailbox_id)
        if password is None:
            reason = "there is no such mailbox; a mailbox id is in upper case"
            raise Refusal(403, reason, event="SEND", code="EPL-151")
        named = given.mailbox_id.upper() if self._ids_in_any_case else given.mailbox_id
        if named != mailbox_id:
            raise _forbidden(_MISMATCH, "the token is for another mailbox than the path; both are in upper case")
        if not token.is_genuine(given, password=password, shared_key=self._shared_key):
            raise _forbidden(_INVALID, "the token was not made with this mailbox's password and the shared key")
        now = self._clock()
        if not token.is_timely(given, now=now):
            raise _forbidden(_INVALID, "the token's timestamp is more than two hours off")
        self._use(given, now)

    def _use(self, given: token.Token, now: datetime) -> None:
        # Without the timestamp: the same nonce and count a minute later are the same token.
        key = (given.mailbox_id, given.nonce, given.nonce_count)
        with self._lock:
            if key in self._used:
                raise _forbidden(_DUPLICATED, "the token has been used before; make one for each request")
            self._used.add(key)
            if given.timestamp not in self._used_by_minute:
                self._drop_stale(now)
            self._used_by_minute.setdefault(given.timestamp, []).append(key)

    def _drop_stale(self, now: datetime) -> None:
        # An older token is refused for its age, so memory holds four hours of tokens at most.
        horizon = now.astimezone(UTC) - token.CLOCK_TOLERANCE - timedelta(minutes=1)
        oldest = horizon.strftime("%Y%m%d%H%M")
        for minute in [minute for minute in self._used_by_minute if minute < oldest]:
            self._used.difference_update(self._used_by_minute.pop(minute))


def _forbidden(description: str, reason: str) -> Refusal:
    return Refusal(403, reason, description=description)
