"""The ledger, in a real database."""

from __future__ import annotations

import dataclasses
import os
import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledgers import MovableClock
from sqlalchemy import Engine, event, insert, text, update

from nel_mesh import Gone, IntegrityError, InvalidArgument, JournalEntry, MessageMetadata, Report, StorageError
from nel_mesh.ledger.attention import look
from nel_mesh.ledger.chain import check_chain
from nel_mesh.ledger.database import HEAD
from nel_mesh.ledger.ledger import FILE_NAME, Ledger
from nel_mesh.ledger.mailboxes import Fenced
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.outgoing import NewSend
from nel_mesh.ledger.schema import messages, metadata
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction, Event, State

pytest_plugins = ["ledger_fixtures"]

A, B = "X26ABC1", "X26ABC2"


@pytest.fixture(autouse=True)
def _mailboxes(ledger: Ledger) -> None:
    ledger.mailboxes.configure([A, B])


def listed(ledger: Ledger, *ids: str) -> list[LedgerMessage]:
    ledger.incoming.note_listed(A, ids)
    return ledger.incoming.due(A, ids)


def sent(ledger: Ledger, name: str = "a.csv", **options: str) -> LedgerMessage:
    options = {"to": B, "workflow_id": "WF", "subject": "Jane Doe", **options}
    return ledger.outgoing.add(
        A, [NewSend(source=f"/out/{name}", stamp="1:2:3", options=options, route=0, file_name=name, length=1)]
    )[0]


def accepted(ledger: Ledger, message: LedgerMessage, message_id: str = "M1") -> LedgerMessage:
    ledger.messages.begin([message.id])
    return ledger.outgoing.accepted(message.id, message_id=message_id, length=1, track_after_in_seconds=600)


def entry(ledger: Ledger, message_id: str, metadata: MessageMetadata | None = None) -> JournalEntry:
    return JournalEntry(
        mailbox_id=A,
        message_id=message_id,
        delivered_at=ledger.clock.now(),
        location="/in/a",
        bytes=3,
        metadata=metadata or MessageMetadata(message_id=message_id, subject="Jane Doe"),
    )


def change(ledger: Ledger, statement: str) -> None:
    with ledger.database.write() as connection:
        connection.execute(text(statement))


def broken(ledger: Ledger) -> int | None:
    checked = check_chain(ledger.database)
    assert checked is not None
    return checked.broken


def test_the_migrations_make_the_schema(ledger: Ledger) -> None:
    with ledger.database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    with Ledger(tmp_path):
        assert os.name == "nt" or stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_ledger_of_a_later_version_is_used_as_it_is(place: Path | str, ledger: Ledger, clock: MovableClock) -> None:
    change(ledger, "UPDATE alembic_version SET version_num = '9999'")
    with Ledger(place, clock=clock) as earlier:
        assert [mailbox.mailbox_id for mailbox in earlier.mailboxes.all()] == [A, B]


def test_a_connection_that_is_in_use_is_closed_once_it_is_given_back(ledger: Ledger) -> None:
    with ledger.database.read() as connection:
        driver = connection.connection.dbapi_connection
        ledger.close()
        assert connection.scalar(text("SELECT 1")) == 1
    assert driver is not None
    with pytest.raises(Exception, match="closed"):
        driver.cursor().execute("SELECT 1")


def test_a_ledger_that_cannot_be_opened_keeps_no_connection(place: Path | str, ledger: Ledger) -> None:
    with ledger.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0'"))
    drivers: list[Any] = []

    def note(driver: Any, _record: object) -> None:
        drivers.append(driver)

    event.listen(Engine, "connect", note)
    try:
        with pytest.raises(Exception, match="revision"):
            Ledger(place).open()
    finally:
        event.remove(Engine, "connect", note)
    assert len(drivers) > 1
    for driver in drivers:
        with pytest.raises(Exception, match="closed"):
            driver.cursor().execute("SELECT 1")


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but longer than its first page's head" * 50)
    with pytest.raises(StorageError, match=FILE_NAME), Ledger(tmp_path):
        pass


def test_a_message_is_listed_once_and_due_until_it_is_acknowledged(ledger: Ledger) -> None:
    listed(ledger, "M1", "M2")
    assert [one.message_id for one in listed(ledger, "M1", "M2")] == ["M1", "M2"]
    assert len(ledger.search.messages(Filter())) == 2


def test_stored_once_every_destination_has_it(ledger: Ledger) -> None:
    [message] = listed(ledger, "M1")
    ledger.incoming.choose_destinations(message.id, ["/a", "/b"], None)
    ledger.messages.begin([message.id])
    first = ledger.journal(owner=None, destination="/a")
    first.add(entry(ledger, "M1"))
    assert ledger.messages.get(message.id).state is State.FETCHING
    assert first.find(A, "M1") is not None
    second = ledger.journal(owner=None, destination="/b")
    assert second.find(A, "M1") is None
    second.add(entry(ledger, "M1"))
    second.add(entry(ledger, "M1"))
    stored = ledger.messages.get(message.id)
    assert (stored.state, stored.subject, stored.bytes) == (State.STORED, "Jane Doe", 3)
    assert [copy.destination for copy in ledger.search.copies(message.id)] == ["/a", "/b"]
    assert "Jane" not in repr(stored)


def begin(ledger: Ledger) -> int:
    begun = ledger.mailboxes.begin_visit(A, "me")
    assert begun is not None
    return begun.epoch


def test_a_message_that_was_taken_over_is_not_recorded_by_its_first_owner(ledger: Ledger) -> None:
    [message] = listed(ledger, "M1")
    ledger.messages.begin([message.id], "one")
    assert listed(ledger, "M1") == []
    assert ledger.messages.begin([message.id], "two") == []
    journal = ledger.journal(owner="one", destination="/a")
    ledger.messages.let_go([message.id], "one")
    assert [one.owner for one in ledger.messages.begin([message.id], "two")] == ["two"]
    with pytest.raises(Fenced, match="taken over"):
        journal.add(entry(ledger, "M1"))
    assert journal.find(A, "M1") is None
    ledger.journal(owner="two", destination="/a").add(entry(ledger, "M1"))
    assert ledger.messages.get(message.id).state is State.STORED


def test_a_mailbox_is_visited_by_one_process_at_a_time(ledger: Ledger) -> None:
    assert ledger.mailboxes.begin_visit(A, "one") is not None
    assert ledger.mailboxes.due() == [B]
    assert ledger.mailboxes.begin_visit(A, "two") is None


def test_a_job_that_waited_while_another_machine_visited_makes_no_visit(ledger: Ledger, clock: MovableClock) -> None:
    """It was made when the mailbox was due; by its turn another machine may have been there."""
    epoch = begin(ledger)
    ledger.mailboxes.end_visit(A, epoch, clock.now() + timedelta(minutes=5), None)
    assert ledger.mailboxes.begin_visit(A, "two", if_due=True) is None
    clock.advance(minutes=5)
    assert ledger.mailboxes.begin_visit(A, "two", if_due=True) is not None


def test_a_lost_node_is_fenced_and_its_work_is_due(place: Path | str, ledger: Ledger, clock: MovableClock) -> None:
    within = timedelta(seconds=10)
    with Ledger(place, clock=clock) as lost:
        node = lost.nodes.start("one", place="here:/data", version="1", alive_within=within)
        assert node is not None
        [message] = listed(ledger, "M1")
        lost.mailboxes.begin_visit(A, node.owner)
        lost.messages.begin([message.id], node.owner)
        lost.nodes.beat(node, {f"visit {A}": "now"})
        assert ledger.nodes.start("one", place="there:/data", version="1", alive_within=within) is None
        [before] = ledger.nodes.working()
        clock.advance(seconds=1)
        lost.nodes.beat(node, {})
        assert not ledger.nodes.give_to_others(before)
        [found] = ledger.nodes.working()
        assert ledger.nodes.give_to_others(found)
        assert not ledger.nodes.give_to_others(found)
        assert ledger.nodes.working() == []
        assert set(ledger.mailboxes.due()) == {A, B}
        assert [one.id for one in listed(ledger, "M1")] == [message.id]
        for write in (
            lambda: lost.nodes.beat(node, {}),
            lambda: lost.incoming.note_listed(A, ["M2"]),
            lambda: lost.sends.record("1").write(b"x"),
            lambda: lost.mailboxes.listed(A, 3),
        ):
            with pytest.raises(Fenced, match="node one"):
                write()
        again = ledger.nodes.start("one", place="there:/data", version="2", alive_within=within)
    assert again is not None
    assert (again.epoch, again.owner) == (node.epoch + 1, "one#2")
    assert broken(ledger) is None


def test_a_process_that_starts_again_in_its_folder_takes_its_own_work_over_at_once(ledger: Ledger) -> None:
    within = timedelta(seconds=10)
    first = ledger.nodes.start("one", place="here:/data", version="1", alive_within=within)
    assert first is not None
    ledger.mailboxes.begin_visit(A, first.owner)
    second = ledger.nodes.start("one", place="here:/data", version="1", alive_within=within)
    assert second is not None
    assert set(ledger.mailboxes.due()) == {A, B}
    ledger.nodes.drain("one", actor="ann", reason="a new disk")
    assert ledger.nodes.beat(second, {})
    ledger.nodes.undrain("one", actor="ann", reason="made up")
    assert not ledger.nodes.beat(second, {})
    with pytest.raises(InvalidArgument, match="no node two"):
        ledger.nodes.drain("two", actor="ann", reason="")
    ledger.nodes.end(second)
    assert [node.ended_at is not None for node in ledger.nodes.all()] == [True]


def test_a_file_of_one_machine_is_sent_by_that_machine(ledger: Ledger) -> None:
    def note(node: str | None) -> LedgerMessage:
        new = NewSend(source="/out/a", stamp="1:2:3", options={}, route=0, file_name="a", length=1, node=node)
        return ledger.outgoing.add(A, [new])[0]

    ours, theirs, shared = note("one"), note("two"), note(None)
    assert note("one").id == ours.id
    assert [one.id for one in ledger.outgoing.due(A, 9, "one")] == [ours.id]
    assert [one.id for one in ledger.outgoing.due(A, 9)] == [shared.id]
    assert ledger.outgoing.mailboxes_waiting("two") == {A}
    assert ledger.outgoing.unfiled_sources(A, "two") == {("/out/a", "1:2:3")}
    assert ledger.nodes.waiting_files() == {"one": 1, "two": 1}
    assert theirs.node == "two"


def test_a_message_that_left_the_inbox_is_gone_and_comes_back_if_it_is_listed_again(ledger: Ledger) -> None:
    listed(ledger, "M1", "M2")
    ledger.incoming.vanish(A, ["M2"])
    assert [one.state for one in ledger.messages.find("M1")] == [State.GONE]
    assert [one.message_id for one in listed(ledger, "M1")] == ["M1"]


def test_a_failed_attempt_waits_and_the_last_one_condemns(ledger: Ledger, clock: MovableClock) -> None:
    [message] = listed(ledger, "M1")
    ledger.messages.begin([message.id])
    later = clock.now() + timedelta(seconds=30)
    error = IntegrityError("the checksum differs")
    ledger.messages.fail(message.id, Event.FAILED, error, next_attempt_at=later, is_its_own=True)
    assert listed(ledger, "M1") == []
    clock.advance(seconds=31)
    [again] = listed(ledger, "M1")
    assert (again.own_failures, again.reason) == (1, "the checksum differs")
    ledger.messages.begin([message.id])
    ledger.messages.fail(message.id, Event.CONDEMNED, error, next_attempt_at=None, is_its_own=True)
    assert listed(ledger, "M1") == []
    [attention] = look(ledger.database, clock.now())
    assert (attention.kind, attention.needs_person, attention.message) == ("quarantined", True, message.id)


def test_a_report_is_linked_to_what_it_is_about(ledger: Ledger) -> None:
    message = accepted(ledger, sent(ledger), "M1")
    [report] = listed(ledger, "R1")
    ledger.messages.begin([report.id])
    headers = Report(
        message_id="R1", message_type="REPORT", linked_message_id="M1", status_event="SEND", status_code="14"
    )
    ledger.journal(owner=None, destination="/a").add(entry(ledger, "R1", headers))
    after = ledger.messages.get(message.id)
    assert (after.state, after.status_code) == (State.UNDELIVERED, "14")
    assert [one.message_id for one in ledger.search.reports_about(after)] == ["R1"]


def test_the_same_file_is_one_message_until_it_is_filed(ledger: Ledger) -> None:
    message = sent(ledger)
    assert sent(ledger).id == message.id
    accepted(ledger, message)
    assert sent(ledger).id == message.id
    ledger.outgoing.filed(message.id, "/sent/a.csv")
    assert sent(ledger).id != message.id


def test_tracking_grows_slower_and_ends(ledger: Ledger, clock: MovableClock) -> None:
    message = accepted(ledger, sent(ledger))
    assert ledger.outgoing.to_track(A, 10) == []
    clock.advance(seconds=601)
    assert [one.id for one in ledger.outgoing.to_track(A, 10)] == [message.id]
    ledger.outgoing.tracked(message.id, None, wait_in_seconds=1200)
    assert ledger.outgoing.to_track(A, 10) == []
    clock.advance(seconds=1201)
    ledger.outgoing.tracked(message.id, Event.COLLECTED, wait_in_seconds=0)
    assert ledger.messages.get(message.id).state is State.COLLECTED


def test_a_message_that_nobody_collects_raises_an_alarm_a_day_before_it_expires(
    ledger: Ledger, clock: MovableClock
) -> None:
    accepted(ledger, sent(ledger))
    clock.advance(days=3.9)
    assert look(ledger.database, clock.now()) == []
    clock.advance(days=0.2)
    [attention] = look(ledger.database, clock.now())
    assert attention.kind == "not collected"
    assert "Jane" not in attention.text


@pytest.mark.parametrize("state", State)
def test_no_action_delivers_twice(ledger: Ledger, state: State) -> None:
    """Whatever may be at MESH, or with the recipient, is not sent again."""
    message = accepted(ledger, sent(ledger))
    with ledger.database.write() as connection:
        connection.execute(update(messages).values(state=state, archived_as="/sent/a.csv"))
    [effect] = ledger.actions.run("resend", [message.id], actor="ann", reason="")
    assert effect.is_refused == (state not in (State.UNDELIVERED, State.REFUSED))
    assert len(ledger.search.messages(Filter())) == (1 if effect.is_refused else 2)


def test_a_resent_message_is_a_new_one_and_is_resent_once(ledger: Ledger) -> None:
    message = sent(ledger, local_id="ours")
    ledger.messages.begin([message.id])
    ledger.messages.fail(message.id, Event.REFUSED, StorageError("no"), next_attempt_at=None)
    ledger.outgoing.filed(message.id, "/failed/a.csv")
    assert not ledger.actions.preview("resend", [message.id])[0].is_refused
    ledger.actions.run("resend", [message.id], actor="ann", reason="moved")
    [copy, before] = ledger.search.messages(Filter())
    assert (copy.source, before.resent_as) == ("/failed/a.csv", copy.id)
    assert copy.local_id != "ours"
    assert ledger.actions.run("resend", [message.id], actor="ann", reason="")[0].is_refused
    assert [(one.actor, one.details.get("reason")) for one in ledger.search.timeline(message.id)][-1] == (
        "ann",
        "moved",
    )


def test_only_what_waits_can_be_retried_and_only_quarantine_released(ledger: Ledger, clock: MovableClock) -> None:
    [message] = listed(ledger, "M1")
    ledger.messages.begin([message.id])
    later = clock.now() + timedelta(hours=1)
    ledger.messages.fail(message.id, Event.FAILED, StorageError("full"), next_attempt_at=later)
    assert ledger.actions.run("release", [message.id], actor="ann", reason="")[0].is_refused
    assert not ledger.actions.run("retry", [message.id], actor="ann", reason="")[0].is_refused
    assert [one.id for one in listed(ledger, "M1")] == [message.id]


def test_an_unknown_action_or_message_is_named(ledger: Ledger) -> None:
    with pytest.raises(InvalidArgument, match="retry, release, resend, deliver again, acknowledge, seen"):
        ledger.actions.preview("explode", [])
    with pytest.raises(InvalidArgument, match="no message 77"):
        ledger.messages.get(77)


def test_what_was_seen_to_is_no_longer_shown(ledger: Ledger, clock: MovableClock) -> None:
    message = sent(ledger)
    ledger.messages.fail(message.id, Event.REFUSED, StorageError("no"), next_attempt_at=None)
    assert [one.kind for one in look(ledger.database, clock.now())] == ["refused"]
    ledger.actions.run("seen", [message.id], actor="ann", reason="sent by post")
    assert look(ledger.database, clock.now()) == []


def test_a_paused_mailbox_is_not_due(ledger: Ledger, clock: MovableClock) -> None:
    ledger.mailboxes.pause(A, actor="ann", reason="moving")
    assert ledger.mailboxes.due() == [B]
    assert ledger.mailboxes.begin_visit(A, "me") is None
    [attention] = look(ledger.database, clock.now())
    assert "moving" in attention.text
    ledger.mailboxes.resume(A, actor="ann")
    assert set(ledger.mailboxes.due()) == {A, B}


def test_a_visit_that_is_asked_for_while_one_runs_comes_after_it(ledger: Ledger, clock: MovableClock) -> None:
    epoch = begin(ledger)
    clock.advance(seconds=1)
    ledger.mailboxes.visit_now(A, actor="ann")
    ledger.mailboxes.end_visit(A, epoch, clock.now() + timedelta(minutes=5), None)
    assert A in ledger.mailboxes.due()


def test_a_mailbox_that_keeps_failing_needs_a_person(ledger: Ledger, clock: MovableClock) -> None:
    for attempt in range(3):
        epoch = begin(ledger)
        ledger.mailboxes.end_visit(A, epoch, clock.now(), StorageError("the disk is full"))
        [attention] = look(ledger.database, clock.now())
        assert attention.needs_person == (attempt == 2)
    ledger.mailboxes.end_visit(A, begin(ledger), clock.now(), None)
    assert look(ledger.database, clock.now()) == []


def test_agents_of_a_fleet_that_start_at_once_add_each_mailbox_once(ledger: Ledger, place: Path | str) -> None:
    names = [f"X26NEW{number}" for number in range(40)]
    start, errors = threading.Barrier(4), []

    def begin() -> None:
        try:
            with Ledger(place) as another:
                start.wait(20)
                another.mailboxes.configure(names)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert {mailbox.mailbox_id for mailbox in ledger.mailboxes.all()} == set(names)


def test_a_mailbox_that_is_no_longer_configured_is_not_visited(ledger: Ledger) -> None:
    ledger.mailboxes.configure([B])
    assert ledger.mailboxes.due() == [B]
    assert ledger.mailboxes.begin_visit(A, "me") is None
    ledger.mailboxes.configure([A, B])
    assert ledger.mailboxes.begin_visit(A, "me") is not None
    assert len(ledger.search.events(kind="mailbox added", limit=9)) == 2


def test_thousands_of_mailboxes_are_noted_in_few_statements(ledger: Ledger) -> None:
    names = [f"X26F{number:05}" for number in range(2000)]
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    event.listen(Engine, "before_cursor_execute", note)
    try:
        ledger.mailboxes.configure(names)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert count < 20
    assert [one.mailbox_id for one in ledger.mailboxes.all()] == names
    added = ledger.search.events(kind="mailbox added", limit=3000)
    assert sorted(one.mailbox_id or "" for one in added) == [A, B, *names]
    assert broken(ledger) is None


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE event SET actor = 'nobody' WHERE number = 3",
        "DELETE FROM event WHERE number = 3",
        "DELETE FROM event WHERE number = (SELECT max(number) FROM event)",
    ],
)
def test_a_changed_or_missing_event_is_found(ledger: Ledger, damage: str) -> None:
    listed(ledger, "M1", "M2", "M3")
    assert broken(ledger) is None
    change(ledger, damage)
    assert broken(ledger) is not None


def test_a_check_of_the_chain_goes_on_where_the_last_one_ended(ledger: Ledger) -> None:
    listed(ledger, "M1", "M2", "M3")
    first = check_chain(ledger.database)
    assert first is not None
    assert (first.broken, first.verified is not None) == (None, True)
    again = check_chain(ledger.database, first.verified)
    assert again is not None
    assert (again.broken, again.count, again.verified) == (None, 0, first.verified)
    listed(ledger, "M4", "M5")
    more = check_chain(ledger.database, first.verified)
    assert more is not None
    assert (more.broken, more.count) == (None, 2)
    # What was removed behind the point is found from the beginning alone; the point itself is looked at each time.
    change(ledger, "DELETE FROM event WHERE number = (SELECT max(number) FROM event)")
    assert check_chain(ledger.database, first.verified).broken == 0  # type: ignore[union-attr]
    change(ledger, "UPDATE event SET actor = 'nobody'")
    assert check_chain(ledger.database, first.verified).broken == first.verified.number  # type: ignore[union-attr]


def test_a_check_of_the_chain_begins_anew_where_retention_has_removed_its_point(
    ledger: Ledger, clock: MovableClock
) -> None:
    listed(ledger, "M1")
    point = check_chain(ledger.database).verified  # type: ignore[union-attr]
    clock.advance(days=400)
    listed(ledger, "M2", "M3")
    ledger.forget_before(clock.now() - timedelta(days=365))
    found = check_chain(ledger.database, point)
    assert found is not None
    assert (found.broken, found.count >= 2) == (None, True)
    assert check_chain(ledger.database, goes_on=lambda number: False) is None


def test_what_ended_long_ago_is_forgotten_and_the_chain_holds(ledger: Ledger, clock: MovableClock) -> None:
    [message] = listed(ledger, "M1")
    ledger.messages.begin([message.id])
    ledger.messages.fail(message.id, Event.GONE, Gone("gone"), next_attempt_at=None)
    clock.advance(days=400)
    [other] = listed(ledger, "M2")
    assert ledger.forget_before(clock.now() - timedelta(days=365)) == 1
    assert [one.id for one in ledger.search.messages(Filter())] == [other.id]
    assert broken(ledger) is None


def test_messages_are_found_by_what_is_known_of_them(ledger: Ledger, clock: MovableClock) -> None:
    first = sent(ledger)
    second = sent(ledger, "b.csv", workflow_id="OTHER", to="X26ABC9")
    listed(ledger, "M1")

    def numbers(**wanted: object) -> list[int]:
        found = ledger.search.messages(Filter(**wanted))  # type: ignore[arg-type] # each as its field wants
        assert {one.id for one in found} == set(ledger.search.numbers(Filter(**wanted)))  # type: ignore[arg-type]
        return [one.id for one in found]

    assert numbers(workflow_id="WF") == [first.id]
    assert numbers(workflow_id="OTH*") == [second.id]
    assert numbers(party="X26ABC9") == [second.id]
    assert numbers(direction=Direction.OUT) == [second.id, first.id]
    assert numbers(identifier=str(first.id)) == [first.id]
    assert numbers(identifier="M1") == [second.id + 1]
    assert numbers(states=(State.LISTED,), mailbox_id=B) == []
    assert numbers(since=clock.now() + timedelta(seconds=1)) == []
    assert len(ledger.search.messages(Filter(), limit=2)) == 2
    assert [one.id for one in ledger.search.messages(Filter(), before=second.id)] == [first.id]


def test_a_send_is_kept_and_locked_in_the_ledger(ledger: Ledger) -> None:
    record = ledger.sends.record("1")
    assert record.read() is None
    record.write(b"one")
    record.write(b"two")
    lock, other = record.lock(), ledger.sends.record("1").lock()
    assert lock.acquire()
    assert not other.acquire()
    lock.release()
    assert other.acquire()
    assert record.read() == b"two"
    record.forget()
    record.forget()
    assert record.read() is None
    assert "transfer 1" in record.place


def stored(ledger: Ledger, message_id: str, location: str) -> LedgerMessage:
    """Return a message that was stored, and acknowledged."""
    [message] = listed(ledger, message_id)
    ledger.messages.begin([message.id])
    ledger.incoming.choose_destinations(message.id, ["/in"], None)
    with ledger.database.write() as connection:
        known = dataclasses.replace(entry(ledger, message_id), location=location)
        ledger.incoming.copy_stored(connection, "/in", known)
    return message


def test_only_what_is_stored_can_be_acknowledged_by_hand(ledger: Ledger, tmp_path: Path) -> None:
    message = stored(ledger, "M1", str(tmp_path / "a"))
    [open_one] = listed(ledger, "M2")
    assert not ledger.actions.run("acknowledge", [message.id], actor="ann", reason="")[0].is_refused
    [effect] = ledger.actions.run("acknowledge", [open_one.id], actor="ann", reason="")
    assert effect.is_refused
    assert "it would be lost" in effect.text
    ledger.incoming.acknowledged(A, ["M1"])
    assert ledger.actions.run("acknowledge", [message.id], actor="ann", reason="")[0].is_refused
    assert ledger.actions.run("acknowledge", [sent(ledger).id], actor="ann", reason="")[0].is_refused
    assert [event.kind for event in ledger.search.timeline(message.id)][-2:] == ["acknowledge", "acknowledged"]


def test_a_message_is_delivered_again_only_where_its_copy_is_not(ledger: Ledger, tmp_path: Path) -> None:
    copy = tmp_path / "a"
    copy.touch()
    message = stored(ledger, "M1", str(copy))
    assert ledger.actions.preview("deliver again", [message.id])[0].is_refused
    ledger.incoming.acknowledged(A, ["M1"])
    [effect] = ledger.actions.run("deliver again", [message.id], actor="ann", reason="")
    assert effect.is_refused
    assert "still where it was stored" in effect.text
    copy.unlink()
    visit = ledger.mailboxes.begin_visit(A, "node")
    assert "being visited" in ledger.actions.preview("deliver again", [message.id])[0].text
    assert visit is not None
    ledger.mailboxes.end_visit(A, visit.epoch, ledger.clock.now(), None)
    assert not ledger.actions.run("deliver again", [message.id], actor="ann", reason="lost")[0].is_refused
    assert ledger.search.copies(message.id) == []
    # It is not in the inbox, until the service desk has put it back there.
    ledger.incoming.vanish(A, [])
    assert ledger.messages.get(message.id).state is State.GONE
    [again] = listed(ledger, "M1")
    assert again.state is State.LISTED


def test_a_copy_in_a_store_may_still_be_there(ledger: Ledger) -> None:
    message = stored(ledger, "M1", "s3://results/a")
    ledger.incoming.acknowledged(A, ["M1"])
    [effect] = ledger.actions.preview("deliver again", [message.id])
    assert effect.is_refused
    assert "may still be" in effect.text


def test_a_folder_that_is_not_there_says_nothing_of_its_files(ledger: Ledger, tmp_path: Path) -> None:
    """As of a share that is not connected."""
    folder = tmp_path / "share/in"
    folder.mkdir(parents=True)
    message = stored(ledger, "M1", str(folder / "a"))
    ledger.incoming.acknowledged(A, ["M1"])
    folder.rmdir()
    [effect] = ledger.actions.preview("deliver again", [message.id])
    assert effect.is_refused
    assert "its folder is not there" in effect.text
    folder.mkdir()
    assert not ledger.actions.preview("deliver again", [message.id])[0].is_refused


def test_what_is_asked_again_and_again_costs_no_more_for_messages_that_have_ended(tmp_path: Path) -> None:
    """SQLite knows nothing of how many rows an index would leave: a query has to name what few rows have."""
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    def prepare(connection: Any, _record: object) -> None:
        connection.set_progress_handler(count, 100)

    event.listen(Engine, "connect", prepare)
    try:
        with Ledger(tmp_path / "counted") as ledger:
            ledger.mailboxes.configure([A])
            asked: dict[str, Callable[[], object]] = {
                "outgoing that waits": ledger.outgoing.mailboxes_waiting,
                "outgoing that is due": lambda: ledger.outgoing.due(A, 500),
                "files that are known": lambda: ledger.outgoing.unfiled_sources(A),
                "files of nodes": ledger.nodes.waiting_files,
                "messages of an owner": lambda: ledger.messages.of_owner("one#1"),
                "messages to track": lambda: ledger.outgoing.to_track(A, 500),
                "messages to forget": lambda: ledger.messages.forget_before(
                    ledger.clock.now() - timedelta(days=1), 500
                ),
                "messages in an inbox": lambda: ledger.incoming.due(A, ["M1", "M2"]),
            }

            def costs() -> dict[str, int]:
                found = {}
                for name, ask in asked.items():
                    before = steps[0]
                    ask()
                    found[name] = steps[0] - before
                return found

            few = costs()
            now = ledger.clock.now()
            ended = {"mailbox_id": A, "created_at": now, "updated_at": now, "finished_at": now, "is_filed": True}
            rows = [
                {**ended, "direction": direction, "state": state, "message_id": f"{number}", "local_id": f"{number}"}
                for number in range(5000)
                for direction, state in ((Direction.OUT, State.COLLECTED), (Direction.IN, State.ACKNOWLEDGED))
            ]
            with ledger.database.write() as connection:
                connection.execute(insert(messages), rows)
            assert {name: cost for name, cost in costs().items() if cost > few[name] + 10} == {}
    finally:
        event.remove(Engine, "connect", prepare)
