"""Connection slots of the async client; see `slots.py`."""

from __future__ import annotations

from typing import TypeVar

import anyio
import anyio.lowlevel

from nel_mesh.errors import InvalidArgument
from nel_mesh.http.async_limits import running_asyncio_loop, time_limit
from nel_mesh.http.limits import Wait
from nel_mesh.http.slots import RECHECK_SECONDS, Slot, SlotLine

_Held = TypeVar("_Held")


class AsyncConnectionSlots(SlotLine[_Held]):
    """The slots of one pool, for the tasks of one event loop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._loop: object | None = None

    async def acquire(self, wait: Wait) -> Slot[_Held]:
        """As `ConnectionSlots.acquire`. Raise InvalidArgument in another event loop than before."""
        self._check_loop()
        slot: Slot[_Held] = Slot()
        try:
            self._join(slot)
            if not self._has_turn(slot):
                with time_limit(wait):
                    await self._wait_for_turn(slot)
        except BaseException:
            self.release(slot)
            raise
        return slot

    async def _wait_for_turn(self, slot: Slot[_Held]) -> None:
        while not self._has_turn(slot):
            woken = anyio.Event()
            slot.wake = woken.set
            with anyio.move_on_after(RECHECK_SECONDS):
                await woken.wait()
        slot.wake = None

    def _check_loop(self) -> None:
        loop = running_asyncio_loop() or _trio_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise InvalidArgument(
                "the client was used in another event loop before; make one client in each event loop (asyncio.run)"
            )


def _trio_loop() -> object:
    try:
        return _this_loop.get()
    except LookupError:
        loop = object()
        _this_loop.set(loop)
        return loop


_this_loop: anyio.lowlevel.RunVar[object] = anyio.lowlevel.RunVar("nel_mesh_loop")
"""An object that stands for the event loop of trio that runs."""
