"""Searches, saved views and selections of messages, kept in the ledger: an address holds only their key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select

from nel_mesh import InvalidArgument
from nel_mesh.console.sessions import new_token
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.schema import console_selections
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction, State

_KEPT = timedelta(hours=12)
_MOST_VIEWS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class SavedView:
    """A search that a person gave a name."""

    key: str = dataclasses.field(repr=False)
    name: str = dataclasses.field(repr=False)


class Selections:
    """What people look for.

    Args:
        ledger: where it is kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def keep(self, user: str, content: dict[str, Any], *, name: str | None = None, key: str | None = None) -> str:
        """Keep a search or a selection for some hours, or under a name for good; return its key, a new one if none."""
        key = key or new_token()
        now = self._ledger.clock.now()
        with self._ledger.database.write() as connection:
            table = console_selections
            old = table.c.name.is_(None) & (table.c.created_at < now - _KEPT)
            connection.execute(delete(table).where(old))
            if name is not None:
                mine = (table.c.user == user) & table.c.name.is_not(None)
                names = list(connection.scalars(select(table.c.name).where(mine)))
                if len(names) >= _MOST_VIEWS and name not in names:
                    raise InvalidArgument(f"you have {_MOST_VIEWS} saved views; remove one")
                connection.execute(delete(table).where(mine, table.c.name == name))
            values = {"key": key, "user": user, "name": name, "content": content, "created_at": now}
            connection.execute(insert(table).values(**values))
        return key

    def search(self, user: str, key: str) -> Filter:
        """Return the search that a key stands for. Raises InvalidArgument as `take`."""
        content = self._get(user, key)
        if not set(content) <= set(FIELDS):
            raise _over()
        return restored_filter(content)

    def _get(self, user: str, key: str) -> dict[str, Any]:
        table = console_selections
        query = select(table.c.content).where(table.c.key == key, table.c.user == user)
        with self._ledger.database.read() as connection:
            content: dict[str, Any] | None = connection.scalar(query)
        if content is None:
            raise _over()
        return content

    def take(self, user: str, key: str, *, holding: str) -> dict[str, Any]:
        """Return what a key stands for, and forget it: a form that is sent twice acts once.

        Args:
            user: whose it is.
            key: the key.
            holding: what is in it; a search holds none of that.

        Raises:
            InvalidArgument: it is another person's or of another kind, was taken before, or was kept too long ago.
        """
        content = self._get(user, key)
        if holding not in content:
            raise _over()
        if not self.remove(user, key):
            raise InvalidArgument("this was done already")
        return content

    def views(self, user: str) -> list[SavedView]:
        """List a person's saved views."""
        table = console_selections
        query = select(table.c.key, table.c.name).where(table.c.user == user, table.c.name.is_not(None))
        with self._ledger.database.read() as connection:
            return [SavedView(row.key, row.name) for row in connection.execute(query.order_by(table.c.name))]

    def remove(self, user: str, key: str) -> bool:
        """Remove one; False if it is not there."""
        table = console_selections
        with self._ledger.database.write() as connection:
            return connection.execute(delete(table).where(table.c.key == key, table.c.user == user)).rowcount > 0


def _over() -> InvalidArgument:
    return InvalidArgument("this search or selection is over; begin again")


FIELDS = ("identifier", "mailbox_id", "direction", "states", "workflow_id", "party", "since", "until", "message_type")
"""What can be searched by."""

OPEN_FIELDS = ("mailbox_id", "direction", "states", "workflow_id", "since", "until", "message_type")
"""Of these, what may stand in an address: nothing that can be a person's."""


def read_filter(values: Mapping[str, Sequence[str]], *, names: Sequence[str] = FIELDS) -> Filter:
    """Read a search from a form or an address. Raises InvalidArgument, naming the field."""

    def one(name: str) -> str | None:
        given = values.get(name) or [""] if name in names else [""]
        return given[0].strip()[:300] or None

    states = [state for state in values.get("states", ()) if state] if "states" in names else []
    try:
        way = one("direction")
        direction = Direction(way) if way else None
        found = tuple(State(state) for state in states)
    except ValueError as error:
        raise InvalidArgument(f"the search knows no {error}") from None
    mailbox_id, party = one("mailbox_id"), one("party")
    return Filter(
        identifier=one("identifier"),
        mailbox_id=mailbox_id.upper() if mailbox_id else None,
        direction=direction,
        states=found,
        workflow_id=one("workflow_id"),
        party=party.upper() if party else None,
        since=_moment("since", one("since")),
        until=_moment("until", one("until")),
        message_type=one("message_type"),
    )


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # Without a zone it is this machine's.
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{name}: expected a date, or a date and a time, such as 2026-11-26T18:00") from None


def stored_filter(wanted: Filter) -> dict[str, Any]:
    """Return a search as it is kept: in the types of JSON."""
    return {
        name: list(value) if name == "states" else str(value)
        for name in FIELDS
        if (value := getattr(wanted, name)) not in (None, ())
    }


def restored_filter(content: dict[str, Any]) -> Filter:
    """Return a search that was kept."""
    return read_filter({name: value if isinstance(value, list) else [value] for name, value in content.items()})
