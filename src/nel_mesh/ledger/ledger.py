"""The ledger as one object: its database, and the rooms that know a part of it each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import delete, func, select

from nel_mesh.io.clock import Clock
from nel_mesh.ledger import events
from nel_mesh.ledger.actions import Actions
from nel_mesh.ledger.configurations import Configurations
from nel_mesh.ledger.database import Database
from nel_mesh.ledger.hook_calls import HookCalls
from nel_mesh.ledger.incoming import Incoming
from nel_mesh.ledger.journal import LedgerJournal
from nel_mesh.ledger.mailbox_actions import MailboxActions
from nel_mesh.ledger.mailboxes import Mailboxes
from nel_mesh.ledger.messages import Listener, Messages
from nel_mesh.ledger.nodes import Nodes
from nel_mesh.ledger.outgoing import Outgoing
from nel_mesh.ledger.presence import AskStores, of_files
from nel_mesh.ledger.schema import events as events_table
from nel_mesh.ledger.schema import hook_calls
from nel_mesh.ledger.search import Search
from nel_mesh.ledger.transfers import LedgerRecords

FILE_NAME = "ledger.sqlite"
_ROWS_AT_ONCE = 1000


class Ledger:
    """What an agent knows of its mailboxes and messages. A context manager.

    Args:
        place: the folder of an SQLite file, or a database's URL.
        password_file: a file with the database's password, if it has one.
        clock: where time comes from.
        listeners: called with each step of a message, in its transaction.
        ask: says of copies whether they are where they were stored; default: of those on this machine.
    """

    def __init__(
        self,
        place: Path | str,
        *,
        password_file: Path | None = None,
        clock: Clock | None = None,
        listeners: Sequence[Listener] = (),
        ask: AskStores = of_files,
    ) -> None:
        self.clock = clock or Clock()
        if isinstance(place, Path):
            self.database = Database.for_file(place / FILE_NAME)
        else:
            self.database = Database(place, password_file)
        self.configurations = Configurations(self.database, self.clock)
        self.nodes = Nodes(self.database, self.clock)
        self.mailboxes = Mailboxes(self.database, self.clock)
        self.messages = Messages(self.database, self.clock, listeners)
        self.incoming = Incoming(self.database, self.clock, self.messages)
        self.outgoing = Outgoing(self.database, self.clock, self.messages)
        self.search = Search(self.database)
        self.actions = Actions(self.database, self.clock, self.messages, ask)
        self.mailbox_actions = MailboxActions(self.mailboxes, self.clock)
        self.hook_calls = HookCalls(self.database, self.clock)
        self.sends = LedgerRecords(self.database, self.clock)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect, and bring the schema up to date. Raises StorageError if that cannot be done."""
        self.database.open()

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    def journal(self, *, owner: str | None, destination: str) -> LedgerJournal:
        """Return the journal of one destination, for messages that an owner has begun."""
        return LedgerJournal(self.database, self.incoming, owner=owner, destination=destination)

    def note(self, kind: str, *, actor: str = events.AGENT, mailbox_id: str | None = None, **details: object) -> None:
        """Add an event that belongs to no message."""
        with self.database.write() as connection:
            events.append(connection, self.clock.now(), kind, actor=actor, mailbox_id=mailbox_id, details=details)

    def forget_before(self, moment: datetime) -> int:
        """Remove what ended before a moment, in small transactions; return how many messages those were."""
        count = 0
        while done := self.messages.forget_before(moment, _ROWS_AT_ONCE):
            count += done
        while True:
            with self.database.write() as connection:
                old = select(events_table.c.number).where(events_table.c.at < moment).order_by(events_table.c.number)
                numbers = list(connection.scalars(old.limit(_ROWS_AT_ONCE)))
                # The chain's last event stays, so that what follows has something to follow.
                last = connection.scalar(select(func.max(events_table.c.number)))
                numbers = [number for number in numbers if number != last]
                connection.execute(delete(events_table).where(events_table.c.number.in_(numbers)))
                connection.execute(delete(hook_calls).where(hook_calls.c.done_at < moment))
            if len(numbers) < _ROWS_AT_ONCE:
                return count
