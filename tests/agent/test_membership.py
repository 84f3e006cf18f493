"""When the work of a node is given to others, and by whom."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from agents import until
from ledgers import MovableClock
from sqlalchemy import select

from nel_mesh import StorageError, __version__
from nel_mesh.agent.membership import SILENCE_SECONDS, Membership
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.schema import nodes

pytest_plugins = ["ledger_fixtures"]


class Fleet:
    """A node that looks after others, and the others, each with a connection and a clock of its own."""

    def __init__(self, url: str, watcher: Membership, clock: MovableClock, stack: contextlib.ExitStack) -> None:
        self.url, self.watcher, self.clock, self.stack = url, watcher, clock, stack

    def join(self, name: str, clock: MovableClock | None = None) -> Callable[[], object]:
        """Add a node; return what lets it say that it works."""
        ledger = self.stack.enter_context(Ledger(self.url, clock=clock or self.clock))
        alive_within = timedelta(seconds=SILENCE_SECONDS)
        node = ledger.nodes.start(name, place=name, version=__version__, alive_within=alive_within)
        assert node is not None
        return partial(ledger.nodes.beat, node, {})

    def look(self, times: int, *, every: float = 1.0) -> None:
        """Look after others again and again; the watcher's own heartbeats arrive as often."""
        for _ in range(times):
            self.clock.advance(seconds=every)
            self.watcher.beat_soon()
            until(lambda: self.heartbeats()["watcher"] == self.clock.now())
            self.watcher.look_after_others()

    def heartbeats(self) -> dict[str, object]:
        return {one.name: one.heartbeat_at for one in self.watcher.ledger.nodes.all()}

    def lost(self) -> list[str]:
        return [one.name for one in self.watcher.ledger.nodes.all() if one.ended_at is not None]


@pytest.fixture
def fleet(postgresql_url: str, clock: MovableClock, tmp_path: Path) -> Iterator[Fleet]:
    # A lock that is not let go is waited for a tenth of a second, not for ten.
    with Ledger(f"{postgresql_url}?options=-c%20lock_timeout%3D100ms", clock=clock) as ledger:
        watcher = Membership(
            ledger,
            clock,
            data=tmp_path,
            name="watcher",
            is_fleet=True,
            doing=dict,
            configuration=lambda: None,
            on_lost=lambda reason: None,
        )
        with watcher.joined(lambda: False), contextlib.ExitStack() as stack:
            yield Fleet(postgresql_url, watcher, clock, stack)


def test_a_node_that_says_nothing_loses_its_work_after_a_while(fleet: Fleet) -> None:
    fleet.join("silent")
    fleet.look(int(SILENCE_SECONDS))
    assert fleet.lost() == []
    fleet.look(1)
    assert fleet.lost() == ["silent"]


def test_a_node_whose_own_looks_and_heartbeats_are_slow_looks_after_others(fleet: Fleet) -> None:
    """On a machine with far too much to do, both come late for as long as that lasts."""
    fleet.join("silent")
    fleet.look(7, every=6)
    assert fleet.lost() == ["silent"]


def test_the_others_get_time_after_a_pause_of_ones_own(fleet: Fleet) -> None:
    """The database was away, or this machine was frozen: so may the others have been."""
    fleet.join("other")
    fleet.look(8)
    fleet.look(1, every=60)
    fleet.look(int(SILENCE_SECONDS) - 1)
    assert fleet.lost() == []
    fleet.look(1)
    assert fleet.lost() == ["other"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_of_other_machines_do_not_count(fleet: Fleet, hours: int) -> None:
    theirs = MovableClock()
    theirs.advance(hours=hours)
    beat = fleet.join("other", theirs)
    for _ in range(8):
        fleet.look(2)
        theirs.advance(seconds=2)
        beat()
    assert fleet.lost() == []
    fleet.look(int(SILENCE_SECONDS) + 1)
    assert fleet.lost() == ["other"]


def test_a_node_whose_row_is_locked_does_not_keep_the_work_of_another(fleet: Fleet) -> None:
    """A connection that was cut off without a word holds its locks until the server gives it up."""
    fleet.join("locked")
    fleet.join("silent")
    with Ledger(fleet.url) as ledger, ledger.database.read() as connection:
        connection.execute(select(nodes).where(nodes.c.name == "locked").with_for_update(key_share=True, read=True))
        fleet.look(int(SILENCE_SECONDS))
        with pytest.raises(StorageError, match="lock timeout"):
            fleet.look(1)
        assert fleet.lost() == ["silent"]
    fleet.look(1)
    assert fleet.lost() == ["locked", "silent"]
