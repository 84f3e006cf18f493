"""One delivery for every form of receiving: what it promises, by the cases that once broke it (R3 to R27)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import (
    AsyncMeshClient,
    FolderDestination,
    IntegrityError,
    InvalidArgument,
    MeshClient,
    MeshSettings,
    Report,
    SqliteJournal,
    StorageError,
)
from nel_mesh.io.journal import Claim, JournalEntry
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer, Seen, Step
from variants import Connector, TestClock, settings_for

Scripted = Callable[..., tuple[Any, ScriptedServer]]
Serve = Callable[..., ScriptedServer]

MEX = {"Mex-MessageID": "M1", "Mex-From": "X26ABC2", "Mex-WorkflowID": "WF", "Mex-MessageType": "DATA"}
REPORT = {**MEX, "Mex-MessageType": "REPORT", "Mex-LinkedMsgID": "M0", "Mex-StatusCode": "14"}


def inbox(
    *pages: list[str], headers: dict[str, str] | None = None, body: bytes = b"content", put: int = 200
) -> Callable[[Seen], Step]:
    """A server whose inbox has these pages, and whose messages all have this content."""

    def answer(seen: Seen) -> Step:
        if seen.method == "PUT":
            return Step(put)
        if "/inbox?" in seen.path:
            number = int(seen.path.partition("continue_from=")[2].partition("&")[0] or 0)
            links = {"next": f"/x?continue_from={number + 1}"} if number + 1 < len(pages) else {}
            return Step(200, body=json.dumps({"messages": pages[number], "links": links}).encode())
        return Step(200, {**(headers or MEX), "Mex-MessageID": seen.path.split("/")[4]}, body)

    return answer


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def reading(connect: Connector) -> Callable[[Any], Any]:
    """A handler that reads the message to its end."""
    if connect.variant == "sync":
        return lambda message: message.read()

    async def read(message: Any) -> None:
        await message.read()

    return read


# Given ids


@pytest.mark.parametrize("put", [200, 503])
def test_given_ids_use_the_journal_too_r13(scripted: Scripted, tmp_path: Path, put: int) -> None:
    """R13: received by id, the acknowledgement lost; then the whole inbox: one file."""
    mesh, _ = scripted(inbox(["M1"], headers={**MEX, "Mex-FileName": "a.csv"}, put=put), max_attempts=1)
    first = mesh.receive_messages(tmp_path, message_ids=["M1", "M1"])
    assert [len(first.delivered), len(first.unacknowledged)] == ([1, 0] if put == 200 else [0, 1])
    assert [file.path.name for file in first.files] == ["a.csv"]
    again = mesh.receive_messages(tmp_path)
    assert (again.files, visible(tmp_path)) == ([], ["a.csv"])


def test_given_ids_that_are_gone_do_not_stop_the_others_r13(scripted: Scripted, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Step:
        return Step(410) if "/M1" in seen.path else inbox(["M2"])(seen)

    mesh, _ = scripted(answer)
    result = mesh.receive_messages(tmp_path, message_ids=["M1", "M2"])
    assert (result.gone, result.delivered, result.failed) == (["M1"], ["M2"], [])


def test_what_is_already_delivered_and_gone_from_the_inbox_is_a_success_r13(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(inbox(["M1"]))
    mesh.receive_messages(tmp_path, message_ids=["M1"])
    mesh, _ = scripted(Step(410))
    assert mesh.receive_messages(tmp_path, message_ids=["M1"]).already_delivered == ["M1"]


def test_without_acknowledging_nothing_is_acknowledged_until_it_is_asked_for(
    scripted: Scripted, tmp_path: Path
) -> None:
    mesh, server = scripted(inbox(["M1"]))
    assert mesh.receive_messages(tmp_path, message_ids=["M1"], acknowledge=False).delivered == ["M1"]
    assert "PUT" not in {seen.method for seen in server.seen}
    assert mesh.receive_messages(tmp_path).already_delivered == ["M1"]
    assert [seen.method for seen in server.seen].count("PUT") == 1


def test_one_id_that_is_no_list_is_refused(scripted: Scripted, tmp_path: Path) -> None:
    mesh, server = scripted(inbox(["M1"]))
    with pytest.raises(InvalidArgument, match="message_ids"):
        mesh.receive_messages(tmp_path, message_ids="M1")
    assert server.seen == []


# Gone


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("form", ["folder", "handler", "iterator"])
def test_what_another_worker_took_is_gone_and_not_failed(
    scripted: Scripted, connect: Connector, tmp_path: Path, status: int, form: str
) -> None:
    def answer(seen: Seen) -> Step:
        return Step(status) if "/inbox/M1" in seen.path else inbox(["M1", "M2"])(seen)

    mesh, _ = scripted(answer)
    if form == "iterator":
        assert [message.read() for message in mesh.iter_messages()] == [b"content"]
    else:
        result = mesh.receive_messages(tmp_path if form == "folder" else reading(connect))
        assert (result.gone, result.failed, result.delivered) == (["M1"], [], ["M2"])


# Reports with content


def test_the_content_of_a_report_is_kept_r11(scripted: Scripted, tmp_path: Path) -> None:
    """R11: MESH's reports have none; content that came with one is not dropped and acknowledged."""
    mesh, _ = scripted(inbox(["M1"], headers=REPORT, body=b"more about it"))
    result = mesh.receive_messages(tmp_path)
    assert [report.message_id for report in result.reports] == ["M1"]
    assert [(file.path.name, file.path.read_bytes()) for file in result.files] == [("report-M1.json", b"more about it")]


def test_the_content_of_a_report_is_streamed_to_a_handler_r11(scripted: Scripted, connect: Connector) -> None:
    mesh, _ = scripted(inbox(["M1"], headers=REPORT, body=b"more about it"))
    result = mesh.receive_messages(reading(connect))
    assert [report.message_id for report in result.reports] == ["M1"]
    mesh, server = scripted(inbox(["M1"], headers=REPORT, body=b"more about it"))
    for message in mesh.iter_messages():
        assert isinstance(message.metadata, Report)
    assert [seen.method for seen in server.seen].count("PUT") == 1, "a report is acknowledged in any case"


# Bounds


def test_pages_without_end_that_name_nothing_new_are_bounded_r12(scripted: Scripted, tmp_path: Path) -> None:
    count = 0

    def answer(seen: Seen) -> Step:
        nonlocal count
        if "/inbox?" not in seen.path:
            return inbox(["M1"])(seen)
        count += 1
        body = {"messages": ["M1"], "links": {"next": f"/x?continue_from={count}"}}
        return Step(200, body=json.dumps(body).encode())

    mesh, _ = scripted(answer)
    assert mesh.receive_messages(tmp_path).delivered == ["M1"]
    assert count < 500


def test_deadline_and_stop_are_asked_for_each_page_r12(scripted: Scripted, connect: Connector, tmp_path: Path) -> None:
    pages: list[list[str]] = [[] for _ in range(50)]
    mesh, server = scripted(inbox(*pages))
    asked = iter([False] * 3)
    result = mesh.receive_messages(tmp_path, stop=lambda: next(asked, True))
    assert (result.finished, len(server.seen)) == (False, 3)


def test_the_longest_content_is_a_setting_r27(scripted: Scripted, connect: Connector, tmp_path: Path) -> None:
    """R27: gzip can turn little into much; nothing of it stays."""
    mesh, server = scripted(inbox(["M1"], body=bytes(1500)), max_message_size_in_megabytes=0.001)
    for destination in (tmp_path, reading(connect)):
        result = mesh.receive_messages(destination)
        assert isinstance(result.failed[0].error, StorageError)
        assert "max_message_size_in_megabytes" in str(result.failed[0].error)
    assert visible(tmp_path) == []
    assert "PUT" not in {seen.method for seen in server.seen}


# The journal


def test_the_journal_knows_what_was_received_r9(scripted: Scripted, tmp_path: Path) -> None:
    """R9: a process that is killed leaves files whose sender and workflow can still be told."""
    mesh, _ = scripted(inbox(["M1"], headers={**MEX, "Mex-FileName": "a.csv"}))
    mesh.receive_messages(tmp_path)
    journal = SqliteJournal(tmp_path / ".nel-mesh-journal")
    journal.open()
    (entry,) = journal.entries()
    journal.close()
    assert (entry.message_id, entry.sender, entry.workflow_id, entry.message_type) == ("M1", "X26ABC2", "WF", "DATA")
    assert (entry.location, entry.bytes) == (str(tmp_path / "a.csv"), 7)


WORKER = """
import sys
from nel_mesh import MeshClient, MeshSettings
url, journal, form, log = sys.argv[1:]
def handle(message):
    content = message.read()
    with open(log, "a") as file:
        file.write(content.decode() + chr(10))
with MeshClient(MeshSettings(mailbox_id="X26ABC2", password="password", shared_key="TestKey", url=url)) as mesh:
    if form == "handler":
        mesh.receive_messages(handle, journal=journal)
    else:
        for message in mesh.iter_messages(journal=journal):
            handle(message)
"""


@pytest.mark.parametrize("form", ["handler", "iterator"])
def test_processes_that_share_a_journal_deliver_each_message_once_r15(tmp_path: Path, form: str) -> None:
    with plain_sandbox() as server:
        for number in range(20):
            server.deliver_message("X26ABC2", b"%d" % number)
        command = [sys.executable, "-c", WORKER, server.url, str(tmp_path / "journal"), form, str(tmp_path / "log")]
        workers = [subprocess.Popen(command) for _ in range(3)]
        assert [worker.wait(60) for worker in workers] == [0, 0, 0]
        assert sorted(int(line) for line in (tmp_path / "log").read_text().split()) == list(range(20))


def plain_sandbox() -> Sandbox:
    from nel_mesh.sandbox import sandbox

    return sandbox(tls=False)


def test_a_message_that_another_thread_has_is_locked(scripted: Scripted, connect: Connector, tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    claim = journal.claim("X26ABC1", "M1")
    assert claim is not None
    mesh, _ = scripted(inbox(["M1"]))
    assert mesh.receive_messages(reading(connect), journal=tmp_path / "journal").locked == ["M1"]
    assert list(mesh.iter_messages(journal=tmp_path / "journal")) == []
    claim.release()
    assert mesh.receive_messages(reading(connect), journal=tmp_path / "journal").delivered == ["M1"]


def test_a_journal_of_ones_own_can_be_passed(scripted: Scripted, connect: Connector) -> None:
    journal = SqliteJournal(None)
    mesh, _ = scripted(inbox(["M1"]))
    assert mesh.receive_messages(reading(connect), journal=journal).delivered == ["M1"]


class FullJournal(SqliteJournal):
    """A journal on a full disk."""

    def add(self, entry: JournalEntry) -> None:
        raise StorageError("no space left on the device")


@pytest.mark.parametrize("form", ["handler", "iterator"])
def test_r19_what_the_journal_did_not_take_is_delivered_again(
    scripted: Scripted, connect: Connector, form: str
) -> None:
    """R19: the disk fails between the handler's return and the journal, so the message stays in the inbox."""
    mesh, server = scripted(inbox(["M1"]))
    if form == "handler":
        result = mesh.receive_messages(reading(connect), journal=FullJournal(None))
        assert [(one.message_id, type(one.error)) for one in result.failed] == [("M1", StorageError)]
    else:
        with pytest.raises(StorageError, match="no space left"):
            for message in mesh.iter_messages(journal=FullJournal(None)):
                message.read()
    assert not any(seen.path.endswith("/acknowledged") for seen in server.seen)
    assert mesh.receive_messages(reading(connect)).delivered == ["M1"]


class SlowJournal(SqliteJournal):
    """A journal that says when a claim is asked for, and waits before it gives it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked, self.go_on = threading.Event(), threading.Event()

    def claim(self, mailbox_id: str, message_id: str) -> Claim | None:
        self.asked.set()
        self.go_on.wait(20)
        return super().claim(mailbox_id, message_id)


def test_a_task_that_is_cancelled_while_it_takes_a_claim_gives_it_back() -> None:
    journal = SlowJournal()
    settings = MeshSettings(mailbox_id="X26ABC1", password="p", shared_key="k", url="http://127.0.0.1:9", proxy="none")

    async def run() -> None:
        async with AsyncMeshClient(settings) as mesh:
            receiving = mesh.receive_messages(lambda message: message.read(), message_ids=["M1"], journal=journal)
            task = asyncio.ensure_future(receiving)
            await asyncio.to_thread(journal.asked.wait, 20)
            task.cancel()
            await asyncio.sleep(0)
            journal.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert journal.claim("X26ABC1", "M1") is not None


# Files


def test_received_files_are_their_owners_a35(scripted: Scripted, tmp_path: Path) -> None:
    """A35: received files hold patient data, whatever the umask; another mode is asked for by name."""
    before = os.umask(0o022)
    try:
        mesh, _ = scripted(inbox(["M1", "M2"]))
        mesh.receive_messages(tmp_path / "a")
        mesh.receive_messages(FolderDestination(tmp_path / "b", file_mode=0o640))
        journal = SqliteJournal(tmp_path / "journal")
        journal.open()
        beside = [path.stat() for path in tmp_path.glob("journal*")]
        journal.close()
        with mesh.retrieve_message("M1") as message:
            message.save(tmp_path / "saved")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes["saved"] == 0o600
    # It has the names of the files.
    assert [stat.S_IMODE(status.st_mode) for status in beside] == [0o600] * len(beside)
    assert {modes["journal"], modes[".nel-mesh-journal"]} == {0o600}
    assert stat.S_IMODE((tmp_path / "a" / "M1.dat").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "b" / "M1.dat").stat().st_mode) == 0o640


def test_planted_links_and_records_are_refused_r18(scripted: Scripted, tmp_path: Path) -> None:
    """R18: a folder that others can write to."""
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / ".M1.part").symlink_to(target)
    record = {"version": 1, "message_id": "M1", "chunks": 2, "chunks_done": 1, "length": 3}
    (folder / ".M1.json").write_text(json.dumps(record))
    mesh, server = scripted(inbox(["M1"]), max_attempts=1)
    assert isinstance(mesh.receive_messages(folder).failed[0].error, StorageError)
    (folder / ".M1.part").unlink()
    (folder / ".M1.json").write_text(json.dumps({**record, "name": "../target"}))
    assert isinstance(mesh.receive_messages(folder).failed[0].error, StorageError)
    assert target.read_bytes() == b"theirs"
    assert "PUT" not in {seen.method for seen in server.seen}


def test_a_name_is_durable_before_it_is_relied_on_r7(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R7: killed between the link and the fsync of the folder; the next process fsyncs before it acknowledges."""
    (tmp_path / "a.csv").write_bytes(b"content")
    os.link(tmp_path / "a.csv", tmp_path / ".M1.part")
    record = {"version": 1, "message_id": "M1", "chunks": 1, "chunks_done": 1, "length": 7, "name": "a.csv"}
    (tmp_path / ".M1.json").write_text(json.dumps(record))
    events: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            events.append("fsync of the folder")
        fsync(descriptor)

    def answer(seen: Seen) -> Step:
        if seen.method == "PUT":
            events.append("acknowledged")
        return inbox(["M1"], headers={**MEX, "Mex-FileName": "a.csv"})(seen)

    mesh, _ = scripted(answer)
    monkeypatch.setattr(os, "fsync", note)
    assert mesh.receive_messages(tmp_path, journal=tmp_path / "elsewhere" / "journal").delivered == ["M1"]
    assert visible(tmp_path) == ["a.csv", "elsewhere"]
    assert events.index("fsync of the folder") < events.index("acknowledged")


@pytest.mark.parametrize("concurrency", [1, 8])
def test_without_hard_links_no_file_is_replaced_r16(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """R16: FAT and some shares; several messages at once, all with one file name."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    ids = [f"M{number}" for number in range(16)]

    def answer(seen: Seen) -> Step:
        name = seen.path.rpartition("/")[2]
        return inbox(ids, headers={**MEX, "Mex-FileName": "same.csv"}, body=name.encode())(seen)

    mesh, _ = scripted(answer)
    monkeypatch.setattr(os, "link", refuse)
    result = mesh.receive_messages(tmp_path, concurrency=concurrency)
    assert sorted(result.delivered) == sorted(ids)
    assert sorted(path.read_text() for path in tmp_path.iterdir() if not path.name.startswith(".")) == sorted(ids)


def test_a_link_that_was_made_and_reported_as_failed_counts_r17(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R17: NFS."""
    link = os.link
    errors = iter([OSError(5, "Input/output error"), FileExistsError(17, "File exists")])

    def made_and_failed(*args: Any, **keywords: Any) -> None:
        link(*args, **keywords)
        raise next(errors)

    mesh, _ = scripted(inbox(["M1", "M2"]))
    monkeypatch.setattr(os, "link", made_and_failed)
    assert mesh.receive_messages(tmp_path).delivered == ["M1", "M2"]
    assert visible(tmp_path) == ["M1.dat", "M2.dat"]


def test_what_cannot_be_removed_after_success_is_no_failure_r20(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R20: errors of the disk while locks and records are removed; the success is told, the lock is released."""
    unlink = os.unlink
    refused: list[str] = []

    def refuse(path: Any) -> None:
        name = Path(path).name
        if name.startswith(".") and name.endswith((".json", ".lock")):
            refused.append(name)
            raise OSError(28, "No space left on device")
        unlink(path)

    mesh, _ = scripted(inbox(["M1"]))
    monkeypatch.setattr(os, "unlink", refuse)
    assert mesh.receive_messages(tmp_path).delivered == ["M1"]
    assert refused == [".M1.json", ".M1.json.lock"]
    assert mesh.receive_messages(tmp_path).already_delivered == ["M1"], "the lock is free"
    assert visible(tmp_path) == ["M1.dat"]


def test_a_machine_that_refuses_md5_receives_without_comparing_a8(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A8: FIPS mode, where not even a use that is not for security is let through."""
    new = hashlib.new

    def refuse(name: str, *args: Any, **keywords: Any) -> Any:
        if name == "md5":
            raise ValueError("[digital envelope routines] unsupported")
        return new(name, *args, **keywords)

    checksum = f"md5 {hashlib.md5(b'content', usedforsecurity=False).hexdigest()}"
    mesh, _ = scripted(inbox(["M1"], headers={**MEX, "Mex-Content-Checksum": checksum}))
    monkeypatch.setattr(hashlib, "new", refuse)
    (file,) = mesh.receive_messages(tmp_path).files
    assert file.verified is None
    assert "refuses md5" in caplog.text
    with mesh.retrieve_message("M1", verify_checksum=True) as message:
        assert message.read() == b"content"


def test_a_stream_that_is_damaged_is_said_to_be_by_every_read(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(200, {**MEX, "Mex-Content-Checksum": "sha256 " + "0" * 64}, b"content"))
    with mesh.retrieve_message("M1", verify_checksum=True) as message:
        for _ in range(2):
            with pytest.raises(IntegrityError):
                message.read()


def test_threads_that_share_a_client_deliver_each_message_once(serve: Serve, tmp_path: Path) -> None:
    ids = [f"M{number}" for number in range(30)]
    server = serve(inbox(ids))
    with MeshClient(settings_for(server.url), clock=TestClock()) as mesh:
        threads = [threading.Thread(target=mesh.receive_messages, args=(tmp_path,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert visible(tmp_path) == sorted(f"{one}.dat" for one in ids)
