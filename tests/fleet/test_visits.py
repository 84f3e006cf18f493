"""The measure of the fleet's trials: which visits and requests count as overlapping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from visits import Findings, Request, Step, judge, steps_of, watch_visits

from nel_mesh.ledger.ledger import FILE_NAME, Ledger

pytest_plugins = ["ledger_fixtures"]

BOX = "X26ABC1"


def at(seconds: float) -> datetime:
    return datetime(2026, 11, 26, tzinfo=UTC) + timedelta(seconds=seconds)


def step(seconds: float, what: str, owner: str, *, is_due: bool = True) -> Step:
    subject = BOX if what in ("begin", "end") else owner.partition("#")[0]
    return Step(at(seconds), what, subject, owner, is_due)


def request(seconds: float, node: str, operation: str = "list_messages") -> Request:
    return Request(at(seconds), operation, BOX, node)


VISIT = [step(0, "start", "one#1"), step(1, "begin", "one#1"), step(3, "end", "one#1")]


@pytest.mark.parametrize(
    ("steps", "requests", "found"),
    [
        (VISIT, [request(2, "one")], Findings(visits=1)),
        ([*VISIT, step(4, "begin", "two#1")], [request(2, "one"), request(5, "two")], Findings(visits=2)),
        ([*VISIT, step(2, "begin", "two#1")], [], Findings(visits=2, overlapping=1)),
        (VISIT, [request(2, "two", "acknowledge_message")], Findings(visits=1, overlapping=1)),
        (VISIT, [request(2, "two", "send_message")], Findings(visits=1)),
        ([*VISIT, step(4, "begin", "two#1", is_due=False)], [], Findings(visits=2, early=1)),
        ([*VISIT[:2], step(2, "begin", "one#1")], [], Findings(visits=2)),
        (
            [*VISIT[:2], step(12, "lost", "one#1"), step(12, "end", "one#1"), step(13, "begin", "two#1")],
            [request(14, "one"), request(14, "one", "acknowledge_message"), request(14, "one", "send_chunk")],
            Findings(visits=2, late_reads=1, late_acknowledgements=1, late_sends=1),
        ),
        (
            [*VISIT, step(12, "lost", "one#1"), step(13, "start", "one#2"), step(14, "begin", "one#2")],
            [request(15, "one")],
            Findings(visits=2),
        ),
    ],
)
def test_visits_are_judged_by_who_may_write(steps: list[Step], requests: list[Request], found: Findings) -> None:
    assert judge(steps, requests) == found


def test_the_database_notes_the_visits(place: Path | str) -> None:
    noted = place / FILE_NAME if isinstance(place, Path) else place
    with Ledger(place) as ledger:
        watch_visits(noted)
        node = ledger.nodes.start("one", place="here", version="1", alive_within=timedelta(seconds=10))
        assert node is not None
        ledger.mailboxes.configure([BOX])
        visit = ledger.mailboxes.begin_visit(BOX, node.owner)
        assert visit is not None
        ledger.mailboxes.end_visit(BOX, visit.epoch, ledger.clock.now() + timedelta(hours=1), None)
        assert ledger.mailboxes.begin_visit(BOX, node.owner) is not None
        ledger.nodes.give_to_others(node)
    steps = steps_of(noted)
    assert [(one.what, one.subject, one.is_due) for one in steps] == [
        ("start", "one", True),
        ("begin", BOX, True),
        ("end", BOX, True),
        ("begin", BOX, False),
        ("lost", "one", True),
        ("end", BOX, True),
    ]
    assert judge(steps, []) == Findings(visits=2, early=1)
