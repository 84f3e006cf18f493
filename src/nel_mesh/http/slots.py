"""Connection slots of the blocking client: how many connections are open at once, and who is next.

Ctrl-C, or whatever else a signal handler raises, may end a thread's work between any two bytecodes, also between
taking a slot and noting that it was taken. `threading.Semaphore` and `threading.Condition` can then lose a slot, or
keep their lock, and a later call waits for ever. So nothing here is counted and nothing is locked: a slot is an object,
the line of slots refers to each weakly and in order, and a slot whose holder is gone is gone as well.
"""

from __future__ import annotations

import contextlib
import queue
import weakref
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from nel_mesh.http.limits import Deadline, Wait

_Held = TypeVar("_Held")

RECHECK_SECONDS = 0.1
"""How soon a slot is noticed whose holder went without releasing it."""


class Slot(Generic[_Held]):
    """The right to have one connection open, until it is released, or nothing refers to it any more."""

    __slots__ = ("__weakref__", "connection", "wake")

    def __init__(self) -> None:
        self.connection: _Held | None = None
        self.wake: Callable[[], object] | None = None


class SlotLine(Generic[_Held]):
    """All who have a slot or wait for one, oldest first: as many as there are slots have one."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._line: dict[weakref.ref[Slot[_Held]], None] = {}

    def _join(self, slot: Slot[_Held]) -> None:
        self._line[weakref.ref(slot)] = None

    def _has_turn(self, slot: Slot[_Held]) -> bool:
        if len(self._line) <= self._number:
            return True
        ahead = 0
        for reference in list(self._line):
            other = reference()
            if other is None:
                self._line.pop(reference, None)
            elif other is slot or ahead >= self._number:
                break
            else:
                ahead += 1
        return ahead < self._number

    def release(self, slot: Slot[_Held]) -> None:
        """Give a slot back; once more does no harm."""
        self._line.pop(weakref.ref(slot), None)
        if len(self._line) >= self._number:
            for reference in list(self._line)[: self._number]:
                other = reference()
                if other is not None and other.wake is not None:
                    other.wake()

    def connections(self) -> list[_Held]:
        """Return the connections in use."""
        slots = [reference() for reference in list(self._line)]
        return [slot.connection for slot in slots if slot is not None and slot.connection is not None]


class ConnectionSlots(SlotLine[_Held]):
    """The slots of one pool, for threads."""

    def acquire(self, wait: Wait) -> Slot[_Held]:
        """Wait for a slot, and take it. Raise TimeoutError."""
        slot: Slot[_Held] = Slot()
        try:
            self._join(slot)
            if not self._has_turn(slot):
                self._wait_for_turn(slot, wait)
        except BaseException:
            # A traceback would keep it in the line.
            self.release(slot)
            raise
        return slot

    def _wait_for_turn(self, slot: Slot[_Held], wait: Wait) -> None:
        until = Deadline(wait)
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        slot.wake = partial(woken.put, None)
        # Asked again only now: a slot that was released before would have woken nobody.
        while not self._has_turn(slot):
            with contextlib.suppress(queue.Empty):
                woken.get(timeout=min(until.next_wait().seconds, RECHECK_SECONDS))
        slot.wake = None
