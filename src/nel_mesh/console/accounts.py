"""The people who may use the console: local accounts, with a password and a second factor.

There is no default account: `nel-mesh agent console user add` makes the first one. A name or an address from which
logins fail is locked out, for longer each time; a name that does not exist is, too, so that it cannot be told.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from nel_mesh import InvalidArgument
from nel_mesh.console.roles import RIGHTS, Right, Role
from nel_mesh.console.visitors import network_of
from nel_mesh.ledger import events
from nel_mesh.ledger.database import row_values
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.schema import console_attempts, console_selections, console_sessions, console_users

MIN_PASSWORD_LENGTH = 12
_MAX_PASSWORD_LENGTH = 1000
_LOGINS_AT_ONCE = 2
_FREE_FAILURES = 5
_FREE_FAILURES_OF_ADDRESS = 20
_FAILURES_NOTED_AN_HOUR = 200
_THEN_EACH = 500
_MOST_ATTEMPTS = 10_000
_FIRST_LOCK_SECONDS = 30
_LONGEST_LOCK_SECONDS = 3600
_STEP_SECONDS = 30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who may use the console.

    Attributes:
        name: by which the person logs in, and is named in the audit.
        role: what the person is.
        sees_content: whether the person may see the content of messages.
        created_at: when the account was made.
        last_login_at: when the person last logged in; None if never.
        disabled_at: since when the account cannot be used; None if it can.
    """

    name: str
    role: Role
    sees_content: bool
    created_at: datetime
    last_login_at: datetime | None
    disabled_at: datetime | None

    @property
    def actor(self) -> str:
        """The name in the ledger's events, which tells it from a user of the machine."""
        return f"{self.name} (console)"

    def may(self, right: Right) -> bool:
        """Whether the person has a right."""
        return self.sees_content if right is Right.CONTENT else right in RIGHTS[self.role]


class LoginRefused(InvalidArgument):
    """The login failed; the text says no more than the person may know."""


class Accounts:
    """The accounts of a ledger.

    Args:
        ledger: where they are kept.
        hasher: how passwords are kept; default: argon2id, by the parameters of RFC 9106.
    """

    def __init__(self, ledger: Ledger, hasher: PasswordHasher | None = None) -> None:
        self._ledger = ledger
        self._hasher = hasher or PasswordHasher()
        self._unknown: str | None = None
        # Each takes 64 MiB and some time; and who guesses is to see the lock before the next guess.
        self._turn = threading.BoundedSemaphore(_LOGINS_AT_ONCE)

    def add(self, name: str, role: Role, password: str | None, *, sees_content: bool, actor: str) -> str:
        """Make an account; return the secret of its second factor, which is shown once.

        Without a password, it is one for OpenID Connect alone, and has no second factor here.

        Raises:
            InvalidArgument: the name is taken or cannot be used, or the password is too short.
        """
        if not _NAME.fullmatch(name):
            raise InvalidArgument("the name may have letters, digits and . _ @ -, and 64 characters at most")
        if password is not None:
            check_password(password, name)
        # Before the transaction: it takes some time, and nobody else could write.
        kept = self._hasher.hash(password) if password is not None else ""
        secret = pyotp.random_base32() if password is not None else ""
        now = self._ledger.clock.now()
        values = {
            "name": name,
            "role": str(role),
            "sees_content": sees_content,
            "password": kept,
            "totp_secret": secret,
            "created_at": now,
        }
        with self._ledger.database.write() as connection:
            try:
                connection.execute(insert(console_users).values(values))
            except IntegrityError:
                raise InvalidArgument(f"there is a user {name} already; `reset` gives a new password") from None
            said = {"name": name, "role": str(role), "sees_content": sees_content}
            events.append(connection, now, "user added", actor=actor, details=said)
        return secret

    def reset(self, name: str, password: str, *, actor: str) -> str:
        """Give an account a new password and a new second factor, and end its sessions; return the factor's secret."""
        check_password(password, name)
        secret = pyotp.random_base32()
        values = {
            "password": self._hasher.hash(password),
            "totp_secret": secret,
            "totp_step": 0,
            "disabled_at": None,
        }
        with self._ledger.database.write() as connection:
            self._change(connection, name, values, "user reset", actor=actor, reason="")
            connection.execute(delete(console_attempts).where(console_attempts.c.key == _key("name", name)))
        return secret

    def disable(self, name: str, *, actor: str, reason: str = "") -> None:
        """Let an account be used no more, and end its sessions.

        Raises:
            InvalidArgument: there is no such account, or it is disabled or the last administrator's.
        """
        values = {"disabled_at": self._ledger.clock.now()}
        with self._ledger.database.write() as connection:
            account = _locked(connection, name)
            if account.values["disabled_at"] is not None:
                raise InvalidArgument(f"{name} is disabled already")
            if account.is_last_administrator:
                raise _last_administrator(name)
            self._change(connection, name, values, "user disabled", actor=actor, reason=reason)

    def enable(self, name: str, *, actor: str, reason: str = "") -> None:
        """Let an account be used again. Raises InvalidArgument if there is no such account, or it can be used."""
        with self._ledger.database.write() as connection:
            if _locked(connection, name).values["disabled_at"] is None:
                raise InvalidArgument(f"{name} is not disabled")
            self._change(connection, name, {"disabled_at": None}, "user enabled", actor=actor, reason=reason)

    def change(
        self,
        name: str,
        *,
        role: Role | None = None,
        sees_content: bool | None = None,
        actor: str,
        reason: str = "",
    ) -> None:
        """Give an account another role, or the right to see content, or take that. Its sessions have it at once.

        Raises:
            InvalidArgument: there is no such account, nothing would change, or no administrator would be left.
        """
        given = {"role": str(role) if role is not None else None, "sees_content": sees_content}
        with self._ledger.database.write() as connection:
            account = _locked(connection, name)
            before = account.values
            values = {key: value for key, value in given.items() if value is not None and value != before[key]}
            if not values:
                raise InvalidArgument(f"{name} has that role and that right already")
            if "role" in values and account.is_last_administrator:
                raise _last_administrator(name)
            said = {key: {"from": before[key], "to": value} for key, value in values.items()}
            # No page is shown by a right that was read before: each request reads the account again.
            self._change(
                connection, name, values, "user changed", actor=actor, reason=reason, ends_sessions=False, said=said
            )

    def _change(
        self,
        connection: Connection,
        name: str,
        values: Mapping[str, object],
        kind: str,
        *,
        actor: str,
        reason: str,
        ends_sessions: bool = True,
        said: Mapping[str, object] | None = None,
    ) -> None:
        done = connection.execute(update(console_users).where(console_users.c.name == name).values(**values))
        if done.rowcount == 0:
            raise _unknown(name)
        if ends_sessions:
            connection.execute(delete(console_sessions).where(console_sessions.c.user == name))
        connection.execute(
            delete(console_selections)
            .where(console_selections.c.user == name)
            .where(console_selections.c.name.is_(None))
        )
        details = {"name": name, "reason": reason, **(said or {})}
        events.append(connection, self._ledger.clock.now(), kind, actor=actor, details=details)

    def all(self) -> list[User]:
        """List the accounts."""
        with self._ledger.database.read() as connection:
            return [_user(row) for row in connection.execute(select(console_users).order_by(console_users.c.name))]

    def get(self, name: str) -> User | None:
        """Return an account that may be used; None if there is none."""
        query = select(console_users).where(console_users.c.name == name, console_users.c.disabled_at.is_(None))
        with self._ledger.database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _user(row) if row is not None else None

    def log_in(self, name: str, password: str, code: str, *, address: str) -> User:
        """Check name, password and the code of the second factor.

        Raises:
            LoginRefused: one of them is wrong, the account is disabled, or there were too many attempts.
        """
        with self._turn:
            return self._log_in(name, password, code, address)

    def _log_in(self, name: str, password: str, code: str, address: str) -> User:
        now = self._ledger.clock.now()
        keys = {_key("name", name): _FREE_FAILURES, _key("address", network_of(address)): _FREE_FAILURES_OF_ADDRESS}
        with self._ledger.database.read() as connection:
            until = self._locked_until(connection, keys, now)
            row = connection.execute(select(console_users).where(console_users.c.name == name)).one_or_none()
        if until is not None:
            raise LoginRefused(f"Too many attempts failed. Try again in {_wait(until - now)}.")
        is_right = self._is_password(row.password if row is not None else None, password[:_MAX_PASSWORD_LENGTH])
        step = _step_of(row.totp_secret, code, now) if row is not None and row.totp_secret else None
        with self._ledger.database.write() as connection:
            user = None
            if row is not None and is_right and step is not None and row.disabled_at is None:
                # Only a later step than the last one that was used: each code is taken once.
                taken = connection.execute(
                    update(console_users)
                    .where(console_users.c.name == row.name, console_users.c.totp_step < step)
                    .values(totp_step=step, last_login_at=now)
                )
                user = _user(row) if taken.rowcount == 1 else None
            # One after another, on every node: each failure is counted, however many come at once.
            events.lock(connection)
            if user is None:
                self._note_failure(connection, keys, now, name if row is not None else None)
            else:
                connection.execute(delete(console_attempts).where(console_attempts.c.key == _key("name", name)))
                events.append(connection, now, "logged in", actor=user.actor)
        if user is None:
            raise LoginRefused("Name, password or code is wrong. A code is good for 30 seconds, and for one login.")
        return user

    def log_in_by_openid(self, name: str) -> User:
        """Log in whom the organisation's server has named.

        Raises:
            LoginRefused: there is no such account, it is disabled, or it has a password here.
        """
        now = self._ledger.clock.now()
        query = select(console_users).where(
            console_users.c.name == name, console_users.c.password == "", console_users.c.disabled_at.is_(None)
        )
        with self._ledger.database.write() as connection:
            row = connection.execute(query).one_or_none()
            if row is not None:
                mine = console_users.c.name == row.name
                connection.execute(update(console_users).where(mine).values(last_login_at=now))
            actor = _user(row).actor if row is not None else "unknown"
            kind = "logged in" if row is not None else "login failed"
            events.append(connection, now, kind, actor=actor, details={"by": "OpenID Connect"})
        if row is None:
            raise LoginRefused(
                "Your organisation knows you, but no account here is made for you. Ask an administrator."
            )
        return _user(row)

    def _is_password(self, kept: str | None, password: str) -> bool:
        if not kept:
            # As long as for a name that exists.
            self._unknown = self._unknown or self._hasher.hash("of nobody")
        try:
            return self._hasher.verify(kept or self._unknown or "", password) and bool(kept)
        except (Argon2Error, InvalidHashError):
            return False

    def _locked_until(self, connection: Connection, keys: dict[str, int], now: datetime) -> datetime | None:
        column = console_attempts.c.locked_until
        query = select(column).where(console_attempts.c.key.in_(keys), column > now)
        return max((moment for moment in connection.scalars(query) if moment is not None), default=None)

    def _note_failure(self, connection: Connection, keys: dict[str, int], now: datetime, name: str | None) -> None:
        for key, free in keys.items():
            row = connection.execute(select(console_attempts).where(console_attempts.c.key == key)).one_or_none()
            failures = 1 if row is None else row.failures + 1
            until = None
            if failures >= free:
                seconds = min(_LONGEST_LOCK_SECONDS, _FIRST_LOCK_SECONDS * 2 ** min(failures - free, 10))
                until = now + timedelta(seconds=seconds)
            values = {"failures": failures, "last_at": now, "locked_until": until}
            if row is None:
                connection.execute(insert(console_attempts).values(key=key, **values))
            else:
                connection.execute(update(console_attempts).where(console_attempts.c.key == key).values(**values))
        old = now - timedelta(days=1)
        connection.execute(delete(console_attempts).where(console_attempts.c.last_at < old))
        self._forget_attempts(connection, now)
        count = self._count_this_hour(connection, now)
        if count <= _FAILURES_NOTED_AN_HOUR or count % _THEN_EACH == 0:
            details = {"failures_this_hour": count} if count > _FAILURES_NOTED_AN_HOUR else {}
            # A password is often typed into the field of the name: a name that nobody has is not kept.
            events.append(connection, now, "login failed", actor=name or "unknown", details=details)

    def _forget_attempts(self, connection: Connection, now: datetime) -> None:
        """Keep a bounded number of attempts, the newest and those that lock somebody out."""
        kept = select(console_attempts.c.last_at).order_by(console_attempts.c.last_at.desc())
        oldest = connection.scalar(kept.offset(_MOST_ATTEMPTS).limit(1))
        if oldest is not None:
            locks = console_attempts.c.locked_until > now
            mine = (console_attempts.c.last_at <= oldest) & (console_attempts.c.locked_until.is_(None) | ~locks)
            connection.execute(delete(console_attempts).where(mine))

    def _count_this_hour(self, connection: Connection, now: datetime) -> int:
        """Count a failed login, within a bound: nobody on the network can make the audit grow without end."""
        key = _key("hour", now.strftime("%Y-%m-%dT%H"))
        mine = console_attempts.c.key == key
        count = (connection.scalar(select(console_attempts.c.failures).where(mine)) or 0) + 1
        if count == 1:
            connection.execute(insert(console_attempts).values(key=key, failures=1, last_at=now, locked_until=None))
        else:
            connection.execute(update(console_attempts).where(mine).values(failures=count, last_at=now))
        return count


def _unknown(name: str) -> InvalidArgument:
    return InvalidArgument(f"there is no user {name}; `nel-mesh agent console user list` lists them")


@dataclasses.dataclass(frozen=True, slots=True)
class _Locked:
    values: Mapping[str, Any]
    is_last_administrator: bool


def _locked(connection: Connection, name: str) -> _Locked:
    """Return an account, and lock it with every administrator's until the transaction ends. Raises InvalidArgument."""
    users = console_users.c
    administrates = (users.role == str(Role.ADMINISTRATOR)) & users.disabled_at.is_(None)
    # In one order: of two administrators who remove each other, one waits, and is refused.
    query = select(console_users).where((users.name == name) | administrates).order_by(users.name).with_for_update()
    rows = {row.name: row_values(row) for row in connection.execute(query)}
    if name not in rows:
        raise _unknown(name)
    own = rows.pop(name)
    is_administrator = own["role"] == str(Role.ADMINISTRATOR) and own["disabled_at"] is None
    return _Locked(own, is_administrator and not rows)


def _last_administrator(name: str) -> InvalidArgument:
    # Nobody could change an account from the console any more.
    return InvalidArgument(f"{name} is the last administrator: make another one first")


def check_password(password: str, name: str) -> None:
    """Raise InvalidArgument if a password is too short or too simple to guess."""
    if len(password) < MIN_PASSWORD_LENGTH:
        raise InvalidArgument(f"the password needs {MIN_PASSWORD_LENGTH} characters or more; a few words are best")
    if len(password) > _MAX_PASSWORD_LENGTH:
        raise InvalidArgument(f"the password may have {_MAX_PASSWORD_LENGTH} characters at most")
    if name.casefold() in password.casefold() or len(set(password)) < 5:
        raise InvalidArgument("the password is too simple: leave the name out, and use more than a few characters")


def factor_address(name: str, secret: str) -> str:
    """Return the address by which an authenticator takes the second factor."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="nel-mesh console")


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step of a code, the present one or a neighbour; None if it is of none."""
    code = code.replace(" ", "")
    if not re.fullmatch(r"[0-9]{6}", code):
        return None
    present = int(now.timestamp()) // _STEP_SECONDS
    totp = pyotp.TOTP(secret)
    for step in (present, present - 1, present + 1):
        if pyotp.utils.strings_equal(code, totp.generate_otp(step)):
            return step
    return None


def _key(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()


def _wait(time: timedelta) -> str:
    seconds = int(time.total_seconds()) + 1
    return f"{seconds} seconds" if seconds < 120 else f"{seconds // 60} minutes"


def _user(row: object) -> User:
    values = row_values(row)
    names = ("name", "role", "sees_content", "created_at", "last_login_at", "disabled_at")
    return User(**{name: values[name] for name in names} | {"role": Role(values["role"])})
