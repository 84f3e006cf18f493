"""The receive loop: everything that waits is delivered once, acknowledged only then, and nothing stops the rest."""

from __future__ import annotations

import concurrent.futures
import gc
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import HandlerError, IntegrityError, InvalidArgument, MeshError, NotAuthorised, Report
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer, Seen, Step
from variants import Connector

Scripted = Callable[..., tuple[Any, ScriptedServer]]


@pytest.fixture
def alice(mesh_sandbox: Sandbox, connect: Connector) -> Any:
    return connect(mesh_sandbox.settings("X26ABC1"))


@pytest.fixture
def bob(mesh_sandbox: Sandbox, connect: Connector) -> Any:
    return connect(mesh_sandbox.settings("X26ABC2"))


def send(alice: Any, count: int, workflow_id: str = "WF") -> list[str]:
    return [
        alice.send_message(f"content {k}", to="X26ABC2", workflow_id=workflow_id, file_name=f"{k}.txt").message_id
        for k in range(count)
    ]


def handler_for(connect: Connector, handler: Callable[[Any], object]) -> Callable[[Any], Any]:
    """Adapt a handler to the client: the async one gets the content too, since it cannot wait in a sync handler."""
    if connect.variant == "sync":
        return lambda message: handler((message, message.read))

    async def handle(message: Any) -> None:
        content = await message.read() if not isinstance(message, Report) else b""
        handler((message, lambda: content))

    return handle


def reports_to(connect: Connector, found: list[Report]) -> Callable[[Report], Any]:
    if connect.variant == "sync":
        return found.append

    async def handle(report: Report) -> None:
        found.append(report)

    return handle


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_inbox_is_emptied_into_a_folder(
    mesh_sandbox: Sandbox, alice: Any, bob: Any, tmp_path: Path, concurrency: int
) -> None:
    ids = send(alice, 7)
    report_id = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0", code="14")
    result = bob.receive_messages(tmp_path / "in", concurrency=concurrency)
    assert sorted(result.delivered) == sorted(ids)
    assert sorted(file.path.read_bytes() for file in result.files) == [b"content %d" % k for k in range(7)]
    assert names(tmp_path / "in") == [*(f"{k}.txt" for k in range(7)), f"report-{report_id}.json"]
    report = json.loads((tmp_path / "in" / f"report-{report_id}.json").read_text())
    assert (report["linked_message_id"], report["status_code"]) == ("M0", "14")
    assert [one.message_id for one in result.reports] == [report_id]
    assert (result.failed, result.already_delivered, result.finished) == ([], [], True)
    assert bob.list_messages() == []
    again = bob.receive_messages(tmp_path / "in")
    assert (again.delivered, again.already_delivered) == ([], [])


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_inbox_is_emptied_through_a_handler(
    mesh_sandbox: Sandbox, connect: Connector, alice: Any, bob: Any, concurrency: int
) -> None:
    ids = send(alice, 5)
    mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    got: list[bytes] = []
    reports: list[Report] = []
    result = bob.receive_messages(
        handler_for(connect, lambda pair: got.append(pair[1]())),
        on_report=reports_to(connect, reports),
        concurrency=concurrency,
    )
    assert sorted(got) == [b"content %d" % k for k in range(5)]
    assert sorted(result.delivered) == sorted(ids)
    assert [report.linked_message_id for report in reports] == ["M0"]
    assert bob.list_messages() == []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_one_bad_message_stops_no_other_and_stays(
    mesh_sandbox: Sandbox, connect: Connector, alice: Any, bob: Any, concurrency: int
) -> None:
    ids = send(alice, 5)

    def handle(pair: tuple[Any, Callable[[], bytes]]) -> None:
        if pair[1]() == b"content 2":
            raise ZeroDivisionError("bad")

    result = bob.receive_messages(handler_for(connect, handle), concurrency=concurrency)
    assert sorted(result.delivered) == sorted(ids[:2] + ids[3:])
    (failed,) = result.failed
    assert failed.message_id == ids[2]
    assert isinstance(failed.error, HandlerError)
    assert (failed.error.kind, failed.error.text) == ("ZeroDivisionError", "bad")
    assert "in handle\n" in failed.error.where
    assert str(failed.error) == (
        f"receive_messages: ZeroDivisionError was raised by the handler; message id {failed.message_id}"
    )
    assert bob.list_messages() == [ids[2]], "it ends though a message stays, and has not acknowledged it"


def test_a_damaged_message_is_not_acknowledged(
    mesh_sandbox: Sandbox, alice: Any, connect: Connector, tmp_path: Path
) -> None:
    bob = connect(mesh_sandbox.settings("X26ABC2", max_attempts=2))
    good = send(alice, 2)
    bad = mesh_sandbox.deliver_message("X26ABC2", b"\x1f\x8b no gzip", content_encoding="gzip")
    result = bob.receive_messages(tmp_path)
    assert sorted(result.delivered) == sorted(good)
    assert isinstance(result.failed[0].error, IntegrityError)
    assert bob.list_messages() == [bad]
    assert names(tmp_path) == ["0.txt", "1.txt"]


def test_a_handler_that_does_not_read_to_the_end_has_not_delivered(connect: Connector, alice: Any, bob: Any) -> None:
    ids = send(alice, 1)

    def handle(message: Any) -> Any:
        message.read(3)

    async def async_handle(message: Any) -> Any:
        await message.read(3)

    result = bob.receive_messages(handle if connect.variant == "sync" else async_handle)
    assert "to its end" in str(result.failed[0].error)
    assert bob.list_messages() == ids


@pytest.mark.parametrize("to_folder", [True, False])
def test_what_was_delivered_before_is_only_acknowledged_again(
    scripted: Scripted, connect: Connector, tmp_path: Path, to_folder: bool
) -> None:
    """The acknowledgement's answer is lost, and the process ends: the next one finds the message again."""
    acknowledged: list[str] = []

    def answer(seen: Seen) -> Step:
        if seen.method == "PUT":
            acknowledged.append(seen.path)
            return Step(503)
        if "/inbox?" in seen.path:
            return Step(200, body=b'{"messages": ["M1"]}')
        return Step(200, {"Mex-MessageID": "M1", "Mex-FileName": "a.txt"}, b"content")

    got: list[bytes] = []
    for _ in range(3):
        mesh, server = scripted(answer, max_attempts=1)
        if to_folder:
            result = mesh.receive_messages(tmp_path / "in")
        else:
            handler = handler_for(connect, lambda pair: got.append(pair[1]()))
            result = mesh.receive_messages(handler, journal=tmp_path / "journal.db")
        lists = (result.delivered, result.already_delivered, result.locked, result.gone, result.failed)
        assert not any(lists), "it is in one list, the same one in every form and in every run"
        assert [open_.message_id for open_ in result.unacknowledged] == ["M1"]
        assert isinstance(open_error := result.unacknowledged[0].error, MeshError)
        assert open_error.operation == "acknowledge_message"
        assert sum("/inbox?" in seen.path for seen in server.seen) == 2, "once more, to see that nothing is new"
    assert len(acknowledged) == 3
    assert names(tmp_path / "in") == ["a.txt"] if to_folder else got == [b"content"]


def test_limit_deadline_stop_and_filter(connect: Connector, alice: Any, bob: Any, tmp_path: Path) -> None:
    ids = send(alice, 4) + send(alice, 2, "OTHER")
    result = bob.receive_messages(tmp_path, limit=1)
    assert (result.delivered, result.finished) == (ids[:1], False)
    result = bob.receive_messages(tmp_path, workflow_filter="OTHER")
    assert (result.delivered, result.finished) == (ids[4:], True)
    assert bob.receive_messages(tmp_path, deadline_in_seconds=0).delivered == []
    left = iter([False] * 2)  # for the page, and for the first message
    assert bob.receive_messages(tmp_path, stop=lambda: next(left, True)).delivered == ids[1:2]
    assert bob.receive_messages(tmp_path).delivered == ids[2:4]


def test_all_pages_are_gone_through(scripted: Scripted, connect: Connector) -> None:
    """Also while what is acknowledged leaves the pages that follow: 70 messages, 20 a page."""
    waiting = {f"M{number}": None for number in range(70)}
    headers = {"Mex-From": "X26ABC2", "Mex-WorkflowID": "WF", "Mex-MessageType": "DATA"}

    def answer(seen: Seen) -> Step:
        message_id = seen.path.split("/")[4] if "/inbox/" in seen.path else ""
        if seen.method == "PUT":
            del waiting[message_id]
            return Step(200)
        if message_id:
            return Step(200, {**headers, "Mex-MessageID": message_id}, b"content " + message_id.encode())
        after = int(seen.path.partition("continue_from=M")[2].partition("&")[0] or -1)
        left = [one for one in list(waiting) if int(one[1:]) > after]
        links = {"next": f"/x?continue_from={left[19]}"} if len(left) > 20 else {}
        return Step(200, body=json.dumps({"messages": left[:20], "links": links}).encode())

    bob, server = scripted(answer)
    got: list[bytes] = []
    result = bob.receive_messages(handler_for(connect, lambda pair: got.append(pair[1]())), concurrency=8)
    assert (len(result.delivered), len(set(result.delivered)), result.failed) == (70, 70, [])
    assert sorted(got) == sorted(b"content M%d" % number for number in range(70))
    assert waiting == {}
    assert len([seen for seen in server.seen if "continue_from" in seen.path]) >= 2


@pytest.mark.parametrize("destination", [None, 7])
def test_what_is_no_destination_is_refused(bob: Any, destination: Any) -> None:
    with pytest.raises(InvalidArgument, match="destination"):
        bob.receive_messages(destination)
    with pytest.raises(InvalidArgument, match="concurrency"):
        bob.receive_messages("x", concurrency=0)


def test_a_journal_that_cannot_be_used_is_said_to_be(bob: Any, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("this is no database" * 100)
    with pytest.raises(MeshError, match="journal"):
        bob.receive_messages(tmp_path / "in", journal=tmp_path / "journal")


# The iterator form


def test_the_loops_body_decides(mesh_sandbox: Sandbox, connect: Connector, alice: Any, bob: Any) -> None:
    ids = send(alice, 4)
    mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    contents = []
    for message in bob.iter_messages():
        if isinstance(message.metadata, Report):
            continue
        if message.metadata.message_id != ids[1]:
            contents.append(message.read())
    assert contents == [b"content 0", b"content 2", b"content 3"]
    assert bob.list_messages() == [ids[1]], "what was not read is not acknowledged"
    with pytest.raises(ZeroDivisionError):
        for message in bob.iter_messages():
            message.read()
            raise ZeroDivisionError
    assert bob.list_messages() == [ids[1]], "nor what the body raised for"
    for message in bob.iter_messages():
        message.read()
        break
    assert bob.list_messages() == [ids[1]], "nor what the loop was left with"
    assert [message.read() for message in bob.iter_messages()] == [b"content 1"]
    assert bob.list_messages() == []


def test_a_message_that_cannot_be_opened_does_not_end_the_loop(scripted: Scripted) -> None:
    def answer(seen: Seen) -> Step:
        if "/inbox?" in seen.path:
            return Step(200, body=b'{"messages": ["M1", "M2", "M3"]}')
        if seen.path.endswith("/M1"):
            return Step(410)
        other = "OTHER" if seen.path.endswith("/M2") else "M3"
        return Step(200, {"Mex-MessageID": other} if seen.method == "GET" else {}, b"content")

    mesh, server = scripted(answer)
    assert [message.read() for message in mesh.iter_messages()] == [b"content"]
    assert [seen.path for seen in server.seen if seen.method == "PUT"] == [
        "/messageexchange/X26ABC1/inbox/M3/status/acknowledged"
    ]


INVALID_IDS = ["\x1b[31mM", "a\nb", "x" * 3_000_000, "M\ud800", "9434765919"]


def test_r10_an_inbox_entry_that_is_no_id_is_one_failed_message_in_each_form(
    scripted: Scripted, connect: Connector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(seen: Seen) -> Step:
        if "/inbox?" in seen.path:
            return Step(200, body=json.dumps({"messages": [*INVALID_IDS, "M1"]}).encode())
        return Step(200, {"Mex-MessageID": "M1"}, b"content")

    read: list[bytes] = []
    for destination in (tmp_path, handler_for(connect, lambda pair: read.append(pair[1]()))):
        mesh, server = scripted(answer)
        result = mesh.receive_messages(destination)
        assert result.delivered == ["M1"]
        assert {type(one.error) for one in result.failed} == {IntegrityError}
        assert len({one.message_id for one in result.failed}) == len(result.failed) == 5
        assert all(one.message_id.startswith("<invalid message id ") for one in result.failed)
        assert {seen.path.split("/inbox")[1][:3] for seen in server.seen} == {"?ma", "/M1"}
    mesh, server = scripted(answer)
    assert [message.read() for message in mesh.iter_messages()] == [b"content"]
    assert all(message.isprintable() for message in caplog.text.splitlines())
    assert "9434765919" not in caplog.text


def test_r25_a_page_of_the_inbox_is_read_only_as_far_as_one_can_be_long(scripted: Scripted) -> None:
    mesh, server = scripted(Step(200, body=json.dumps({"messages": ["x" * 5_000_000]}).encode()))
    with pytest.raises(MeshError, match="not that of a MESH server"):
        mesh.list_messages()
    assert len(server.seen) == 1


# What a review found


WRONG_SUM = "sha256 " + "0" * 64


def test_a_wrong_checksum_is_not_delivered_in_any_form(
    mesh_sandbox: Sandbox, connect: Connector, alice: Any, bob: Any, tmp_path: Path
) -> None:
    sent = alice.send_message(b"content", to="X26ABC2", workflow_id="WF", checksum=WRONG_SUM)
    for destination in (tmp_path, handler_for(connect, lambda pair: pair[1]())):
        result = bob.receive_messages(destination)
        assert "checksum" in str(result.failed[0].error)
        assert result.delivered == []
    assert list(bob.iter_messages()) == [], "it is passed over"
    assert bob.list_messages() == [sent.message_id]
    with bob.retrieve_message(sent.message_id) as message:
        assert message.read() == b"content", "it can still be had by hand"
    with bob.retrieve_message(sent.message_id, verify_checksum=True) as message, pytest.raises(IntegrityError):
        message.read()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_bad_messages_at_the_front_do_not_starve_the_rest(
    mesh_sandbox: Sandbox, alice: Any, connect: Connector, tmp_path: Path, concurrency: int
) -> None:
    bob = connect(mesh_sandbox.settings("X26ABC2", max_attempts=1))
    for _ in range(3):
        mesh_sandbox.deliver_message("X26ABC2", b"no gzip", content_encoding="gzip")
    good = send(alice, 2)
    delivered = []
    for _ in range(5):
        delivered += bob.receive_messages(tmp_path, limit=1, concurrency=concurrency).delivered
    assert delivered == good


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_listing_that_fails_lets_what_was_begun_end(scripted: Scripted, connect: Connector, concurrency: int) -> None:
    def answer(seen: Seen) -> Step:
        if "continue_from" in seen.path:
            return Step(403)
        if "/inbox?" in seen.path:
            body = {"messages": ["M1", "M2", "M3"], "links": {"next": "/x?continue_from=2"}}
            return Step(200, body=json.dumps(body).encode())
        return Step(200, {"Mex-MessageID": seen.path.split("/")[4]} if seen.method == "GET" else {}, b"content")

    got: list[bytes] = []
    mesh, server = scripted(answer)
    result = mesh.receive_messages(handler_for(connect, lambda pair: got.append(pair[1]())), concurrency=concurrency)
    assert isinstance(result.error, NotAuthorised), "R8: who calls is told of what was delivered, and of the error"
    assert (sorted(result.delivered), result.finished) == (["M1", "M2", "M3"], False)
    with pytest.raises(NotAuthorised):
        result.raise_for_failed()
    assert len(got) == 3
    assert [seen.method for seen in server.seen].count("PUT") == 3


def test_a_report_handler_of_the_other_colour_loses_no_report(
    mesh_sandbox: Sandbox, connect: Connector, bob: Any
) -> None:
    class Handler:
        async def __call__(self, report: Report) -> None:
            pass

    report_id = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    if connect.variant == "sync":
        result = bob.receive_messages(lambda message: None, on_report=Handler())
        assert isinstance(result.failed[0].error, InvalidArgument)
        assert bob.list_messages() == [report_id]


def test_a_report_is_stored_once_whatever_ends_the_process(
    mesh_sandbox: Sandbox, connect: Connector, bob: Any, tmp_path: Path
) -> None:
    report_id = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    # As it was between the file's name and the journal.
    (tmp_path / f"report-{report_id}.json").write_text("{}")
    record = {"version": 1, "message_id": report_id, "length": 2, "name": f"report-{report_id}.json"}
    (tmp_path / f".{report_id}.json").write_text(json.dumps(record))
    result = bob.receive_messages(tmp_path)
    assert [report.message_id for report in result.reports] == [report_id]
    assert names(tmp_path) == [f"report-{report_id}.json"]
    assert bob.list_messages() == []


# Two processes


RECEIVER = """
import sys
import types
from nel_mesh import MeshClient, MeshSettings
with MeshClient(MeshSettings.from_file(sys.argv[1])) as mesh:
    result = mesh.receive_messages(sys.argv[2], concurrency=2)
print(len(result.delivered), len(result.failed), [str(one.error) for one in result.failed])
"""


def test_two_processes_on_one_mailbox_deliver_each_message_once(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    for k in range(120):
        mesh_sandbox.deliver_message("X26ABC2", b"content %d" % k)
    settings = mesh_sandbox.write_settings(tmp_path)[1]

    def run(_: int) -> list[str]:
        command = [sys.executable, "-c", RECEIVER, str(settings), str(tmp_path / "in")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.split(maxsplit=2)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(run, range(3)))
    assert sum(int(output[0]) for output in outputs) == 120, outputs
    assert sorted(path.read_bytes() for path in (tmp_path / "in").glob("*.dat")) == sorted(
        b"content %d" % k for k in range(120)
    )
    assert 403 not in {seen.status for seen in mesh_sandbox.requests()}
    assert {one.status for one in mesh_sandbox.delivered("X26ABC2")} == {"acknowledged"}


def test_a_handler_of_the_other_colour_is_refused(connect: Connector, alice: Any, bob: Any) -> None:
    ids = send(alice, 1)

    async def is_async(message: Any) -> None:
        pass

    def is_sync(message: Any) -> None:
        pass

    with pytest.raises(InvalidArgument, match="async callable"):
        bob.receive_messages(is_async if connect.variant == "sync" else is_sync)
    assert bob.list_messages() == ids


def reachable_bytes(thing: object) -> int:
    """The bytes of all texts and contents that an object keeps alive."""
    seen: set[int] = set()
    left = [thing]
    total = 0
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType, types.FunctionType)):
            continue
        seen.add(id(one))
        total += len(one) if isinstance(one, (str, bytes, bytearray)) else 0
        left += gc.get_referents(one)
    return total


@pytest.mark.parametrize("failure", ["locals", "json", "unicode", "text"])
def test_r5_the_result_does_not_keep_what_a_failed_handler_had_read(
    connect: Connector, mesh_sandbox: Sandbox, bob: Any, failure: str
) -> None:
    """Neither by frames nor by the error: json's keeps the document, and a UnicodeDecodeError the bytes."""
    for _ in range(20):
        mesh_sandbox.deliver_message("X26ABC2", b"{" + b"\xff" * 100_000, workflow_id="WF")

    def handle(pair: tuple[Any, Callable[[], bytes]]) -> None:
        content = pair[1]()
        if failure == "json":
            json.loads(content.decode("latin-1"))
        elif failure == "unicode":
            content.decode()
        raise LookupError(content if failure == "text" else "none")

    result = bob.receive_messages(handler_for(connect, handle))
    assert len(result.failed) == 20
    assert reachable_bytes(result.failed) < 100_000
