"""This process as one node of the ledger: it says that it works, hears what it is to do, and looks after the others.

A process of which nothing was heard for a while is fenced: its work is given to others, and it ends as soon as it
hears of that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
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
    _well_since: float | None = None
    _last_beat: float = 0.0

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
            for other in self.ledger.nodes.all():
                self.ledger.nodes.give_to_others(other, timedelta(0))
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
                self._well_since = None
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
        if self._well_since is None or now - self._last_beat > SILENCE_SECONDS / 2:
            # It was cut off, or frozen: so may the others have been, and they get the time to say so.
            self._well_since = now
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
        """Give the work of silent nodes to others; not until this one has been heard for as long itself."""
        if self._well_since is None or self.clock.monotonic() - self._well_since < SILENCE_SECONDS:
            return
        within = timedelta(seconds=SILENCE_SECONDS)
        for node in self.ledger.nodes.silent(within):
            if self.node is not None and node.name != self.node.name and self.ledger.nodes.give_to_others(node, within):
                logger.warning(
                    "Nothing was heard of node %s for %.0f s: its work is done by others", node.name, SILENCE_SECONDS
                )
