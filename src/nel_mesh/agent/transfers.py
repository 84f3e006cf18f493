"""Transfers that outlast their visit: they go on in a thread of their own, and do not hold their mailbox.

Each message that is being received or sent has a lease in the ledger, by which no other process begins it. The lease
ends with the attempt, or with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from nel_mesh.io.clock import Clock

_LOOK_SECONDS = 0.2


class Transfers:
    """What this process is receiving and sending.

    Args:
        clock: where time comes from.
        on_error: called with a name and an error that came after its visit had ended.
    """

    def __init__(self, clock: Clock, on_error: Callable[[str, Exception], object]) -> None:
        self._clock = clock
        self._on_error = on_error
        self._guard = threading.Lock()
        self._held: set[int] = set()
        self._outlasting: dict[threading.Thread, tuple[str, datetime]] = {}

    @contextmanager
    def held(self, numbers: Iterable[int]) -> Iterator[None]:
        """Work on messages, by their numbers in the ledger, while the block runs."""
        ours = set(numbers)
        with self._guard:
            self._held |= ours
        try:
            yield
        finally:
            with self._guard:
                self._held -= ours

    def holds(self) -> set[int]:
        """Return the messages that are being worked on."""
        with self._guard:
            return set(self._held)

    def running(self) -> dict[str, datetime]:
        """Return the transfers whose visit has ended, and since when they run."""
        with self._guard:
            return dict(self._outlasting.values())

    def run(self, name: str, work: Callable[[], object], is_due: Callable[[], bool]) -> bool:
        """Do work, for as long as the visit lasts; whether it has ended by then. If not, it goes on.

        Args:
            name: what it is, for people.
            work: the work. What it raises is raised here, or told `on_error` later.
            is_due: whether the visit is to end.
        """
        errors: list[Exception] = []
        ended = threading.Event()
        began = self._clock.now()

        def do() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - it is raised in the thread of the visit, or told
                errors.append(error)
            with self._guard:
                is_alone = self._outlasting.pop(threading.current_thread(), None) is not None
                ended.set()
            if is_alone and errors:
                self._on_error(name, errors[0])

        thread = threading.Thread(target=do, name="transfer", daemon=True)
        thread.start()
        while not ended.wait(_LOOK_SECONDS):
            if is_due():
                with self._guard:
                    if not ended.is_set():
                        self._outlasting[thread] = (f"{name} {thread.ident}", began)
                        return False
        if errors:
            raise errors[0]
        return True

    def wait(self) -> None:
        """Wait for what has outlasted its visit."""
        while True:
            with self._guard:
                threads = list(self._outlasting)
            if not threads:
                return
            for thread in threads:
                thread.join()
