"""The rules of a send as values: every event in every state, and the whole table against a model of MESH."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nel_mesh import errors
from nel_mesh.errors import MeshError, Outcome
from nel_mesh.models import Tracking
from nel_mesh.protocol import upload, wire
from nel_mesh.protocol.upload import Event, MessageOptions, Next, SendRecord, State, Step, UploadPlan

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
OPTIONS = MessageOptions(to="X1", workflow_id="WF", file_name="a.csv", subject="Mrs Jones")

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


def make_plan(length: int = 5, limit: int = 5, local_id: str | None = None, **options: Any) -> UploadPlan:
    said = dataclasses.replace(OPTIONS, **options)
    return UploadPlan.make(
        said,
        said.headers("ME", local_id),
        mailbox_id="ME",
        local_id=local_id,
        unique="unique",
        length=length,
        limit=limit,
    )


def make_record(plan: UploadPlan | None = None, **changes: Any) -> SendRecord:
    plan = plan or make_plan()
    record = SendRecord.begin(plan, arguments=plan.digest(), modified_ns=7, now=NOW)
    return record.model_copy(update=changes)


def rows() -> list[tuple[State, Event, Next]]:
    return [(state, event, following) for state, row in upload.TRANSITIONS.items() for event, following in row.items()]


# The table


def test_every_state_has_a_step_or_an_outcome() -> None:
    assert set(upload.STEPS) | set(upload.OUTCOMES) == set(State) == set(upload.TRANSITIONS)
    assert not set(upload.STEPS) & set(upload.OUTCOMES)
    assert set(upload.EVENTS) == set(Step)


@pytest.mark.parametrize("state", State)
def test_every_event_that_a_step_can_end_in_has_a_row(state: State) -> None:
    step = upload.STEPS.get(state)
    expected = set(upload.ANY_TIME) | (set(upload.EVENTS[step]) if step else set())
    if step is Step.SEND_CHUNK:
        accepted = {Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT, Event.ACCEPTED_ALL}
        expected = expected - accepted | ACCEPTANCES[state]
    assert set(upload.TRANSITIONS[state]) == expected


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
    if event in upload.ANY_TIME:
        assert following.state in upload.OUTCOMES
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
        while (step := upload.STEPS.get(self.state)) is not None:
            self.maybe_killed()
            event = getattr(self, step.name.lower())()
            self.state = upload.TRANSITIONS[self.state][event].state
            if event in (Event.FOUND, Event.DELIVERED):
                self.write(self.record.delivered("M", bytes_on_wire=1))
        outcome = upload.OUTCOMES[self.state]
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
            self.record = SendRecord.from_bytes(written)
        return upload.event_of_record(self.record if written is not None else None)

    def begin(self) -> Event:
        self.write(self.record)
        return upload.event_of_plan(self.plan)

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
            return upload.event_of_failure(errors.Refused("no", status=417), delivers=delivers)
        if what == "not received":
            return upload.event_of_failure(errors.ConnectionFailed("no"), delivers=delivers)
        answer = self.mesh.receive(number, total, self.record.message_id, self.record.local_id, later=what == "later")
        if what == "killed":
            raise Killed
        if what != "answered":
            lost = errors.ConnectionLost("gone")
            lost.may_have_acted = True
            return upload.event_of_failure(lost, delivers=delivers)
        kinds: Mapping[int, type[MeshError]] = {404: errors.NotFound, 410: errors.Gone, 423: errors.UploadFinished}
        if isinstance(answer, int):
            return upload.event_of_failure(kinds[answer]("no", status=answer), delivers=delivers)
        self.maybe_killed()
        event = upload.event_of_acceptance(number, total)
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
        return upload.event_of_look_up(tracking, self.plan, began=None, recent_message_ids=())

    def track(self) -> Event:
        if self.draw(st.booleans()):
            return Event.LOOK_UP_FAILED
        status = "accepted" if self.record.message_id in self.mesh.finished else "uploading"
        return upload.event_of_tracking(Tracking(message_id="M", status=status))


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


# The plan


def test_a_plan_is_computed_once_and_holds_all_that_a_request_needs() -> None:
    plan = make_plan(length=12, limit=5, content_type="text/csv")
    assert [(piece.start, piece.length, str(piece.range)) for piece in plan.slices] == [
        (0, 5, "1:3"),
        (5, 5, "2:3"),
        (10, 2, "3:3"),
    ]
    first, second = plan.request(1, None), plan.request(2, "M1")
    assert first.path == "/messageexchange/ME/outbox"
    assert (first.headers[wire.TO], first.headers[wire.CHUNK_RANGE]) == ("X1", "1:3")
    assert second.path == "/messageexchange/ME/outbox/M1/2"
    assert (second.headers[wire.CONTENT_TYPE], second.headers[wire.CHUNK_RANGE]) == ("text/csv", "2:3")
    assert [plan.delivers(number) for number in (1, 2, 3)] == [False, False, True]
    assert wire.CHUNK_RANGE not in make_plan().request(1, None).headers


def test_a_single_request_is_the_only_one_that_must_not_be_repeated() -> None:
    from nel_mesh.protocol.retry import RetryPolicy, delay_before_retry

    def repeated(plan: UploadPlan, number: int) -> bool:
        lost = errors.ConnectionLost("gone")
        lost.request_complete = True
        request = plan.request(number, "M1")
        delay = delay_before_retry(RetryPolicy(), lost, attempt=1, idempotent=request.idempotent, jitter=0)
        return delay is not None

    assert not repeated(make_plan(), 1)
    chunked = make_plan(length=3, limit=1)
    assert [repeated(chunked, number) for number in (1, 2, 3)] == [True, True, True]


def test_a_gzipped_chunk_leaves_room_for_what_gzip_adds() -> None:
    limit = 100_000_000
    assert make_plan(length=1, limit=limit).chunk_bytes == limit
    assert make_plan(length=1, limit=limit, compress=True).chunk_bytes == limit - 100_000
    assert make_plan(length=1, limit=1000, compress=True).chunk_bytes == 1000
    assert make_plan(compress=True).request(1, None).headers[wire.CONTENT_ENCODING] == "gzip"


def test_no_repr_holds_what_may_be_patient_data() -> None:
    plan = make_plan(to="GPPROVIDER_9434765919", subject="Mrs Jones", file_name="jones.csv")
    for private in ("9434765919", "Jones", "jones"):
        assert private not in repr(plan)
        assert private not in make_record(plan).to_bytes().decode()


@pytest.mark.parametrize(
    ("options", "local_id", "same"),
    [
        ({}, None, True),
        ({"subject": "other"}, None, False),
        ({"to": "X2"}, None, False),
        ({"compress": True}, None, False),
        ({}, "mine", False),
    ],
)
def test_the_digest_of_the_arguments_tells_sends_apart(
    options: dict[str, Any], local_id: str | None, same: bool
) -> None:
    changed = dataclasses.replace(OPTIONS, **options)
    assert (make_plan(local_id=local_id, **options).digest() == make_plan().digest()) is same
    assert changed.digest(local_id) == make_plan(local_id=local_id, **options).digest()
    keys = {
        upload.record_key(chosen, mailbox_id="ME", local_id=own, path="/a")
        for chosen, own in ((OPTIONS, None), (changed, local_id))
    }
    assert len(keys) == (1 if same else 2)


def test_the_generated_local_id_is_no_argument() -> None:
    one, other = (
        UploadPlan.make(
            OPTIONS, OPTIONS.headers("ME", None), mailbox_id="ME", local_id=None, unique=unique, length=1, limit=1
        )
        for unique in ("a", "b")
    )
    assert one.local_id_generated
    assert one.digest() == other.digest()


def test_a_key_is_the_local_id_or_else_the_path() -> None:
    def key(local_id: str | None, path: str, mailbox_id: str = "ME") -> str:
        return upload.record_key(OPTIONS, mailbox_id=mailbox_id, local_id=local_id, path=path)

    assert key("mine", "/a") == key("mine", "/b")
    assert key(None, "/a") != key(None, "/b")
    assert key(None, "/a") != key(None, "/a", mailbox_id="OTHER")


# The record


def test_a_record_says_how_far_a_send_has_come() -> None:
    plan = make_plan(length=3, limit=1)
    record = make_record(plan)
    for number in (1, 2, 3):
        assert not record.sent
        record = record.accepted(number, message_id="M1", bytes_on_wire=10, digest=f"d{number}")
        assert record.bytes_done == number
    assert SendRecord.from_bytes(record.to_bytes()) == record
    receipt = record.receipt()
    assert (receipt.message_id, receipt.local_id) == ("M1", "unique")
    assert (receipt.chunks, receipt.bytes, receipt.bytes_on_wire) == (3, 3, 30)
    again = record.started_again()
    assert (again.message_id, again.chunks_done, again.bytes_on_wire, again.digest) == (None, 0, 0, "")
    found = make_record().delivered("M2", bytes_on_wire=9)
    assert (found.receipt().message_id, found.sent, found.receipt().bytes_on_wire) == ("M2", True, 9)


def test_a_resumed_plan_is_the_plan_as_it_was() -> None:
    plan = make_plan(length=12, limit=5, local_id="mine")
    resumed = UploadPlan.resumed(OPTIONS, make_record(plan))
    assert resumed == plan


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"mailbox_id": "OTHER"}, errors.InvalidArgument, "another mailbox"),
        ({"arguments": "other"}, errors.InvalidArgument, "other arguments"),
        ({"stamp": (5, 8)}, errors.SourceError, "changed since this send began.*remove the record"),
        ({"stamp": (6, 7)}, errors.SourceError, "changed since"),
    ],
)
def test_a_record_of_another_send_is_refused(change: dict[str, Any], kind: type[MeshError], words: str) -> None:
    plan = make_plan()
    same: dict[str, Any] = {"mailbox_id": "ME", "arguments": plan.digest(), "stamp": (5, 7)}
    make_record(plan).check(**same)
    with pytest.raises(kind, match=words):
        make_record(plan).check(**{**same, **change})


def test_other_content_than_what_was_sent_is_refused() -> None:
    make_record(digest="a").check_content("a")
    with pytest.raises(errors.SourceError, match="changed since"):
        make_record(digest="a").check_content("b")


# Events


@pytest.mark.parametrize(
    ("length", "changes", "event"),
    [
        (1, {}, Event.RECORD_OPEN),
        (1, {"not_sent": True}, Event.RECORD_NOT_SENT),
        (1, {"sent": True}, Event.RECORD_SENT),
        (3, {}, Event.RECORD_NO_CHUNK),
        (3, {"chunks_done": 1}, Event.RECORD_SOME_CHUNKS),
        (3, {"chunks_done": 2}, Event.RECORD_ALL_BUT_LAST),
        (3, {"chunks_done": 3, "sent": True}, Event.RECORD_SENT),
        (2, {"chunks_done": 1}, Event.RECORD_ALL_BUT_LAST),
    ],
)
def test_what_a_record_says(length: int, changes: dict[str, Any], event: Event) -> None:
    assert upload.event_of_record(make_record(make_plan(length, 1), **changes)) is event
    assert upload.event_of_record(None) is Event.NO_RECORD


def test_what_a_plan_and_an_acceptance_say() -> None:
    assert upload.event_of_plan(make_plan(1, 1)) is Event.ONE_REQUEST
    assert upload.event_of_plan(make_plan(2, 1)) is Event.SEVERAL_CHUNKS
    assert upload.event_of_acceptance(1, 1) is Event.ACCEPTED_ALL
    assert upload.event_of_acceptance(1, 2) is Event.ACCEPTED_ONE_LEFT
    assert upload.event_of_acceptance(1, 3) is Event.ACCEPTED_MORE_LEFT


@pytest.mark.parametrize(
    ("number", "status", "message_id", "accepted"),
    [
        (1, 202, "M1", "M1"),
        (1, 200, "M1", "M1"),
        (1, 202, None, None),
        (2, 202, None, "M1"),
        (2, 200, "M1", "M1"),
        (2, 200, "M2", None),
        (2, 200, None, None),
    ],
)
def test_a3_a_success_with_a_message_id_is_a_success(
    number: int, status: int, message_id: str | None, accepted: str | None
) -> None:
    """A3: MESH API says 202; some servers say 200, and a proxy's page has no message id."""
    upload_id = "M1" if number > 1 else None
    if accepted is not None:
        assert upload.accepted_message_id(number, status, message_id, upload_id) == accepted
        return
    with pytest.raises(errors.ServerError) as caught:
        upload.accepted_message_id(number, status, message_id, upload_id)
    assert upload.event_of_failure(caught.value, delivers=True) is Event.LOST


@pytest.mark.parametrize(
    ("length", "event", "kept"),
    [
        (1, Event.REFUSED, {"not_sent": True}),
        (1, Event.FAILED, None),
        (3, Event.FAILED, None),
        (3, Event.REFUSED, {}),
    ],
)
def test_what_a_record_says_after_a_failure(length: int, event: Event, kept: dict[str, Any] | None) -> None:
    record = make_record(make_plan(length, 1))
    expected = None if kept is None else record.model_copy(update=kept)
    assert upload.record_of_failure(record, event) == expected
    assert not record.failed().opened().not_sent


@pytest.mark.parametrize("content", [b"", b"{}", b"not a record", b'{"version": 1}', b'{"version": 1, "more": 2}'])
def test_what_is_no_record_is_not_taken_for_a_new_send(content: bytes) -> None:
    with pytest.raises(errors.StorageError, match="no record of a transfer.*remove it"):
        SendRecord.from_bytes(content)


def failure(kind: type[MeshError], *, acted: bool = False, **keywords: Any) -> MeshError:
    error = kind("it failed", **keywords)
    error.may_have_acted = acted
    return error


@pytest.mark.parametrize(
    ("error", "event", "event_of_last"),
    [
        (failure(errors.UploadFinished), Event.ALREADY_COMPLETE, Event.ALREADY_COMPLETE),
        (failure(errors.UploadFinished, acted=True), Event.ALREADY_COMPLETE, Event.ALREADY_COMPLETE),
        (failure(errors.NotFound), Event.FORGOTTEN, Event.FORGOTTEN),
        (failure(errors.Gone), Event.FORGOTTEN, Event.FORGOTTEN),
        # An attempt at a middle chunk that was lost does no harm; at the last it may have delivered.
        (failure(errors.NotFound, acted=True), Event.FORGOTTEN, Event.LOST),
        (failure(errors.ConnectionLost, acted=True), Event.LOST, Event.LOST),
        (failure(errors.ServerError, acted=True), Event.LOST, Event.LOST),
        (failure(errors.Busy, acted=True), Event.LOST, Event.LOST),
        (failure(errors.SourceError, acted=True), Event.LOST, Event.LOST),
        (failure(errors.ConnectionLost), Event.NOT_RECEIVED, Event.NOT_RECEIVED),
        (failure(errors.ConnectionFailed), Event.NOT_RECEIVED, Event.NOT_RECEIVED),
        (failure(errors.Busy), Event.NOT_RECEIVED, Event.NOT_RECEIVED),
        (failure(errors.Refused), Event.REFUSED, Event.REFUSED),
        (failure(errors.NotAuthorised), Event.REFUSED, Event.REFUSED),
        (failure(errors.SourceError), Event.LOCAL_FAILURE, Event.LOCAL_FAILURE),
        (failure(errors.StorageError), Event.LOCAL_FAILURE, Event.LOCAL_FAILURE),
    ],
    ids=lambda value: f"{type(value).__name__}{'*' * value.may_have_acted}" if isinstance(value, MeshError) else None,
)
def test_what_a_failure_says(error: MeshError, event: Event, event_of_last: Event) -> None:
    assert upload.event_of_failure(error, delivers=False) is event
    assert upload.event_of_failure(error, delivers=True) is event_of_last


FOUND = Tracking(
    message_id="M",
    local_id="mine",
    workflow_id="WF",
    recipient="X1",
    file_name="a.csv",
    status="accepted",
    upload_timestamp=NOW,
)


def looked_up(
    changes: dict[str, Any], *, generated: bool = False, began: datetime | None = NOW, to: str = "X1", **more: Any
) -> Event:
    options = dataclasses.replace(OPTIONS, to=to)
    plan = UploadPlan.make(
        options,
        options.headers("ME", None),
        mailbox_id="ME",
        local_id=None if generated else "mine",
        unique="mine",
        length=1,
        limit=1,
    )
    found = FOUND.model_copy(update=changes)
    return upload.event_of_look_up(found, plan, began=began, **{"recent_message_ids": (), **more})


@pytest.mark.parametrize("generated", [False, True])
@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("accepted", Event.FOUND),
        ("acknowledged", Event.FOUND),
        ("uploading", Event.FOUND_OTHER),
        ("a word of the future", Event.FOUND_OTHER),
        (None, Event.FOUND_OTHER),
        ("error", Event.FAILED),
        ("undeliverable", Event.FAILED),
    ],
)
def test_a1_every_status_of_what_was_found(status: str | None, event: Event, generated: bool) -> None:
    """A1: `undeliverable` is the official sandbox's word for a message that nobody collected."""
    assert looked_up({"status": status}, generated=generated) is event


@pytest.mark.parametrize(
    "keywords",
    [
        {"changes": {}, "to": "x1"},
        {"changes": {}, "to": "GPPROVIDER_9434765919_01011950_SMITH"},
        {"changes": {}, "began": NOW + timedelta(seconds=1)},
        {"changes": {"recipient": None, "file_name": None, "workflow_id": None, "local_id": None}},
        {"changes": {"recipient": "X2", "file_name": "b"}, "generated": True},
        {"changes": {}, "began": None, "generated": True},
    ],
)
def test_the_message_of_this_send_is_known(keywords: dict[str, Any]) -> None:
    assert looked_up(**keywords) is Event.FOUND


@pytest.mark.parametrize(
    "keywords",
    [
        {"changes": {}, "began": NOW + timedelta(seconds=10)},
        {"changes": {}, "began": None},
        {"changes": {"upload_timestamp": None}},
        {"changes": {"upload_timestamp": NOW - timedelta(days=1)}},
        {"changes": {}, "to": "X2"},
        {"changes": {"file_name": "b"}},
        {"changes": {"local_id": "other"}, "generated": True},
        {"changes": {"workflow_id": "other"}, "generated": True},
        {"changes": {}, "recent_message_ids": ("M",)},
        {"changes": {"status": "error"}, "to": "X2"},
    ],
)
def test_another_message_under_the_same_local_id_is_not_taken_for_this_one(keywords: dict[str, Any]) -> None:
    assert looked_up(**keywords) is Event.FOUND_OTHER


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("accepted", Event.DELIVERED),
        ("Acknowledged", Event.DELIVERED),
        ("Error", Event.FAILED),
        ("undeliverable", Event.FAILED),
        ("uploading", Event.NOT_DELIVERED),
        ("", Event.NOT_DELIVERED),
    ],
)
def test_what_a_tracking_says(status: str, event: Event) -> None:
    assert upload.event_of_tracking(Tracking(message_id="M", status=status)) is event


def test_a1_a_message_that_mesh_has_failed_is_refused_with_its_words() -> None:
    tracking = Tracking(
        message_id="M",
        status="undeliverable",
        status_event="SEND",
        status_code="14",
        status_description="Not collected",
    )
    refused = upload.failure_of(tracking)
    assert (refused.event, refused.code, refused.description) == ("SEND", "14", "Not collected")
    assert refused.message_id == "M"
    assert "status undeliverable" in str(refused)
    assert upload.error(Next(State.NOT_SENT), refused) is refused


def test_r10_the_words_of_a_failed_message_are_printable() -> None:
    tracking = Tracking(message_id="M1", status="error", status_description="\x1b[31mred\n" + "x" * 1000)
    description = upload.failure_of(tracking).description or ""
    assert description.isprintable()
    assert len(description) < 500


def official_sandbox(module: str) -> Any:
    return pytest.importorskip(f"mesh_sandbox.{module}", reason="mesh-sandbox is not made for this Python")


def test_a1_the_statuses_of_the_official_sandbox_are_known() -> None:
    assert {
        word: (tracking.delivered, tracking.failed, tracking.final)
        for word in official_sandbox("models.message").MessageStatus.VALID_VALUES
        for tracking in [Tracking(message_id="M1", status=word)]
    } == {
        "uploading": (False, False, False),
        "accepted": (True, False, False),
        "acknowledged": (True, False, True),
        "undeliverable": (False, True, True),
        "error": (False, True, True),
    }


def test_a1_an_unknown_status_is_neither_success_nor_failure_and_is_shown_as_it_came() -> None:
    tracking = Tracking(message_id="M1", status="quarantined")
    assert (tracking.delivered, tracking.failed, tracking.final) == (False, False, False)
    assert tracking.status == "quarantined"


def test_a1_every_error_of_the_official_sandbox_is_told_in_its_words() -> None:
    words = set(official_sandbox("common.constants").ErrorCodeMap.values())
    assert len(words) > 10
    for event, code, description in words:
        tracking = Tracking(
            message_id="M1", status="error", status_event=event, status_code=code, status_description=description
        )
        refused = upload.failure_of(tracking)
        assert (refused.event, refused.code, refused.description) == (event, code, description)
        assert f"MESH says: {event} {code} {description}" in str(refused)


def test_an_unknown_outcome_gives_its_reason_and_the_words_of_mesh() -> None:
    lost = failure(errors.ServerError, acted=True, status=502, event="E", code="1", description="words")
    unknown = upload.error(upload.TRANSITIONS[State.LOOKING_UP][Event.NOT_FOUND], lost)
    assert isinstance(unknown, errors.OutcomeUnknown)
    assert unknown.outcome is Outcome.UNKNOWN
    assert (unknown.status, unknown.event, unknown.code, unknown.description) == (502, "E", "1", "words")
    assert "does not know it by its local id" in unknown.reason
    assert "it failed" in unknown.reason
