"""Receiving, from a server that misbehaves on purpose: all of it, or an error, and never an end of file in between."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import (
    Gone,
    IntegrityError,
    InvalidArgument,
    MeshClient,
    MeshError,
    NotAuthorised,
    NotFound,
    Outcome,
    Report,
    ServerError,
    StorageError,
)
from scripted_server import ScriptedServer, Seen, Step, raw_answer
from variants import Connector, settings_for

Scripted = Callable[..., tuple[Any, ScriptedServer]]

DATA = b"id,value\n" + random.Random(5).randbytes(3000) + b"\nlast line"
MEX = {
    "Mex-MessageID": "M1",
    "Mex-From": "X26ABC2",
    "Mex-To": "X26ABC1",
    "Mex-WorkflowID": "WF",
    "Mex-MessageType": "DATA",
}


def gz(data: bytes, *, members: int = 1) -> bytes:
    step = -(-len(data) // members)
    return b"".join(gzip.compress(data[start : start + step], mtime=0) for start in range(0, len(data), step))


def chunk(
    number: int, total: int, body: bytes, *, style: str = "{0}:{1}", status: int | None = None, **headers: str
) -> Step:
    """An answer with one chunk, as MESH gives it."""
    status = status or (200 if number == total else 206)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step(status, {**MEX, "Mex-Chunk-Range": style.format(number, total), **named}, body)


def read_all(mesh: Any) -> bytes:
    with mesh.retrieve_message("M1") as message:
        content: bytes = message.read()
        assert message.complete
        return content


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "Gzip", "x-gzip", "identity", ""])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_a_body_comes_back_as_it_was_whatever_its_coding(scripted: Scripted, coding: str, members: int) -> None:
    is_gzip = "gzip" in coding.lower()
    body = gz(DATA, members=members) if is_gzip else DATA
    mesh, _ = scripted(Step(200, {**MEX, "Content-Encoding": coding} if coding else MEX, body))
    assert read_all(mesh) == DATA


@pytest.mark.parametrize("style", ["{0}:{1}", "{{{0}:{1}}}", " {0} : {1} "])
@pytest.mark.parametrize("sizes", [[3019], [1000, 2019], [1, 1, 3017], [3000, 0, 19]])
def test_chunks_are_joined_gzipped_or_not(scripted: Scripted, style: str, sizes: list[int]) -> None:
    steps, start = [], 0
    for number, size in enumerate(sizes, 1):
        piece, start = DATA[start : start + size], start + size
        packed = number % 2 == 0 and bool(piece)
        headers = {"Content_Encoding": "GZIP", "Mex_Content_Compressed": "Y"} if packed else {}
        body = gz(piece) if packed else piece
        steps.append(chunk(number, len(sizes), body, style=style, status=None, **headers))
    mesh, server = scripted(*steps)
    assert read_all(mesh) == DATA
    assert [seen.path.rsplit("/", 1)[1] for seen in server.seen] == ["M1", *(str(k) for k in range(2, len(sizes) + 1))]
    assert len({seen.headers["authorization"] for seen in server.seen}) == len(sizes)


def test_content_that_was_compressed_beforehand_is_left_alone(scripted: Scripted) -> None:
    """Only Content-Encoding says that the bytes on the wire are gzip."""
    mesh, _ = scripted(Step(200, {**MEX, "Mex-Content-Compressed": "Y"}, gz(DATA)))
    with mesh.retrieve_message("M1") as message:
        assert message.metadata.compressed is True
        assert message.read() == gz(DATA)


def test_reading_by_size_lines_and_blocks(scripted: Scripted) -> None:
    mesh, _ = scripted(chunk(1, 2, DATA[:1501]), chunk(2, 2, DATA[1501:]))
    with mesh.retrieve_message("M1") as message:
        parts = [message.read(7), message.read(0), message.read(2000), *message.iter_bytes()]
        assert (len(parts[0]), parts[1], len(parts[2])) == (7, b"", 2000)
        assert b"".join(parts) == DATA
        assert message.read(10) == message.read() == b""
    mesh, _ = scripted(chunk(1, 2, DATA[:1501]), chunk(2, 2, DATA[1501:]))
    with mesh.retrieve_message("M1") as message:
        assert list(message.iter_lines()) == [line + b"\n" for line in DATA.split(b"\n")[:-1]] + [b"last line"]
    mesh, _ = scripted(chunk(1, 2, b"a\r\nb"), chunk(2, 2, b"\n\n"))
    with mesh.retrieve_message("M1") as message:
        assert list(message.iter_lines()) == [b"a\r\n", b"b\n", b"\n"]
    mesh, _ = scripted(chunk(1, 2, DATA[:1501]), chunk(2, 2, DATA[1501:]))
    with mesh.retrieve_message("M1") as message:
        assert b"".join(message) == DATA


DAMAGED = gz(DATA)[:-8] + bytes(4) + gz(DATA)[-4:]

BROKEN: dict[str, list[Step]] = {
    "cut body": [raw_answer(200, DATA[:100], announced=len(DATA))],
    "empty though announced": [raw_answer(200, b"", announced=len(DATA))],
    "cut in a later chunk": [chunk(1, 2, DATA[:100]), raw_answer(200, DATA[100:200], announced=2919)],
    "cut gzip, announced whole": [Step(200, {**MEX, "Content-Encoding": "gzip"}, gz(DATA)[:1500])],
    "gzip cut in its trailer": [Step(200, {**MEX, "Content-Encoding": "gzip"}, gz(DATA)[:-1])],
    "second member cut": [Step(200, {**MEX, "Content-Encoding": "gzip"}, gz(DATA, members=2)[:-1])],
    "no gzip at all": [Step(200, {**MEX, "Content-Encoding": "gzip"}, DATA)],
    "empty gzip": [Step(200, {**MEX, "Content-Encoding": "gzip"}, b"")],
    "bad gzip trailer": [Step(200, {**MEX, "Content-Encoding": "gzip"}, DAMAGED)],
    "junk after gzip": [Step(200, {**MEX, "Content-Encoding": "gzip"}, gz(DATA) + b"junk")],
    "unknown coding": [Step(200, {**MEX, "Content-Encoding": "br"}, DATA)],
    "missing chunk": [chunk(1, 3, DATA[:100]), Step(404)],
    "last chunk missing": [chunk(1, 3, DATA[:100]), chunk(2, 3, DATA[100:200], status=200), Step(404)],
    "another chunk than asked for": [chunk(1, 3, DATA[:100]), chunk(3, 3, DATA[100:])],
    "another number of chunks": [chunk(1, 3, DATA[:100]), chunk(2, 2, DATA[100:])],
    "more chunks than announced": [chunk(1, 2, DATA[:100]), chunk(2, 2, DATA[100:], status=206)],
    "one chunk that promises more": [chunk(1, 1, DATA, status=206)],
    "nonsense for a range": [Step(206, {**MEX, "Mex-Chunk-Range": "one:two"}, DATA)],
    "a range of nought": [Step(206, {**MEX, "Mex-Chunk-Range": "0:0"}, DATA)],
    "no end announced": [Step(raw=b"HTTP/1.1 200 OK\r\nMex-MessageID: M1\r\n\r\n" + DATA)],
    "another message": [Step(200, {**MEX, "Mex-MessageID": "M2"}, DATA)],
    "gzip with no end announced": [
        Step(raw=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nMex-MessageID: M1\r\n\r\n" + gz(DATA))
    ],
    "chunked transfer cut": [Step(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")],
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_whole_is_an_error_now_and_ever_after(scripted: Scripted, tmp_path: Path, name: str) -> None:
    mesh, _ = scripted(*BROKEN[name], max_attempts=1)
    got = b""
    with pytest.raises(IntegrityError) as caught, mesh.retrieve_message("M1") as message:
        try:
            while block := message.read(50):
                got += block
        except IntegrityError:
            for _ in range(3):
                with pytest.raises(IntegrityError):
                    message.read(50)
            with pytest.raises(IntegrityError):
                list(message.iter_bytes())
            assert not message.complete
            raise
    assert caught.value.message_id == "M1"
    assert DATA.startswith(got) or name == "chunked transfer cut"
    mesh, _ = scripted(*BROKEN[name], max_attempts=1)
    with pytest.raises(IntegrityError), mesh.retrieve_message("M1") as message:
        message.save(tmp_path / "in" / "message.dat")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_range_but_206_goes_on_until_200(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(206, MEX, DATA[:9]), Step(206, MEX, DATA[9:20]), Step(200, MEX, DATA[20:]))
    assert read_all(mesh) == DATA


def test_reading_after_closing_is_no_end_of_file(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(200, MEX, DATA))
    with mesh.retrieve_message("M1") as message:
        message.read(10)
    with pytest.raises(IntegrityError, match="closed before"):
        message.read()


def test_an_error_while_fetching_a_chunk_stays_an_error(scripted: Scripted) -> None:
    mesh, _ = scripted(chunk(1, 2, DATA[:100]), Step(403, body=b"<html>no</html>"), chunk(2, 2, DATA[100:]))
    with mesh.retrieve_message("M1") as message:
        for _ in range(2):
            with pytest.raises(NotAuthorised):
                message.read()


def test_a_chunk_that_cannot_be_had_at_once_is_asked_for_again(scripted: Scripted) -> None:
    mesh, server = scripted(chunk(1, 2, DATA[:100]), Step(503), Step(drop=True), Step(502), chunk(2, 2, DATA[100:]))
    assert read_all(mesh) == DATA
    assert len({seen.headers["authorization"] for seen in server.seen}) == 5


def test_leaving_the_block_acknowledges_nothing(scripted: Scripted) -> None:
    mesh, server = scripted(Step(200, MEX, DATA))
    with mesh.retrieve_message("M1"):
        pass
    read_all(mesh)
    assert {seen.method for seen in server.seen} == {"GET"}


# Saving


def test_save_makes_the_file_whole_under_its_name(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(chunk(1, 2, gz(DATA[:100]), Content_Encoding="gzip"), chunk(2, 2, DATA[100:]))
    path = tmp_path / "inbox" / "M1.dat"
    with mesh.retrieve_message("M1") as message:
        assert message.save(str(path)) == len(DATA)
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


def test_save_replaces_a_file_only_when_the_new_one_is_whole(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "M1.dat"
    path.write_bytes(b"before")
    mesh, _ = scripted(raw_answer(200, DATA[:100], announced=len(DATA)), Step(200, MEX, DATA), max_attempts=1)
    with pytest.raises(IntegrityError), mesh.retrieve_message("M1") as message:
        message.save(path)
    assert path.read_bytes() == b"before"
    with mesh.retrieve_message("M1") as message:
        message.save(path)
    assert path.read_bytes() == DATA


def test_save_says_what_the_disk_refuses(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(Step(200, MEX, DATA))
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "M1.dat"):
        with mesh.retrieve_message("M1") as message, pytest.raises(StorageError) as caught:
            message.save(path)
        assert (caught.value.message_id, caught.value.outcome) == ("M1", Outcome.UNCHANGED)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_full_disk_leaves_nothing_behind(scripted: Scripted, tmp_path: Path) -> None:
    from nel_mesh.io.files import NewFile

    path = tmp_path / "M1.dat"
    with pytest.raises(StorageError, match="No space left"), NewFile(path) as file:
        assert file._file
        file._file.close()
        file._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123
        file.write(DATA)
    assert list(tmp_path.iterdir()) == []


def test_save_after_reading_is_refused(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(Step(200, MEX, DATA))
    with mesh.retrieve_message("M1") as message:
        message.read(1)
        with pytest.raises(InvalidArgument, match="read already"):
            message.save(tmp_path / "M1.dat")


# Metadata and reports

REPORT = {
    "mex-messagetype": "REPORT",
    "MEX-MESSAGEID": "R1",
    "Mex-LinkedMsgID": "M0",
    "Mex-StatusEvent": "SEND",
    "Mex-StatusCode": "14",
    "Mex-StatusDescription": "Undelivered message",
    "Mex-StatusSuccess": "ERROR",
    "Mex-StatusTimestamp": "20261122120000",
    "Mex-LocalID": "mine",
    "Mex-Subject": "subject",
    "Mex-To": "X26ABC1",
}


@pytest.mark.parametrize("coding", [{}, {"Content-Encoding": "gzip"}, {"Mex-Chunk-Range": "1:0"}])
def test_a_report_is_a_type_of_its_own_with_no_content(scripted: Scripted, coding: dict[str, str]) -> None:
    mesh, _ = scripted(Step(200, {**REPORT, **coding}))
    with mesh.retrieve_message("R1") as message:
        report = message.metadata
        assert isinstance(report, Report)
        assert list(message.iter_bytes()) == []
        assert list(message.iter_lines()) == []
        assert message.read() == b""
        assert message.complete
    assert mesh.message_metadata("R1") == report
    assert (report.linked_message_id, report.status_event, report.status_code) == ("M0", "SEND", "14")
    assert (report.status_description, report.status_success) == ("Undelivered message", False)
    assert report.status_timestamp == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert (report.local_id, report.subject) == ("mine", "subject")
    assert "subject" not in repr(report).replace("subject=", "")
    assert "mine" not in repr(report)


def test_metadata_is_typed(scripted: Scripted) -> None:
    headers = {
        **MEX,
        "Mex-Chunk-Range": "{1:3}",
        "Mex-Subject": "Mrs Jones",
        "Mex-FileName": "jones.csv",
        "Mex-Content-Checksum": "b10a8db164e0754105b7a99be72e3fe5",
        "Mex-Content-Encrypted": "Y",
        "Mex-PartnerID": "P",
        "Content-Type": "text/csv",
    }
    mesh, server = scripted(Step(200, headers))
    metadata = mesh.message_metadata("M1")
    assert server.seen[0].method == "HEAD"
    assert (metadata.message_id, metadata.sender, metadata.workflow_id, metadata.chunks) == ("M1", "X26ABC2", "WF", 3)
    assert (metadata.recipient, metadata.subject, metadata.file_name) == ("X26ABC1", "Mrs Jones", "jones.csv")
    assert (metadata.encrypted, metadata.compressed, metadata.message_type) == (True, None, "DATA")
    assert (metadata.content_type, metadata.partner_id) == ("text/csv", "P")
    assert "jones" not in repr(metadata).lower()
    assert not isinstance(metadata, Report)


# Listing


def page(ids: list[str], following: str | None, **more: Any) -> Step:
    links = {"self": "/x"} | ({"next": following} if following else {})
    return Step(200, body=json.dumps({"messages": ids, "links": links, **more}).encode())


def test_a_page_is_a_list_that_knows_where_the_next_begins(scripted: Scripted) -> None:
    mesh, server = scripted(
        page(["A", "B"], "/messageexchange/X/inbox?max_results=10&continue_from=abc%3D%3D", approx_inbox_count=7)
    )
    inbox = mesh.list_messages(max_results=10, workflow_filter="!*_ACK*")
    assert inbox == ["A", "B"]
    assert (inbox.continue_from, inbox.approx_inbox_count) == ("abc==", 7)
    assert server.seen[0].path == "/messageexchange/X26ABC1/inbox?max_results=10&workflow_filter=%21%2A_ACK%2A"
    mesh.list_messages(continue_from="abc==")
    assert server.seen[1].path == "/messageexchange/X26ABC1/inbox?max_results=500&continue_from=abc%3D%3D"


def test_all_pages_are_listed_each_id_once_even_where_one_is_empty(scripted: Scripted) -> None:
    mesh, server = scripted(
        page(["A", "B"], "http://elsewhere.example/other?continue_from=2"),
        page([], "/x?continue_from=3"),
        page(["B", "C"], None),
    )
    assert list(mesh.iter_message_ids()) == ["A", "B", "C"]
    assert all(seen.path.startswith("/messageexchange/X26ABC1/inbox?") for seen in server.seen)


def test_listing_ends_though_the_server_goes_round_in_circles(scripted: Scripted) -> None:
    mesh, server = scripted(
        page(["A"], "/x?continue_from=2"), page(["B"], "/x?continue_from=3"), page(["C"], "/x?continue_from=2")
    )
    assert list(mesh.iter_message_ids()) == ["A", "B", "C"]
    assert len(server.seen) <= 4


def test_the_first_version_of_the_inbox_is_understood(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(200, body=b'{"messages": ["A"]}'))
    assert list(mesh.iter_message_ids()) == ["A"]


@pytest.mark.parametrize(
    "arguments", [{"max_results": 9}, {"max_results": 5001}, {"workflow_filter": "x"}, {"workflow_filter": "x" * 256}]
)
def test_limits_of_listing_are_kept_here(scripted: Scripted, arguments: dict[str, Any]) -> None:
    mesh, server = scripted(page([], None))
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        mesh.list_messages(**arguments)
    assert server.seen == []


# Tracking and the rest


def test_tracking_understands_both_versions_and_big_files(scripted: Scripted) -> None:
    v2 = {
        "message_id": "M1", "local_id": "mine", "workflow_id": "WF", "filename": "message.txt.gz",
        "expiry_time": "2020-06-06T12:21:53", "upload_timestamp": "2020-06-01T12:21:52.123Z", "recipient": "X26HC005",
        "recipient_name": "APIM bebop", "recipient_ods_code": "X26", "status_success": True, "status": "accepted",
        "status_event": "TRANSFER", "status_timestamp": "2020-06-01T13:21:52+01:00", "status_code": "01",
        "file_size": 5_000_000_000,
    }  # fmt: skip
    v1 = {
        "messageId": "M1", "dtsId": "M1", "localId": "mine", "workflowId": "WF", "fileName": "message.txt.gz",
        "expiryTime": "20200606122153", "uploadTimestamp": "20200601122152", "recipient": "X26HC005",
        "statusSuccess": "SUCCESS", "status": "Acknowledged", "statusTimestamp": None, "fileSize": 5_000_000_000,
        "downloadTimestamp": "", "subject": None,
    }  # fmt: skip
    mesh, server = scripted(Step(200, body=json.dumps(v2).encode()), Step(200, body=json.dumps(v1).encode()))
    second, first = mesh.track_message("M1"), mesh.track_message("M1")
    assert server.seen[0].path == "/messageexchange/X26ABC1/outbox/tracking?messageID=M1"
    assert (second.status, first.status) == ("accepted", "acknowledged")
    assert second.upload_timestamp == datetime(2020, 6, 1, 12, 21, 52, 123000, tzinfo=UTC)
    assert second.status_timestamp == datetime(2020, 6, 1, 12, 21, 52, tzinfo=UTC)
    assert first.upload_timestamp == datetime(2020, 6, 1, 12, 21, 52, tzinfo=UTC)
    assert first.expiry_time == second.expiry_time == datetime(2020, 6, 6, 12, 21, 53, tzinfo=UTC)
    assert first.file_size == second.file_size == 5_000_000_000
    assert (first.status_success, first.download_timestamp, first.status_timestamp) == (True, None, None)
    assert "mine" not in repr(first)


def test_lookups_understand_both_versions(scripted: Scripted) -> None:
    v2 = b'{"results": [{"mailbox_id": "X1", "mailbox_name": "one"}]}'
    v1 = b'{"query_id": "q", "results": [{"endpoint_type": "MESH", "description": "one", "address": "X1"}]}'
    mesh, server = scripted(
        Step(200, body=v2), Step(200, body=v1), Step(200, body=v2), Step(200, body=b'{"results": []}')
    )
    for found in (mesh.lookup_endpoint("X26", "WF/1"), mesh.lookup_endpoint("X26", "WF"), mesh.search_workflow("WF")):
        assert [(one.mailbox_id, one.mailbox_name) for one in found] == [("X1", "one")]
    assert mesh.search_workflow("WF") == []
    assert server.seen[0].path == "/messageexchange/endpointlookup/X26/WF%2F1"
    assert server.seen[2].path == "/messageexchange/workflowsearch/WF"


def test_the_count_is_deprecated(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(200, body=b'{"count": 3}'))
    with pytest.warns(DeprecationWarning, match="iter_message_ids"):
        assert mesh.count_messages() == 3


def test_acknowledging_understands_both_versions(scripted: Scripted) -> None:
    mesh, server = scripted(Step(200), Step(200, body=b'{"messageId": "M1"}'))
    mesh.acknowledge_message("M1")
    mesh.acknowledge_message("M1")
    assert {(seen.method, seen.path) for seen in server.seen} == {
        ("PUT", "/messageexchange/X26ABC1/inbox/M1/status/acknowledged")
    }


def test_handshake_is_a_post_that_says_who_we_are(scripted: Scripted) -> None:
    mesh, server = scripted(Step(200))
    mesh.handshake()
    seen = server.seen[0]
    assert (seen.method, seen.path) == ("POST", "/messageexchange/X26ABC1")
    assert seen.headers["accept"] == "application/vnd.mesh.v2+json"
    mesh.ping()
    assert server.seen[1].path == "/messageexchange/_ping"
    # Some servers want them with every request.
    for seen in server.seen:
        assert all(seen.headers[f"mex-{name}"] for name in ("clientversion", "osname", "osversion", "osarchitecture"))
    assert "authorization" not in server.seen[1].headers


def test_a_server_that_demands_a_version_of_java_gets_one(serve: Callable[..., ScriptedServer]) -> None:
    server = serve(Step(200), Step(200))
    for version in (None, "N/A"):
        with MeshClient(settings_for(server.url, mex_java_version=version)) as mesh:
            mesh.handshake()
    assert [seen.headers.get("mex-javaversion") for seen in server.seen] == [None, "N/A"]


def test_what_repeats_safely_is_repeated_with_a_new_token(scripted: Scripted, connect: Connector) -> None:
    mesh, server = scripted(Step(503), Step(drop=True), Step(502), Step(500), Step(200))
    mesh.acknowledge_message("M1")
    assert len({seen.headers["authorization"] for seen in server.seen}) == 5
    assert connect.clock.waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("message_id", ["", ".", "..", "a/b", "a%2Fb", "a?b", "x" * 101, "a b"])
def test_a_message_id_never_reaches_another_address(scripted: Scripted, message_id: str) -> None:
    mesh, server = scripted(Step(200))
    for call in (mesh.acknowledge_message, mesh.track_message, mesh.message_metadata):
        with pytest.raises(InvalidArgument, match="message_id"):
            call(message_id)
    with pytest.raises(InvalidArgument, match="message_id"), mesh.retrieve_message(message_id):
        pass
    assert server.seen == []


BODIES = [
    b"",
    b"<?xml version='1.0'?><e>secret</e>",
    b"<html>no</html>",
    b"{",
    b"[1]",
    b'{"detail": 7}',
    b"\xff\xfe",
    b"[" * 5000,
]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, MeshError), (403, NotAuthorised), (404, NotFound), (410, Gone), (500, ServerError), (418, ServerError)],
)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_no_error_body_hides_the_status(scripted: Scripted, status: int, kind: type[MeshError], body: bytes) -> None:
    mesh, _ = scripted(Step(status, body=body), max_attempts=1)
    with pytest.raises(kind) as caught:
        mesh.track_message("M1")
    assert (caught.value.status, caught.value.operation, caught.value.message_id) == (status, "track_message", "M1")
    assert f"status {status}" in str(caught.value)


@pytest.mark.parametrize("announced", [10_000_000, 50])
def test_an_error_body_that_is_cut_does_not_hide_the_status(scripted: Scripted, announced: int) -> None:
    mesh, _ = scripted(raw_answer(403, b"<html>", announced=announced))
    with pytest.raises(NotAuthorised) as caught:
        mesh.handshake()
    assert caught.value.status == 403


def test_validation_errors_say_where(scripted: Scripted) -> None:
    body = b'{"detail": [{"loc": ["query", "max_results"], "msg": "too small", "type": "value_error"}]}'
    mesh, _ = scripted(Step(400, body=body))
    with pytest.raises(MeshError, match=r"query\.max_results: too small"):
        mesh.list_messages()


@pytest.mark.parametrize("body", [b"<html>login</html>", b"{}", b'{"messages": 1}', b'{"messages": [1]}', b"null"])
def test_a_proxys_page_is_not_taken_for_an_empty_inbox(scripted: Scripted, body: bytes) -> None:
    mesh, _ = scripted(Step(200, body=body))
    with pytest.raises(ServerError, match="not that of a MESH server"):
        mesh.list_messages()


def test_the_operation_that_failed_is_named(scripted: Scripted) -> None:
    def forbidden(seen: Seen) -> Step:
        return Step(403)

    mesh, _ = scripted(forbidden)
    with pytest.raises(NotAuthorised, match=r"^handshake: access refused"):
        mesh.handshake()


# What a review found


def test_nothing_is_dropped_between_ways_of_reading(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(200, MEX, DATA))
    with mesh.retrieve_message("M1") as message:
        lines = message.iter_lines()
        first = next(lines)
        second = message.readline()
        rest = message.read(5) + next(message.iter_bytes()) + message.read(None)
        assert first + second + rest == DATA
        assert message.complete


@pytest.mark.parametrize("last", [Step(404), Step(drop=True)])
def test_an_acknowledgement_whose_answer_was_lost_may_have_been_made(scripted: Scripted, last: Step) -> None:
    mesh, _ = scripted(Step(drop=True), last, max_attempts=2)
    with pytest.raises(MeshError) as caught:
        mesh.acknowledge_message("M1")
    assert caught.value.outcome is Outcome.UNKNOWN
    mesh, _ = scripted(Step(404))
    with pytest.raises(NotFound) as refused:
        mesh.acknowledge_message("M1")
    assert refused.value.outcome is Outcome.UNCHANGED


def test_a_report_with_content_gives_it(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(200, {**REPORT, "Content-Encoding": "gzip"}, gz(DATA)))
    with mesh.retrieve_message("R1") as message:
        assert isinstance(message.metadata, Report)
        assert message.read() == DATA


def test_an_unreadable_next_page_is_not_taken_for_the_last(scripted: Scripted) -> None:
    mesh, _ = scripted(page(["A"], "http://[x"))
    with pytest.raises(ServerError):
        list(mesh.iter_message_ids())


def test_absurd_dates_are_no_dates(scripted: Scripted) -> None:
    mesh, _ = scripted(Step(503, {"Retry-After": "Sun, 22 Nov 2026 12:00:00 +99999999999999999999"}), max_attempts=1)
    with pytest.raises(MeshError) as caught:
        mesh.handshake()
    assert caught.value.status == 503


def test_every_new_folder_is_made_durable(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    mesh, _ = scripted(Step(200, MEX, DATA))
    with mesh.retrieve_message("M1") as message:
        message.save(tmp_path / "new1" / "new2" / "M1.dat")
    folders = [path for path in synced if not path.endswith(".part")]
    assert folders == [str(tmp_path), str(tmp_path / "new1"), str(tmp_path / "new1" / "new2")]


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_that_is_none_is_said_to_be(scripted: Scripted, path: str) -> None:
    mesh, _ = scripted(Step(200, MEX, DATA))
    with mesh.retrieve_message("M1") as message, pytest.raises(StorageError):
        message.save(path)
