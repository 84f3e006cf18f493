"""The states of a send as values: every event in every state, and the whole table against a model of MESH."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uploads import make_plan, make_record

from nel_mesh import errors
from nel_mesh.errors import MeshError, Outcome
from nel_mesh.models import Tracking
from nel_mesh.protocol import upload_events, upload_states
from nel_mesh.protocol.upload_plan import UploadPlan
from nel_mesh.protocol.upload_record import SendRecord
from nel_mesh.protocol.upload_states import Event, Next, State, Step

DELIVERING = {State.ONLY, State.LAST, State.RESUMED_LAST}
"""The states in which the request that delivers is made."""

MAY_BE_DELIVERED = {State.RESUMED_LAST, State.LOOKING_UP, State.LOOKING_UP_EARLIER, State.TRACKING}
"""The states before whose step MESH may have the whole message."""

PROOF = {Event.ACCEPTED_ALL, Event.FOUND, Event.DELIVERED, Event.RECORD_SENT}
"""The events that prove that MESH has the whole message."""

ACCEPTANCES = {
    State.ONLY: {Event.ACCEPTED_ALL},
    State.FIRST: {Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT},
    State.MIDDLE: {Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT},
    State.RESUMED_MIDDLE: {Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT},
    State.LAST: {Event.ACCEPTED_ALL},
    State.RESUMED_LAST: {Event.ACCEPTED_ALL},
}
"""How a chunk can be accepted in each state, by how many are left after it."""


def rows() -> list[tuple[State, Event, Next]]:
    return [
        (state, event, following)
        for state, row in upload_states.TRANSITIONS.items()
        for event, following in row.items()
    ]


# The table


def test_every_state_has_a_step_or_an_outcome() -> None:
    assert set(upload_states.STEPS) | set(upload_states.OUTCOMES) == set(State) == set(upload_states.TRANSITIONS)
    assert not set(upload_states.STEPS) & set(upload_states.OUTCOMES)
    assert set(upload_states.EVENTS) == set(Step)


@pytest.mark.parametrize("state", State)
def test_every_event_that_a_step_can_end_in_has_a_row(state: State) -> None:
    step = upload_states.STEPS.get(state)
    expected = set(upload_states.ANY_TIME) | (set(upload_states.EVENTS[step]) if step else set())
    if step is Step.SEND_CHUNK:
        accepted = {Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT, Event.ACCEPTED_ALL}
        expected = expected - accepted | ACCEPTANCES[state]
    assert set(upload_states.TRANSITIONS[state]) == expected


@pytest.mark.parametrize(("state", "event", "following"), rows())
def test_each_row_is_safe(state: State, event: Event, following: Next) -> None:
    if following.state is State.SENT:
        assert event in PROOF or state is State.SENT, "a receipt needs a proof"
    if following.state is State.NOT_SENT and state in MAY_BE_DELIVERED:
        assert event is Event.FAILED, "only MESH can say that a message which it may have will not be delivered"
    if event is Event.LOST and state in DELIVERING:
        assert following.state in (State.LOOKING_UP, State.TRACKING), "MESH is asked before anything is said or sent"
    if following.state is State.ONLY:
        allowed = {
            (State.BEGINNING, Event.ONE_REQUEST),
            (State.READING_RECORD, Event.RECORD_NOT_SENT),
            (State.LOOKING_UP_EARLIER, Event.NOT_FOUND),
        }
        assert (state, event) in allowed, (
            "a single request is made where nothing was sent, or MESH says that it has none"
        )
    if following.state is State.FIRST and state is not State.BEGINNING:
        assert state in (State.READING_RECORD, State.FORGOTTEN)
    if following.state is State.FORGOTTEN:
        assert state is State.RESUMED_MIDDLE, "only an upload that was never finished begins again"
    if event is Event.INTERRUPTED and state in DELIVERING | MAY_BE_DELIVERED:
        assert following.state is State.UNKNOWN
    assert bool(following.reason) <= (following.state is State.UNKNOWN)
    if event in upload_states.ANY_TIME:
        assert following.state in upload_states.OUTCOMES
        assert not following.reason, "the failure speaks for itself"


# The table against a model of MESH


class Mesh:
    """MESH as far as it matters: it may act on a request that is lost, at once or a little later."""

    def __init__(self) -> None:
        self.delivered = 0
        self.known: dict[str, str] = {}
        """Messages by local id, for those that are whole."""
        self.uploads: dict[str, int] = {}
        """The chunks of each unfinished upload."""
        self.finished: set[str] = set()
        self.collected = False
        self.under_way: list[str] = []
        """Single requests that MESH has received and not acted on yet."""
        self._count = 0

    def new_id(self) -> str:
        self._count += 1
        return f"M{self._count}"

    def receive(self, number: int, total: int, message_id: str | None, local_id: str, *, later: bool = False) -> Any:
        """Act on a whole request; give the message id, or the status of a refusal."""
        if number == 1 and total == 1:
            if later:
                self.under_way.append(local_id)
                return None
            self.delivered += 1
            self.known[local_id] = self.new_id()
            return self.known[local_id]
        if number == 1:
            made = self.new_id()
            self.uploads[made] = 1
            return made
        assert message_id is not None
        if message_id in self.finished:
            return 410 if self.collected else 423
        if message_id not in self.uploads:
            return 404
        self.uploads[message_id] = max(number, self.uploads[message_id])
        if number == total:
            del self.uploads[message_id]
            self.finished.add(message_id)
            self.delivered += 1
        return message_id

    def settle(self) -> None:
        """Act on all that is under way; a process that starts has waited for that by its look-ups."""
        for local_id in self.under_way:
            self.receive(1, 1, None, local_id)
        self.under_way.clear()


ENDS = ["answered", "answered", "answered", "answered", "refused", "not received", "lost", "later", "killed"]
"""How a request ends in the model."""


class Killed(Exception):
    """The process ended here."""


class Process:
    """Does the steps as the client does, with a record on disk, and MESH as its model."""

    def __init__(self, mesh: Mesh, disk: dict[str, bytes], plan: UploadPlan, draw: Any) -> None:
        self.mesh, self.disk, self.plan, self.draw = mesh, disk, plan, draw
        self.record = make_record(plan)
        self.state = State.READING_RECORD

    def run(self) -> Outcome:
        while (step := upload_states.STEPS.get(self.state)) is not None:
            self.maybe_killed()
            event = getattr(self, step.name.lower())()
            self.state = upload_states.TRANSITIONS[self.state][event].state
            if event in (Event.FOUND, Event.DELIVERED):
                self.write(self.record.delivered("M", bytes_on_wire=1))
        outcome = upload_states.OUTCOMES[self.state]
        if outcome is Outcome.NOT_SENT and self.record.chunks == 1:
            self.write(self.record.failed())
        return outcome

    def maybe_killed(self) -> None:
        if self.draw(st.integers(0, 19)) == 0:
            raise Killed

    def write(self, record: SendRecord) -> None:
        self.maybe_killed()
        self.record = record
        self.disk["record"] = record.to_bytes()
        self.maybe_killed()

    def read_record(self) -> Event:
        written = self.disk.get("record")
        if written is not None:
            self.record = SendRecord.from_bytes(written, "")
        return upload_events.event_of_record(self.record if written is not None else None)

    def begin(self) -> Event:
        self.write(self.record)
        return upload_events.event_of_plan(self.plan)

    def start_again(self) -> Event:
        self.write(self.record.started_again())
        return Event.STARTED_AGAIN

    def send_chunk(self) -> Event:
        total = self.record.chunks
        number = self.record.chunks_done + 1
        if self.record.not_sent:
            self.write(self.record.opened())
        what = self.draw(st.sampled_from(ENDS))
        delivers = self.plan.delivers(number)
        if what == "refused":
            return upload_events.event_of_failure(errors.Refused("no", status=417), delivers=delivers)
        if what == "not received":
            return upload_events.event_of_failure(errors.ConnectionFailed("no"), delivers=delivers)
        answer = self.mesh.receive(number, total, self.record.message_id, self.record.local_id, later=what == "later")
        if what == "killed":
            raise Killed
        if what != "answered":
            lost = errors.ConnectionLost("gone")
            lost.may_have_acted = True
            return upload_events.event_of_failure(lost, delivers=delivers)
        kinds: Mapping[int, type[MeshError]] = {404: errors.NotFound, 410: errors.Gone, 423: errors.UploadFinished}
        if isinstance(answer, int):
            return upload_events.event_of_failure(kinds[answer]("no", status=answer), delivers=delivers)
        self.maybe_killed()
        event = upload_events.event_of_acceptance(number, total)
        self.write(self.record.accepted(number, message_id=answer, bytes_on_wire=1, digest="x"))
        return event

    def look_up(self) -> Event:
        if self.draw(st.booleans()):
            self.mesh.settle()
        elif self.draw(st.booleans()):
            return Event.LOOK_UP_FAILED
        found = self.mesh.known.get(self.record.local_id)
        if found is None:
            return Event.NOT_FOUND
        tracking = Tracking(message_id=found, local_id=self.record.local_id, status="accepted")
        return upload_events.event_of_look_up(tracking, self.plan, began=None, recent_message_ids=())

    def track(self) -> Event:
        if self.draw(st.booleans()):
            return Event.LOOK_UP_FAILED
        status = "accepted" if self.record.message_id in self.mesh.finished else "uploading"
        return upload_events.event_of_tracking(Tracking(message_id="M", status=status))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_message_is_never_delivered_twice_and_every_outcome_is_true(data: st.DataObject) -> None:
    """Up to eight processes in a row, each of which may be killed between any two steps."""
    total = data.draw(st.sampled_from([1, 1, 2, 3, 5]))
    plan = make_plan(length=total, limit=1)
    mesh, disk = Mesh(), dict[str, bytes]()
    for _ in range(8):
        # A new process: what the last one sent has arrived by the end of its look-ups, or never will.
        mesh.settle()
        mesh.collected = data.draw(st.booleans())
        if data.draw(st.booleans()):
            mesh.uploads.clear()
        try:
            outcome = Process(mesh, disk, plan, data.draw).run()
        except Killed:
            continue
        finally:
            assert mesh.delivered <= 1
        if outcome is Outcome.SENT:
            assert mesh.delivered == 1
        if outcome is Outcome.NOT_SENT:
            assert mesh.delivered == 0
            assert not mesh.under_way
