"""The check of the audit's chain, in a thread of its own: a million events take half a minute, and no page waits.

What was found is an event of the audit itself. From it the next check goes on, of this console or of another.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from datetime import datetime

from nel_mesh import InvalidArgument, MeshError
from nel_mesh.ledger.chain import ChainPoint, check_chain
from nel_mesh.ledger.ledger import Ledger

CHECKED = "audit checked"

logger = logging.getLogger("nel_mesh.console")


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the last check has found.

    Attributes:
        at: when.
        actor: who asked for it.
        broken: the first event that does not follow; 0: the last one is missing; None: the chain is whole.
        verified: up to where it was found whole.
    """

    at: datetime
    actor: str
    broken: int | None
    verified: ChainPoint | None


class ChainChecks:
    """Checks of the chain of a ledger, one at a time.

    Args:
        ledger: the ledger.
        stopping: set when the console is about to end.
    """

    def __init__(self, ledger: Ledger, stopping: threading.Event) -> None:
        self._ledger = ledger
        self._stopping = stopping
        self._running = threading.Lock()
        self._reached: int | None = None

    @property
    def reached(self) -> int | None:
        """The number of the event that a check is at; None if none is being made."""
        return self._reached

    def begin(self, *, actor: str, is_whole: bool) -> None:
        """Begin a check of what came since the last one, or of the whole chain.

        Raises:
            InvalidArgument: one is being made.
            StorageError: the ledger cannot be read.
        """
        if not self._running.acquire(blocking=False):
            raise InvalidArgument("the chain is being checked already; look again in a moment")
        try:
            verdict = None if is_whole else self.last()
            since = verdict.verified if verdict is not None else None
            self._reached = 0
            threading.Thread(target=self._run, args=(actor, since), name="audit check", daemon=True).start()
        except BaseException:
            self._reached = None
            self._running.release()
            raise

    def _run(self, actor: str, since: ChainPoint | None) -> None:
        try:
            found = check_chain(self._ledger.database, since, goes_on=self._goes_on)
            if found is not None:
                verified = dataclasses.asdict(found.verified) if found.verified is not None else None
                self._ledger.note(
                    CHECKED, actor=actor, first_broken=found.broken, verified=verified, is_whole=since is None
                )
        except MeshError as error:
            logger.warning("the chain of the audit could not be checked: %s", error.reason)
        finally:
            self._reached = None
            self._running.release()

    def _goes_on(self, number: int) -> bool:
        self._reached = number
        return not self._stopping.is_set()

    def last(self) -> Verdict | None:
        """Return what the last check has found; None if there was none, or what it found cannot be read."""
        for event in self._ledger.search.events(kind=CHECKED, limit=1):
            match event.details:
                case {"first_broken": int() | None as broken, "verified": {"number": int(number), "hash": str(text)}}:
                    return Verdict(event.at, event.actor, broken, ChainPoint(number, text))
                case {"first_broken": int() | None as broken, "verified": None}:
                    return Verdict(event.at, event.actor, broken, None)
            # It is not as it was written: the next check begins at the beginning, and finds that.
        return None
