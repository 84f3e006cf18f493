"""Sessions: kept in the ledger, named by a cookie whose digest alone is kept.

A session is made again at each login, ends after some idle time and after an absolute time, and at sign-out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, update

from nel_mesh.ledger import events
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.schema import console_sessions

_TOUCH_EVERY = timedelta(seconds=30)


class Sessions:
    """The sessions of a console.

    Args:
        ledger: where they are kept.
        idle: a session that was not used for so long has ended.
        longest: a session that is older has ended.
    """

    def __init__(self, ledger: Ledger, *, idle: timedelta, longest: timedelta) -> None:
        self._ledger = ledger
        self._idle = idle
        self._longest = longest

    def begin(self, user: str) -> str:
        """Begin a session; return its token, for the cookie."""
        token = new_token()
        now = self._ledger.clock.now()
        with self._ledger.database.write() as connection:
            self._remove_ended(connection, now)
            connection.execute(
                insert(console_sessions).values(digest=_digest(token), user=user, created_at=now, seen_at=now)
            )
        return token

    def _remove_ended(self, connection: object, now: datetime) -> None:
        ended = (console_sessions.c.seen_at < now - self._idle) | (console_sessions.c.created_at < now - self._longest)
        connection.execute(delete(console_sessions).where(ended))  # type: ignore[attr-defined]

    def user_of(self, token: str, *, touch: bool) -> str | None:
        """Return whose session a token names; None if it names none, or one that has ended.

        Args:
            token: from the cookie.
            touch: whether the session was used by its person; a page that refreshes itself does not count.
        """
        now = self._ledger.clock.now()
        query = select(console_sessions).where(console_sessions.c.digest == _digest(token))
        with self._ledger.database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or now - row.seen_at > self._idle or now - row.created_at > self._longest:
            return None
        if touch and now - row.seen_at > _TOUCH_EVERY:
            with self._ledger.database.write() as connection:
                mine = console_sessions.c.digest == row.digest
                connection.execute(update(console_sessions).where(mine).values(seen_at=now))
        name: str = row.user
        return name

    def end(self, token: str, *, actor: str) -> None:
        """End a session."""
        with self._ledger.database.write() as connection:
            done = connection.execute(delete(console_sessions).where(console_sessions.c.digest == _digest(token)))
            if done.rowcount:
                events.append(connection, self._ledger.clock.now(), "signed out", actor=actor)


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(32)


def form_token(token: str) -> str:
    """Return what the forms of a session hold, so that no other site can send them."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def is_form_token(token: str, given: str) -> bool:
    """Whether a form holds the right one."""
    return hmac.compare_digest(form_token(token).encode(), given.encode())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
