"""This process as one node of the ledger: it says that it works, hears what it is to do, and looks after the others.

A process of which nothing was heard for a while is fenced: its work is given to others, and it ends as soon as it
hears of that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from nel_mesh import StorageError, __version__
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.mailboxes import Fenced
from nel_mesh.ledger.nodes import LedgerNode

logger = logging.getLogger("nel_mesh.agent")

HEARTBEAT_SECONDS = 2.0
"""How often a node of a fleet says that it works."""

ALONE_HEARTBEAT_SECONDS = 30.0
"""The same of an agent that has its ledger for itself: nobody waits for it."""

SILENCE_SECONDS = 10.0
"""After so long without a heartbeat the work of a node is given to others."""

_UNHEARD_SECONDS = 8.0
"""After so long without a heartbeat that arrived, nothing more of a message goes out: others may soon send it."""

_WAIT_SECONDS = 0.5


def place_of(data: Path) -> str:
    """Name this machine and a data folder on it, as the ledger does."""
    return f"{socket.gethostname()}:{data.absolute()}"[:400]


@dataclasses.dataclass(slots=True)
class Membership:
    """A node, while its process works.

    Args:
        ledger: the ledger, opened.
        clock: where time comes from.
        data: the data folder of this process, whose lock it has.
        name: what the fleet calls this machine; None: its host name.
        is_fleet: whether other machines work on the same ledger.
        doing: returns what this process works on, and since when.
        configuration: returns the version of the configuration that it works by; None without one.
        on_lost: called with the reason when the work of this process was given to others.
    """

    ledger: Ledger
    clock: Clock
    data: Path
    name: str | None
    is_fleet: bool
    doing: Callable[[], dict[str, datetime]]
    configuration: Callable[[], int | None]
    on_lost: Callable[[str], object]
    node: LedgerNode | None = None
    is_drained: bool = False
    _stopped: threading.Event = dataclasses.field(default_factory=threading.Event)
    _is_due: threading.Event = dataclasses.field(default_factory=threading.Event)
    _last_beat: float = 0.0
    _last_look: float = -math.inf
    _silences: dict[str, tuple[datetime, float]] = dataclasses.field(default_factory=dict)
    """Of each other process: its last heartbeat, and for how many seconds this one has seen no later one."""

    @property
    def owner(self) -> str:
        """What the ledger calls this process where it has taken something."""
        return self.node.owner if self.node is not None else f"{socket.gethostname()}:{os.getpid()}"

    @contextlib.contextmanager
    def joined(self, is_over: Callable[[], bool]) -> Iterator[None]:
        """Be a node while the block runs.

        Raises:
            StorageError: another process works under this name, and does not end.
        """
        self._start(is_over)
        thread = threading.Thread(target=self._beat_until_stopped, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._is_due.set()
            thread.join(SILENCE_SECONDS)
            with contextlib.suppress(StorageError):
                if self.node is not None:
                    self.ledger.nodes.end(self.node)

    def _start(self, is_over: Callable[[], bool]) -> None:
        name = self.name or socket.gethostname()
        place = place_of(self.data)
        if not self.is_fleet:
            # Nobody else can be working: this process has the lock of the ledger's folder.
            for other in self.ledger.nodes.working():
                self.ledger.nodes.give_to_others(other)
        within = timedelta(seconds=SILENCE_SECONDS)
        end = self.clock.monotonic() + 3 * SILENCE_SECONDS
        while True:
            self.node = self.ledger.nodes.start(name, place=place, version=__version__, alive_within=within)
            if self.node is not None:
                break
            if is_over() or self.clock.monotonic() >= end:
                raise StorageError(
                    f"node {name}: another process of the fleet works under this name; give this one a name of its own "
                    "([agent] node)"
                )
            self._stopped.wait(_WAIT_SECONDS)
        self.is_drained = self.node.drained_at is not None
        self._beat()

    def beat_soon(self) -> None:
        """Have the ledger hear of what is new here, such as another configuration, before the next heartbeat is due."""
        self._is_due.set()

    def _beat_until_stopped(self) -> None:
        interval = HEARTBEAT_SECONDS if self.is_fleet else ALONE_HEARTBEAT_SECONDS
        is_failing = False
        while True:
            self._is_due.wait(interval)
            if self._stopped.is_set():
                return
            self._is_due.clear()
            try:
                self._beat()
            except Fenced as error:
                self.on_lost(str(error))
                return
            except StorageError as error:
                if not is_failing:
                    logger.warning("No heartbeat: %s; it is tried again", error)
                is_failing = True
                continue
            if is_failing:
                logger.info("The ledger can be used again")
            is_failing = False

    def _beat(self) -> None:
        if self.node is None:
            return
        now = self.clock.monotonic()
        doing = {key: since.isoformat() for key, since in sorted(self.doing().items())}
        is_drained = self.ledger.nodes.beat(self.node, doing, self.configuration())
        self._last_beat = now
        if is_drained != self.is_drained:
            logger.info("This node is %s", "drained: it begins nothing more" if is_drained else "undrained")
        self.is_drained = is_drained

    def check_heard(self) -> None:
        """Raise StorageError if others may have the work of this process by now, or soon.

        MESH takes a message twice, and no fence in the ledger keeps a process from going on with a request. So it asks
        before each block of content, at no cost. One that was frozen in the middle of a request finds out here.
        """
        if self.is_fleet and self.clock.monotonic() - self._last_beat > _UNHEARD_SECONDS:
            raise StorageError(
                f"the ledger has not heard of this process for {_UNHEARD_SECONDS:.0f} s, so it stops sending"
            )

    def look_after_others(self) -> None:
        """Give the work of silent nodes to others. To be called about once a second.

        A node is silent if this process has seen no new heartbeat of it for a while. No clock of another machine
        counts, and no time in which this process did not look.
        """
        working = self.ledger.nodes.working()
        now = self.clock.monotonic()
        passed, self._last_look = now - self._last_look, now
        before, self._silences = self._silences, {}
        if passed > SILENCE_SECONDS:
            # It was cut off, or frozen: so may the others have been, and they get the time to say so.
            before = {}
        failure: StorageError | None = None
        for node in working:
            if self.node is None or node.name == self.node.name:
                continue
            heartbeat_at, seconds = before.get(node.owner, (None, 0.0))
            # Where looks come late for as long as there is too much to do, each of them counts for something still.
            seconds = seconds + min(passed, HEARTBEAT_SECONDS) if heartbeat_at == node.heartbeat_at else 0.0
            self._silences[node.owner] = (node.heartbeat_at, seconds)
            if seconds < SILENCE_SECONDS:
                continue
            try:
                is_given = self.ledger.nodes.give_to_others(node)
            except StorageError as error:
                # Its row is locked; that of the next one may not be.
                failure = error
                continue
            if is_given:
                logger.warning(
                    "Nothing was heard of node %s for %.0f s: its work is done by others", node.name, SILENCE_SECONDS
                )
        if failure is not None:
            raise failure
