"""The events of a send as values: what each response, failure and tracking means."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest
from uploads import NOW, OPTIONS, make_plan, make_record

from nel_mesh import errors
from nel_mesh.errors import MeshError, Outcome
from nel_mesh.models import Tracking
from nel_mesh.protocol import upload_events, upload_states
from nel_mesh.protocol.upload_plan import UploadPlan
from nel_mesh.protocol.upload_states import Event, Next, State


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
    assert upload_events.event_of_record(make_record(make_plan(length, 1), **changes)) is event
    assert upload_events.event_of_record(None) is Event.NO_RECORD


def test_what_a_plan_and_an_acceptance_say() -> None:
    assert upload_events.event_of_plan(make_plan(1, 1)) is Event.ONE_REQUEST
    assert upload_events.event_of_plan(make_plan(2, 1)) is Event.SEVERAL_CHUNKS
    assert upload_events.event_of_acceptance(1, 1) is Event.ACCEPTED_ALL
    assert upload_events.event_of_acceptance(1, 2) is Event.ACCEPTED_ONE_LEFT
    assert upload_events.event_of_acceptance(1, 3) is Event.ACCEPTED_MORE_LEFT


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
        assert upload_events.accepted_message_id(number, status, message_id, upload_id) == accepted
        return
    with pytest.raises(errors.ServerError) as caught:
        upload_events.accepted_message_id(number, status, message_id, upload_id)
    assert upload_events.event_of_failure(caught.value, delivers=True) is Event.LOST


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
    assert upload_events.event_of_failure(error, delivers=False) is event
    assert upload_events.event_of_failure(error, delivers=True) is event_of_last


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
    return upload_events.event_of_look_up(found, plan, began=began, **{"recent_message_ids": (), **more})


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
    assert upload_events.event_of_tracking(Tracking(message_id="M", status=status)) is event


def test_a1_a_message_that_mesh_has_failed_is_refused_with_its_words() -> None:
    tracking = Tracking(
        message_id="M",
        status="undeliverable",
        status_event="SEND",
        status_code="14",
        status_description="Not collected",
    )
    refused = upload_events.failure_of(tracking)
    assert (refused.event, refused.code, refused.description) == ("SEND", "14", "Not collected")
    assert refused.message_id == "M"
    assert "status undeliverable" in str(refused)
    assert upload_events.error(Next(State.NOT_SENT), refused) is refused


def test_r10_the_words_of_a_failed_message_are_printable() -> None:
    tracking = Tracking(message_id="M1", status="error", status_description="\x1b[31mred\n" + "x" * 1000)
    description = upload_events.failure_of(tracking).description or ""
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
        refused = upload_events.failure_of(tracking)
        assert (refused.event, refused.code, refused.description) == (event, code, description)
        assert f"MESH says: {event} {code} {description}" in str(refused)


def test_an_unknown_outcome_gives_its_reason_and_the_words_of_mesh() -> None:
    lost = failure(errors.ServerError, acted=True, status=502, event="E", code="1", description="words")
    unknown = upload_events.error(upload_states.TRANSITIONS[State.LOOKING_UP][Event.NOT_FOUND], lost)
    assert isinstance(unknown, errors.OutcomeUnknown)
    assert unknown.outcome is Outcome.UNKNOWN
    assert (unknown.status, unknown.event, unknown.code, unknown.description) == (502, "E", "1", "words")
    assert "does not know it by its local id" in unknown.reason
    assert "it failed" in unknown.reason
