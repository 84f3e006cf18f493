"""Sending under a record: it goes on after anything, never twice, and never with other content."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import (
    ConnectionFailed,
    InvalidArgument,
    MeshError,
    NotAuthorised,
    Outcome,
    OutcomeUnknown,
    Refused,
    SourceError,
    StorageError,
    Transfers,
)
from nel_mesh.io.content import OpenContent
from nel_mesh.io.locks import FileLock
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer, Step
from variants import Connector, settings_for

TO = {"to": "X26ABC2", "workflow_id": "WF"}
SMALL: dict[str, Any] = {"max_chunk_size_in_megabytes": 0.001}
DATA = random.Random(8).randbytes(3500)
BROKEN = Step(403, body=b"<html>")

Scripted = Callable[..., tuple[Any, ScriptedServer]]


def accepted(message_id: str = "M1") -> Step:
    return Step(202, body=json.dumps({"message_id": message_id}).encode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "extract.csv"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("broken_at", [1, 2, 4])
def test_a_send_goes_on_at_the_next_chunk(
    scripted: Scripted, tmp_path: Path, path: Path, broken_at: int, compress: bool
) -> None:
    record = tmp_path / "record.json"
    mesh, server = scripted(*[accepted()] * (broken_at - 1), BROKEN, **SMALL)
    with pytest.raises(MeshError) as caught:
        mesh.send_file(path, **TO, compress=compress, resume=record)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.message_id == ("M1" if broken_at > 1 else None)
    assert caught.value.local_id
    first = [seen.headers["mex-chunk-range"] for seen in server.seen]
    # Another chunk size in the settings must not move the cuts of a send that is under way.
    mesh, server = scripted(accepted("M1"), max_chunk_size_in_megabytes=50)
    sent = mesh.send_file(path, **TO, compress=compress, resume=record)
    second = [seen.headers["mex-chunk-range"] for seen in server.seen]
    assert first[:-1] + second == ["1:4", "2:4", "3:4", "4:4"]
    assert (sent.message_id, sent.local_id, sent.chunks, sent.bytes) == ("M1", caught.value.local_id, 4, len(DATA))
    # Complete under a record of its own: the same receipt again, and nothing is sent.
    before = len(server.seen)
    assert mesh.send_file(path, **TO, compress=compress, resume=record) == sent
    assert len(server.seen) == before


@pytest.mark.parametrize("refused_at", [2, 3, 4])
def test_a_refused_connection_at_any_chunk_is_not_sent_and_goes_on(
    scripted: Scripted, tmp_path: Path, path: Path, refused_at: int
) -> None:
    record = tmp_path / "record.json"
    closing = Step(202, {"Connection": "close"}, b'{"message_id": "M1"}')

    def last_one(seen: Any) -> Step:
        server.refuse()
        return closing

    mesh, server = scripted(*[closing] * (refused_at - 2), last_one, max_attempts=2, **SMALL)
    with pytest.raises(ConnectionFailed) as caught:
        mesh.send_file(path, **TO, resume=record)
    assert (caught.value.outcome, caught.value.message_id) == (Outcome.NOT_SENT, "M1")
    mesh, server = scripted(accepted("M1"))
    assert mesh.send_file(path, **TO, resume=record).message_id == "M1"
    assert [seen.headers["mex-chunk-range"] for seen in server.seen] == [f"{k}:4" for k in range(refused_at, 5)]


def test_the_record_holds_no_patient_data(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    mesh, _ = scripted(accepted(), BROKEN, **SMALL)
    with pytest.raises(MeshError):
        mesh.send_file(
            path, to="GPPROVIDER_9434765919", workflow_id="WF", subject="Mrs Jones", resume=tmp_path / "r.json"
        )
    text = (tmp_path / "r.json").read_text()
    for private in ("9434765919", "Jones", "extract.csv", "password", "TestKey"):
        assert private not in text


@pytest.mark.parametrize(
    "change", [lambda path: path.write_bytes(DATA + b"more"), lambda path: os.utime(path, ns=(1, 1))]
)
def test_a_source_that_has_changed_is_refused(
    scripted: Scripted, tmp_path: Path, path: Path, change: Callable[[Path], None]
) -> None:
    mesh, server = scripted(accepted(), accepted(), BROKEN, **SMALL)
    with pytest.raises(MeshError):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    change(path)
    with pytest.raises(SourceError, match="changed since this send began.*remove the record") as caught:
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    assert caught.value.outcome is Outcome.NOT_SENT
    assert len(server.seen) == 3


def test_a_source_that_has_changed_behind_its_date_is_refused(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    mesh, _server = scripted(accepted(), accepted(), BROKEN, **SMALL)
    with pytest.raises(MeshError):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    date = path.stat().st_mtime_ns
    path.write_bytes(b"X" + DATA[1:])
    os.utime(path, ns=(date, date))
    with pytest.raises(SourceError, match="changed since"):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")


@pytest.mark.parametrize("change", [{"to": "X26ABC3"}])
def test_a_record_of_another_send_is_refused(
    scripted: Scripted, tmp_path: Path, path: Path, change: dict[str, Any]
) -> None:
    mesh, _ = scripted(accepted(), BROKEN, **SMALL)
    with pytest.raises(MeshError):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    with pytest.raises(InvalidArgument, match="resume: .* other arguments"):
        mesh.send_file(path, **{**TO, **change}, resume=tmp_path / "r.json")


@pytest.mark.parametrize("content", [b""])
def test_what_is_no_record_is_not_taken_for_a_fresh_start(
    scripted: Scripted, tmp_path: Path, path: Path, content: bytes
) -> None:
    (tmp_path / "r.json").write_bytes(content)
    mesh, server = scripted(accepted())
    with pytest.raises(StorageError, match=r"r\.json: this is no record of a transfer"):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    assert server.seen == []


def test_two_at_once_under_one_record_are_refused(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    lock = FileLock(tmp_path / "r.json.lock")
    assert lock.acquire()
    mesh, server = scripted(accepted())
    with pytest.raises(StorageError, match="another process or thread"):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    lock.release()
    assert server.seen == []
    mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    assert not list(tmp_path.glob("*.lock"))


def test_a_folder_of_records_keeps_sends_apart(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "transfers"
    folder.mkdir()
    mesh, _ = scripted(accepted(), BROKEN, **SMALL)
    for recipient in ("X26ABC2", "X26ABC3"):
        with pytest.raises(MeshError):
            mesh.send_file(path, to=recipient, workflow_id="WF", resume=folder)
    assert len(list(folder.iterdir())) == 2
    mesh, server = scripted(accepted(), **SMALL)
    mesh.send_file(path, to="X26ABC2", workflow_id="WF", resume=folder)
    # Nothing names this send, so the same call again is a new one.
    assert len(list(folder.iterdir())) == 1
    mesh.send_file(path, to="X26ABC2", workflow_id="WF", resume=folder)
    assert [seen.headers["mex-chunk-range"] for seen in server.seen] == [
        "2:4",
        "3:4",
        "4:4",
        "1:4",
        "2:4",
        "3:4",
        "4:4",
    ]


def test_a_local_id_makes_a_send_once_for_all(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "transfers"
    folder.mkdir()
    mesh, server = scripted(accepted())
    sent = mesh.send_file(path, **TO, local_id="order-1", resume=folder)
    assert mesh.send_file(path, **TO, local_id="order-1", resume=folder) == sent
    assert len(server.seen) == 1


def found(local_id: str) -> Step:
    body = {"messageId": "FOUND", "localId": local_id, "workflowId": "WF", "status": "Accepted"}
    return Step(200, body=json.dumps(body).encode())


def test_a_single_request_whose_fate_is_open_is_looked_up_before_it_is_sent(
    connect: Connector, serve: Callable[..., ScriptedServer], tmp_path: Path, path: Path
) -> None:
    record = tmp_path / "r.json"
    mesh = connect(settings_for(serve(Step(drop=True), Step(404)).url))
    with pytest.raises(OutcomeUnknown) as caught:
        mesh.send_file(path, **TO, resume=record)
    local_id = caught.value.local_id or ""
    assert connect.clock.waits == [0, 1, 2, 4, 8, 15], "MESH is given half a minute to know it"
    server = serve(found(local_id))
    mesh = connect(settings_for(server.url))
    assert mesh.send_file(path, **TO, resume=record).message_id == "FOUND"
    assert [seen.method for seen in server.seen] == ["GET"]


def test_a_single_request_that_mesh_never_knew_is_sent_under_the_same_local_id(
    connect: Connector, serve: Callable[..., ScriptedServer], tmp_path: Path, path: Path
) -> None:
    record = tmp_path / "r.json"
    mesh = connect(settings_for(serve(Step(drop=True), Step(404)).url))
    with pytest.raises(OutcomeUnknown) as caught:
        mesh.send_file(path, **TO, resume=record)
    server = serve(*[Step(404)] * 6, accepted())
    mesh = connect(settings_for(server.url))
    assert mesh.send_file(path, **TO, resume=record).message_id == "M1"
    assert server.seen[-1].headers["mex-localid"] == caught.value.local_id


def test_a_single_request_that_failed_for_certain_is_sent_again_without_asking(
    scripted: Scripted, tmp_path: Path, path: Path
) -> None:
    record = tmp_path / "r.json"
    mesh, server = scripted(Step(503), accepted(), max_attempts=1)
    with pytest.raises(MeshError) as caught:
        mesh.send_file(path, **TO, resume=record)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert mesh.send_file(path, **TO, resume=record).message_id == "M1"
    assert [seen.method for seen in server.seen] == ["POST", "POST"]
    assert not json.loads(record.read_bytes())["not_sent"]


def test_that_a_send_failed_for_certain_is_forgotten_before_the_next_attempt(
    connect: Connector, serve: Callable[..., ScriptedServer], tmp_path: Path, path: Path
) -> None:
    record = tmp_path / "r.json"
    mesh = connect(settings_for(serve(Step(503)).url, max_attempts=1))
    with pytest.raises(MeshError):
        mesh.send_file(path, **TO, resume=record)
    assert json.loads(record.read_bytes())["not_sent"]
    mesh = connect(settings_for(serve(Step(drop=True), Step(404)).url))
    with pytest.raises(OutcomeUnknown):
        mesh.send_file(path, **TO, resume=record)
    assert not json.loads(record.read_bytes())["not_sent"], "the next attempt must ask MESH first"


def test_an_unsettled_look_up_sends_nothing(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    mesh, _ = scripted(Step(drop=True), Step(404))
    with pytest.raises(OutcomeUnknown):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    mesh, server = scripted(Step(403))
    with pytest.raises(OutcomeUnknown):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    assert [seen.method for seen in server.seen] == ["GET"]


def test_a_last_chunk_that_arrived_before_the_interruption_is_not_doubled(
    mesh_sandbox: Sandbox, connect: Connector, tmp_path: Path, path: Path
) -> None:
    mesh = connect(mesh_sandbox.settings("X26ABC1", **SMALL))
    record = tmp_path / "r.json"
    sent = mesh.send_file(path, **TO, resume=record)
    # As it was when the last response had not been noted yet.
    content = json.loads(record.read_text())
    digest = ""
    with OpenContent(path, None) as opened:
        for start in (0, 1000, 2000):
            digest = opened.digest(start, 1000, digest)
    record.write_text(json.dumps(content | {"sent": False, "chunks_done": 3, "digest": digest}))
    assert mesh.send_file(path, **TO, resume=record).message_id == sent.message_id
    (delivered,) = mesh_sandbox.delivered("X26ABC2")
    assert mesh_sandbox.content(delivered.message_id) == DATA


def test_resolve_send(mesh_sandbox: Sandbox, connect: Connector) -> None:
    mesh = connect(mesh_sandbox.settings("X26ABC1", **SMALL))
    sent = mesh.send_message(b"content", **TO, local_id="mine")
    tracking = mesh.resolve_send("mine")
    assert (tracking.message_id, tracking.status) == (sent.message_id, "accepted")
    assert mesh.resolve_send("never") is None


def test_wait_for_delivery_is_considerate(scripted: Scripted, connect: Connector) -> None:
    def status(text: str) -> Step:
        return Step(200, body=json.dumps({"message_id": "M1", "status": text}).encode())

    mesh, server = scripted(*[status("accepted")] * 4, status("acknowledged"))
    assert mesh.wait_for_delivery("M1", longest_wait_in_seconds=100).status == "acknowledged"
    assert connect.clock.waits == [30, 60, 100, 100]
    mesh, server = scripted(status("error"))
    assert mesh.wait_for_delivery("M1").status == "error"
    mesh, server = scripted(status("accepted"))
    assert mesh.wait_for_delivery("M1", deadline_in_seconds=0).status == "accepted"
    assert len(server.seen) == 1


# What a review found


def test_r20_a_record_that_cannot_be_written_after_the_end_does_not_unsay_it(
    scripted: Scripted, tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R20: the message was sent, and that is what the caller is told; the lock is released."""
    record = tmp_path / "records" / "r.json"

    def block_the_record(seen: Any) -> Step:
        record.unlink()
        record.mkdir()
        return accepted()

    mesh, _ = scripted(block_the_record)
    assert mesh.send_file(path, **TO, resume=record).message_id == "M1"
    assert "the message was sent, but its resume record not completed" in caplog.text
    lock = FileLock(record.with_name("r.json.lock"))
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize(("answer", "tracked"), [(Step(410), True), (Step(403), False)])
def test_a_resumed_last_chunk_that_is_refused_may_have_arrived_before(
    scripted: Scripted, tmp_path: Path, path: Path, answer: Step, tracked: bool
) -> None:
    mesh, _ = scripted(accepted(), accepted(), accepted(), BROKEN, **SMALL)
    with pytest.raises(MeshError):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    status = b'{"message_id": "M1", "status": "accepted"}'
    mesh, _ = scripted(answer, Step(200, body=status) if tracked else Step(404))
    if tracked:
        assert mesh.send_file(path, **TO, resume=tmp_path / "r.json").message_id == "M1"
    else:
        with pytest.raises(OutcomeUnknown):
            mesh.send_file(path, **TO, resume=tmp_path / "r.json")


def test_a_changed_source_of_a_send_that_may_be_complete_is_not_called_unsent(
    scripted: Scripted, tmp_path: Path, path: Path
) -> None:
    mesh, _ = scripted(Step(drop=True), Step(404))
    with pytest.raises(OutcomeUnknown):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    os.utime(path, ns=(1, 1))
    with pytest.raises(SourceError) as caught:
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    assert caught.value.outcome is Outcome.UNKNOWN


def test_several_messages_of_one_local_id_are_not_none(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    mesh, _ = scripted(Step(drop=True), Step(300))
    with pytest.raises(OutcomeUnknown):
        mesh.send_file(path, **TO, local_id="daily", resume=tmp_path / "r.json")
    mesh, server = scripted(Step(300))
    with pytest.raises(OutcomeUnknown):
        mesh.send_file(path, **TO, local_id="daily", resume=tmp_path / "r.json")
    with pytest.raises(OutcomeUnknown, match="several"):
        mesh.resolve_send("daily")
    assert {seen.method for seen in server.seen} == {"GET"}


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_mesh_has_forgotten_is_begun_anew(
    scripted: Scripted, tmp_path: Path, path: Path, status: int
) -> None:
    mesh, _ = scripted(accepted("OLD"), accepted("OLD"), BROKEN, **SMALL)
    with pytest.raises(MeshError):
        mesh.send_file(path, **TO, resume=tmp_path / "r.json")
    mesh, server = scripted(Step(status), accepted("NEW"), **SMALL)
    assert mesh.send_file(path, **TO, resume=tmp_path / "r.json").message_id == "NEW"
    assert [seen.headers["mex-chunk-range"] for seen in server.seen] == ["3:4", "1:4", "2:4", "3:4", "4:4"]


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_that_changes_while_its_only_request_goes_is_not_sent_as_a_mixture(
    scripted: Scripted, path: Path, compress: bool
) -> None:
    path.write_bytes(os.urandom(1_000_000))
    mesh, server = scripted(accepted())

    def change(progress: Any) -> None:
        if progress.bytes_done == 0:
            path.write_bytes(bytes(1_000_000))

    with pytest.raises(SourceError, match="changed"):
        mesh.send_file(path, **TO, compress=compress, progress=change)
    assert not [seen for seen in server.seen if len(seen.body) == int(seen.headers["content-length"])]


# Records that outlive a receipt, or cannot be kept


def test_r2_a_record_outlives_the_receipt_until_it_is_forgotten(scripted: Scripted, tmp_path: Path, path: Path) -> None:
    """R2: a process that ends between the send and the moment in which its receipt is safe does not send again."""
    transfers = Transfers(tmp_path / "transfers")
    transfer = transfers.transfer("daily")
    assert transfer.state() is None
    transfer.forget()
    mesh, server = scripted(accepted(), accepted(), BROKEN, accepted(), accepted(), accepted(), **SMALL)
    with pytest.raises(MeshError):
        mesh.send_file(path, **TO, resume=transfer)
    state = transfer.state()
    assert state is not None
    assert (state.sent, state.bytes_done, state.bytes_total, state.message_id) == (False, 2000, 3500, "M1")
    assert state.local_id not in repr(state)
    sent = mesh.send_file(path, **TO, resume=transfer)
    before = len(server.seen)
    assert mesh.send_file(path, **TO, resume=transfers.transfer("daily")) == sent
    assert len(server.seen) == before, "the receipt again, and nothing is sent"
    state = transfer.state()
    assert state is not None
    assert (state.sent, state.bytes_done) == (True, 3500)
    assert list(transfers.keys()) == ["daily"]
    transfer.forget()
    assert list((tmp_path / "transfers").iterdir()) == []
    assert mesh.send_file(path, **TO, resume=transfer).chunks == 4
    assert len(server.seen) > before, "and now it is a new send"


def test_r2_a_transfer_under_way_is_not_forgotten(tmp_path: Path) -> None:
    transfer = Transfers(tmp_path).transfer("daily")
    transfer.path.write_bytes(b"not a record")
    lock = transfer.lock()
    assert lock.acquire()
    with pytest.raises(StorageError, match="under way"):
        transfer.forget()
    lock.release()
    with pytest.raises(StorageError, match=r"daily\.json: this is no record of a transfer"):
        transfer.state()
    transfer.forget()
    assert transfer.state() is None


def refuse(*paths: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the operating system refuse to open or remove these files."""
    opened, unlink = os.open, os.unlink

    def refuse_open(name: Any, *arguments: Any, **keywords: Any) -> int:
        if any(Path(name) == path or (path.is_dir() and Path(name).parent == path) for path in paths):
            raise OSError(number, os.strerror(number))
        return opened(name, *arguments, **keywords)

    def refuse_unlink(name: Any, *arguments: Any, **keywords: Any) -> None:
        if Path(name) in paths:
            raise OSError(number, os.strerror(number))
        unlink(name, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refuse_open)
    monkeypatch.setattr(os, "unlink", refuse_unlink)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a10_a_send_whose_record_cannot_be_kept_goes_on_and_says_so(
    scripted: Scripted,
    tmp_path: Path,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """A10, A12: a folder that is read-only or full."""
    folder = tmp_path / "share"
    folder.mkdir()
    refuse(folder, number=number, monkeypatch=monkeypatch)
    mesh, server = scripted(accepted(), **SMALL)
    assert mesh.send_file(path, **TO, resume=folder).message_id == "M1"
    assert len(server.seen) == 4
    assert f"no resume record can be kept ({errno.errorcode[number]})" in caplog.text
    assert list(folder.iterdir()) == []


def test_a10_a_share_without_locks_syncs_and_hard_links_keeps_the_record_all_the_same(
    scripted: Scripted, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    fsync = os.fsync

    def no_folder(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(fcntl, "flock", cannot)
    monkeypatch.setattr(os, "link", cannot)
    monkeypatch.setattr(os, "fsync", no_folder)
    mesh, server = scripted(accepted(), accepted(), BROKEN, accepted(), **SMALL)
    with pytest.raises(NotAuthorised):
        mesh.send_file(path, **TO, resume=tmp_path / "share" / "r.json")
    assert mesh.send_file(path, **TO, resume=tmp_path / "share" / "r.json").chunks == 4
    assert [seen.headers["mex-chunk-range"] for seen in server.seen] == ["1:4", "2:4", "3:4", "3:4", "4:4"]


def test_a10_a_record_that_is_there_is_never_passed_over(
    scripted: Scripted, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A10: it may say that the message was sent."""
    record = tmp_path / "r.json"
    mesh, _ = scripted(Step(drop=True), Step(404))
    with pytest.raises(OutcomeUnknown):
        mesh.send_file(path, **TO, resume=record)
    refuse(record.with_name("r.json.lock"), number=errno.EROFS, monkeypatch=monkeypatch)
    mesh, server = scripted(accepted())
    with pytest.raises(StorageError) as caught:
        mesh.send_file(path, **TO, resume=record)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert server.seen == []


def test_r20_a_record_that_cannot_be_removed_does_not_unsay_the_send(
    scripted: Scripted,
    tmp_path: Path,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "transfers"
    folder.mkdir()

    def fail_to_unlink(seen: Any) -> Step:
        (record,) = folder.glob("*.json")
        refuse(record, record.with_name(f"{record.name}.lock"), number=errno.EIO, monkeypatch=monkeypatch)
        return accepted()

    mesh, _ = scripted(fail_to_unlink)
    assert mesh.send_file(path, **TO, resume=folder).message_id == "M1"
    assert "cannot be removed" in caplog.text


def test_a_record_that_cannot_be_written_in_the_middle_ends_the_send(
    scripted: Scripted, tmp_path: Path, path: Path
) -> None:
    """A stale record could lead to a second message later: an upload that it calls unfinished may be complete."""
    record = tmp_path / "r.json"

    def block_the_record(seen: Any) -> Step:
        record.unlink()
        record.mkdir()
        return accepted()

    mesh, server = scripted(accepted(), block_the_record, **SMALL)
    with pytest.raises(StorageError) as caught:
        mesh.send_file(path, **TO, resume=record)
    assert (caught.value.outcome, caught.value.message_id) == (Outcome.NOT_SENT, "M1")
    assert len(server.seen) == 2


# A1: every word of MESH


def status(text: str, **fields: Any) -> Step:
    return Step(200, body=json.dumps({"message_id": "M1", "status": text, **fields}).encode())


@pytest.mark.parametrize("word", ["undeliverable", "error", "Undeliverable"])
def test_a1_a_message_that_nobody_collected_has_failed(scripted: Scripted, word: str) -> None:
    mesh, server = scripted(status(word, status_event="SEND", status_code="14", status_description="Not collected"))
    tracking = mesh.wait_for_delivery("M1")
    assert (tracking.failed, tracking.final, tracking.delivered) == (True, True, False)
    assert len(server.seen) == 1
    assert mesh.resolve_send("mine").failed


def test_a1_a_last_chunk_that_mesh_has_failed_is_not_sent_and_its_record_is_forgotten(
    scripted: Scripted, tmp_path: Path, path: Path
) -> None:
    record = tmp_path / "r.json"
    failed = status("undeliverable", status_event="SEND", status_code="14", status_description="Not collected")
    mesh, _ = scripted(*[accepted()] * 3, Step(drop=True), failed, max_attempts=1, **SMALL)
    with pytest.raises(Refused, match="SEND 14 Not collected") as caught:
        mesh.send_file(path, **TO, resume=record)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert not record.exists(), "the next send is a new one"
