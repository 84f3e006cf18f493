"""The machines of a fleet: which process works under which name, what it does, and whether it still may.

A process takes a name, with a number that grows: its epoch. Every transaction in which it writes asks whether that
number is still the latest, and whether the work under it has not been given to others. If so, it raises `Fenced`. The
answer holds until the transaction ends: to give the work to others takes a lock that waits for it.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from nel_mesh.errors import InvalidArgument, StorageError
from nel_mesh.io.clock import Clock
from nel_mesh.ledger import events
from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.mailboxes import Fenced
from nel_mesh.ledger.schema import mailboxes, messages, nodes
from nel_mesh.ledger.states import DUE, Direction


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerNode:
    """A machine of the fleet, as the ledger knows it.

    Attributes:
        name: its name.
        epoch: the number of its latest process.
        place: host and data folder of that process.
        version: the version of nel-mesh that it runs.
        started_at: when it started.
        heartbeat_at: when it last said that it works.
        ended_at: when it ended, or its work was given to others; None while it works.
        doing: what it worked on at its last heartbeat, each with the time since when.
        drained_at: since when it is to begin nothing; None if it may.
        drained_by: who asked for that.
        drain_reason: why.
        configuration: the version of the configuration that it works by; None: that of its own file.
    """

    name: str
    epoch: int
    place: str
    version: str
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None
    doing: dict[str, str]
    drained_at: datetime | None
    drained_by: str | None
    drain_reason: str | None
    configuration: int | None

    @property
    def owner(self) -> str:
        """What the ledger calls its latest process where that has taken something."""
        return f"{self.name}#{self.epoch}"

    def state(self, now: datetime, *, silent_after: timedelta) -> str:
        """Say how it is: works, silent or ended; and whether it is drained."""
        state = "works"
        if self.ended_at is not None:
            state = "ended"
        elif now - self.heartbeat_at > silent_after:
            state = "silent"
        return state if self.drained_at is None else f"{state}, drained"


class Nodes:
    """The machines of a ledger."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def all(self) -> list[LedgerNode]:
        """List the machines."""
        with self._database.read() as connection:
            return [LedgerNode(**row_values(row)) for row in connection.execute(select(nodes).order_by(nodes.c.name))]

    def start(self, name: str, *, place: str, version: str, alive_within: timedelta) -> LedgerNode | None:
        """Take a name for this process, and fence whatever it writes from now on.

        Args:
            name: the machine's.
            place: host and data folder. A process of the same place has ended: this one has the lock of that folder.
            version: of nel-mesh.
            alive_within: how old the heartbeat of another process of that name may be for it to count as alive.

        Returns:
            The machine; None if another process works under that name.
        """
        now = self._clock.now()
        self._database.fence = None
        with self._database.write() as connection:
            found = self._get(connection, name, for_update=True)
            if found is not None:
                is_elsewhere = found.ended_at is None and found.place != place
                if is_elsewhere and now - found.heartbeat_at < alive_within:
                    return None
                self._free(connection, found)
            values: dict[str, Any] = {
                "place": place,
                "version": version,
                "started_at": now,
                "heartbeat_at": now,
                "ended_at": None,
                "doing": {},
            }
            epoch = found.epoch + 1 if found is not None else 1
            if found is None:
                connection.execute(insert(nodes).values(name=name, epoch=epoch, **values))
            else:
                connection.execute(update(nodes).where(nodes.c.name == name).values(epoch=epoch, **values))
            started = self._get(connection, name)
        if started is None:
            raise StorageError(f"{self._database.place}: the ledger forgot node {name} at once")
        self._database.fence = lambda connection: self._check(connection, name, epoch)
        return started

    def _check(self, connection: Connection, name: str, epoch: int) -> None:
        query = select(nodes.c.name).where(nodes.c.name == name, nodes.c.epoch == epoch, nodes.c.ended_at.is_(None))
        if connection.dialect.name != "sqlite":
            # Held until this transaction ends. Heartbeats do not wait for it; `end` does.
            query = query.with_for_update(read=True, key_share=True)
        if connection.execute(query).one_or_none() is None:
            raise Fenced(
                f"node {name}: its work was given to others, as nothing was heard of it for a while; "
                "this process writes nothing more and ends"
            )

    def beat(self, node: LedgerNode, doing: dict[str, str], configuration: int | None = None) -> bool:
        """Say that this process works, on what, and by which configuration; whether it is drained. Raises Fenced."""
        with self._database.write() as connection:
            values = {"heartbeat_at": self._clock.now(), "doing": doing, "configuration": configuration}
            connection.execute(update(nodes).where(nodes.c.name == node.name).values(**values))
            found = self._get(connection, node.name)
        return found is not None and found.drained_at is not None

    def working(self) -> list[LedgerNode]:
        """List the machines that have not ended, in the order of their names."""
        query = select(nodes).where(nodes.c.ended_at.is_(None)).order_by(nodes.c.name)
        with self._database.read() as connection:
            return [LedgerNode(**row_values(row)) for row in connection.execute(query)]

    def give_to_others(self, node: LedgerNode) -> bool:
        """Take the work of a machine from it, unless it has said something since; whether that was done.

        From here on it writes nothing more, and what it had begun is due.
        """
        now = self._clock.now()
        with self._database.write() as connection:
            found = self._get(connection, node.name, for_update=True)
            if found is None or found.epoch != node.epoch or found.ended_at is not None:
                return False
            if found.heartbeat_at != node.heartbeat_at:
                return False
            connection.execute(update(nodes).where(nodes.c.name == node.name).values(ended_at=now, doing={}))
            self._free(connection, found)
            silence = round((now - found.heartbeat_at).total_seconds(), 1)
            events.append(connection, now, "node lost", details={"node": node.owner, "silent_seconds": silence})
        return True

    def end(self, node: LedgerNode) -> None:
        """Say that this process ends; what it still had is due for others."""
        with self._database.write() as connection:
            connection.execute(
                update(nodes).where(nodes.c.name == node.name).values(ended_at=self._clock.now(), doing={})
            )
            self._free(connection, node)
        self._database.fence = None

    @staticmethod
    def _free(connection: Connection, node: LedgerNode) -> None:
        connection.execute(update(mailboxes).where(mailboxes.c.owner == node.owner).values(owner=None))
        connection.execute(update(messages).where(messages.c.owner == node.owner).values(owner=None))

    def drain(self, name: str, *, actor: str, reason: str) -> None:
        """Let a machine begin nothing more, until it is undrained. Raises InvalidArgument if there is none."""
        now = self._clock.now()
        with self._database.write() as connection:
            if self._known(connection, name).drained_at is None:
                values = {"drained_at": now, "drained_by": actor, "drain_reason": reason}
                connection.execute(update(nodes).where(nodes.c.name == name).values(**values))
                events.append(connection, now, "node drained", actor=actor, details={"node": name, "reason": reason})

    def undrain(self, name: str, *, actor: str, reason: str) -> None:
        """Let a drained machine work again. Raises InvalidArgument if there is none."""
        now = self._clock.now()
        with self._database.write() as connection:
            if self._known(connection, name).drained_at is not None:
                values = {"drained_at": None, "drained_by": None, "drain_reason": None}
                connection.execute(update(nodes).where(nodes.c.name == name).values(**values))
                events.append(connection, now, "node undrained", actor=actor, details={"node": name, "reason": reason})

    def waiting_files(self) -> dict[str, int]:
        """Count the files that wait in the own folders of each machine."""
        query = (
            select(messages.c.node, func.count())
            .where(
                messages.c.node.is_not(None),
                messages.c.direction == Direction.OUT,
                messages.c.is_filed.is_(False),
                messages.c.state.in_(DUE[Direction.OUT]),
            )
            .group_by(messages.c.node)
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _known(self, connection: Connection, name: str) -> LedgerNode:
        found = self._get(connection, name, for_update=True)
        if found is None:
            raise InvalidArgument(f"the ledger has no node {name}; `nel-mesh agent nodes` lists them")
        return found

    @staticmethod
    def _get(connection: Connection, name: str, *, for_update: bool = False) -> LedgerNode | None:
        query = select(nodes).where(nodes.c.name == name)
        if for_update and connection.dialect.name != "sqlite":
            query = query.with_for_update()
        row = connection.execute(query).one_or_none()
        return LedgerNode(**row_values(row)) if row is not None else None
