"""The record of a send as a value: what it says, and which send it is of."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from uploads import OPTIONS, make_plan, make_record

from nel_mesh import errors
from nel_mesh.errors import MeshError
from nel_mesh.protocol import upload_record
from nel_mesh.protocol.upload_record import SendRecord
from nel_mesh.protocol.upload_states import Event


def test_a_record_says_how_far_a_send_has_come() -> None:
    plan = make_plan(length=3, limit=1)
    record = make_record(plan)
    for number in (1, 2, 3):
        assert not record.sent
        record = record.accepted(number, message_id="M1", bytes_on_wire=10, digest=f"d{number}")
        assert record.bytes_done == number
    assert SendRecord.from_bytes(record.to_bytes(), "") == record
    receipt = record.receipt()
    assert (receipt.message_id, receipt.local_id) == ("M1", "unique")
    assert (receipt.chunks, receipt.bytes, receipt.bytes_on_wire) == (3, 3, 30)
    again = record.started_again()
    assert (again.message_id, again.chunks_done, again.bytes_on_wire, again.digest) == (None, 0, 0, "")
    found = make_record().delivered("M2", bytes_on_wire=9)
    assert (found.receipt().message_id, found.sent, found.receipt().bytes_on_wire) == ("M2", True, 9)


def test_a_resumed_plan_is_the_plan_as_it_was() -> None:
    plan = make_plan(length=12, limit=5, local_id="mine")
    resumed = make_record(plan).plan(OPTIONS)
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
    expected = None if kept is None else dataclasses.replace(record, **kept)
    assert upload_record.record_of_failure(record, event) == expected
    assert not record.failed().opened().not_sent


@pytest.mark.parametrize("content", [b"", b"{}", b"not a record", b'{"version": 1}', b'{"version": 1, "more": 2}'])
def test_what_is_no_record_is_not_taken_for_a_new_send(content: bytes) -> None:
    with pytest.raises(errors.StorageError, match=r"r\.json: this is no record of a transfer.*remove it"):
        SendRecord.from_bytes(content, "r.json")


def test_a_key_is_the_local_id_or_else_the_path() -> None:
    def key(local_id: str | None, path: str, mailbox_id: str = "ME") -> str:
        return upload_record.record_key(OPTIONS, mailbox_id=mailbox_id, local_id=local_id, path=path)

    assert key("mine", "/a") == key("mine", "/b")
    assert key(None, "/a") != key(None, "/b")
    assert key(None, "/a") != key(None, "/a", mailbox_id="OTHER")
