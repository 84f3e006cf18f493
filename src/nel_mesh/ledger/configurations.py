"""The configuration of a fleet, in the ledger: each version is kept, and the newest one is in use."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from sqlalchemy import insert, select

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.clock import Clock
from nel_mesh.ledger import events
from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.schema import configurations


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationVersion:
    """One version of the configuration.

    Attributes:
        version: its number.
        text: the TOML.
        pushed_at: when it came into the ledger.
        pushed_by: who brought it.
        reason: why.
    """

    version: int
    text: str = dataclasses.field(repr=False)
    pushed_at: datetime
    pushed_by: str
    reason: str


class Configurations:
    """The versions of the configuration in a ledger."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def newest(self) -> ConfigurationVersion | None:
        """Return the version in use; None if there is none."""
        return next(iter(self.history(limit=1)), None)

    def get(self, version: int) -> ConfigurationVersion:
        """Return a version. Raises InvalidArgument if there is none."""
        with self._database.read() as connection:
            row = connection.execute(select(configurations).where(configurations.c.version == version)).one_or_none()
        if row is None:
            raise InvalidArgument(
                f"the ledger has no version {version} of the configuration; `nel-mesh agent config history` lists them"
            )
        return ConfigurationVersion(**row_values(row))

    def history(self, *, limit: int) -> list[ConfigurationVersion]:
        """List the versions, newest first."""
        query = select(configurations).order_by(configurations.c.version.desc()).limit(limit)
        with self._database.read() as connection:
            return [ConfigurationVersion(**row_values(row)) for row in connection.execute(query)]

    def push(self, text: str, *, actor: str, reason: str) -> ConfigurationVersion:
        """Make a text the newest version; it is in use from now on. The same text again is no new version."""
        newest = self.newest()
        if newest is not None and newest.text == text:
            return newest
        now = self._clock.now()
        values = {"text": text, "pushed_at": now, "pushed_by": actor, "reason": reason}
        with self._database.write() as connection:
            row = connection.execute(insert(configurations).values(**values).returning(configurations)).one()
            pushed = ConfigurationVersion(**row_values(row))
            said = {"version": pushed.version, "reason": reason}
            events.append(connection, now, "configuration pushed", actor=actor, details=said)
        return pushed
