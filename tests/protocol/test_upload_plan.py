"""The plan of an upload as a value."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from uploads import OPTIONS, make_plan, make_record

from nel_mesh import errors
from nel_mesh.protocol import upload_record, wire
from nel_mesh.protocol.upload_plan import UploadPlan


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
        upload_record.record_key(chosen, mailbox_id="ME", local_id=own, path="/a")
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
