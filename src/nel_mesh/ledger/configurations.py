"""The versions of the configuration: who put which there, when and why. The agents work by the newest."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime

from sqlalchemy import func, insert, select

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.clock import Clock
from nel_mesh.ledger import events
from nel_mesh.ledger.database import Database, row_values
from nel_mesh.ledger.schema import configurations


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfiguration:
    """A version of the configuration.

    Attributes:
        number: its number; they grow.
        content: its text, in TOML.
        sha256: of that text, in UTF-8.
        author: who put it there.
        reason: why.
        created_at: when.
        restores: the version that it brings back; None for a new one.
    """

    number: int
    content: str = dataclasses.field(repr=False)
    sha256: str
    author: str
    reason: str
    created_at: datetime
    restores: int | None


class Configurations:
    """The versions of the configuration in a ledger."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, content: str, *, author: str, reason: str, restores: int | None = None) -> LedgerConfiguration:
        """Add a version, which is the newest from then on.

        Args:
            content: its text, checked.
            author: who adds it.
            reason: why.
            restores: the version that it brings back, if it does.
        """
        now = self._clock.now()
        values = {
            "content": content,
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
            "author": author,
            "reason": reason,
            "created_at": now,
            "restores": restores,
        }
        with self._database.write() as connection:
            added = insert(configurations).values(**values).returning(configurations.c.number)
            number: int = connection.execute(added).scalar_one()
            said = {"version": number, "sha256": values["sha256"], "reason": reason, "restores": restores}
            events.append(connection, now, "configuration pushed", actor=author, details=said)
        return self.get(number)

    def get(self, number: int) -> LedgerConfiguration:
        """Look a version up. Raises InvalidArgument."""
        with self._database.read() as connection:
            row = connection.execute(select(configurations).where(configurations.c.number == number)).one_or_none()
        if row is None:
            raise InvalidArgument(f"there is no version {number}; `nel-mesh agent config history` lists them")
        return LedgerConfiguration(**row_values(row))

    def newest_number(self) -> int | None:
        """Return the number of the newest version; None if there is none."""
        with self._database.read() as connection:
            number: int | None = connection.scalar(select(func.max(configurations.c.number)))
        return number

    def newest(self) -> LedgerConfiguration | None:
        """Return the newest version; None if there is none."""
        found = self.all(1)
        return found[0] if found else None

    def all(self, limit: int) -> list[LedgerConfiguration]:
        """List the versions, newest first."""
        query = select(configurations).order_by(configurations.c.number.desc()).limit(limit)
        with self._database.read() as connection:
            return [LedgerConfiguration(**row_values(row)) for row in connection.execute(query)]
