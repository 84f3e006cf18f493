"""Sending, against a server that misbehaves on purpose: what arrives, how often, and what is said of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from nel_mesh import (
    AsyncMeshClient,
    Busy,
    ConnectionFailed,
    InvalidArgument,
    MeshClient,
    MeshError,
    Outcome,
    OutcomeUnknown,
    Refused,
    SendProgress,
    ServerError,
    SourceError,
)
from nel_mesh.protocol import token
from scripted_server import ScriptedServer, Seen, Step
from variants import Connector, settings_for

Scripted = Callable[..., tuple[Any, ScriptedServer]]

ACCEPTED = Step(202, body=b'{"message_id": "20200529155357895317_3573F8"}')
MESSAGE_ID = "20200529155357895317_3573F8"
NOT_FOUND = Step(404)
DROP = Step(drop=True)
TO = {"to": "X26ABC2", "workflow_id": "WF"}
SMALL_CHUNKS = {"max_chunk_size_in_megabytes": 0.001}
"""1,000 bytes, so that a few kilobytes make several chunks."""


def tokens(server: ScriptedServer) -> list[str]:
    return [seen.headers["authorization"] for seen in server.seen]


class ShortReads(io.RawIOBase):
    """A stream that cannot seek and gives at most seven bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(min(7, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 11):
        yield data[start : start + 11]


DATA = b"name,value\r\n" + bytes(range(256)) * 10


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: DATA,
        lambda folder: bytearray(DATA),
        lambda folder: memoryview(DATA),
        lambda folder: memoryview(DATA)[::1],
        lambda folder: io.BytesIO(DATA),
        lambda folder: ShortReads(DATA),
        lambda folder: pieces(DATA),
        lambda folder: [DATA[:5], bytearray(DATA[5:])],
        lambda folder: folder / "data.bin",
        lambda folder: (folder / "data.bin").open("rb"),
        lambda folder: (folder / "data.bin").open("rb", buffering=0),
        lambda folder: gzip.open(folder / "data.bin.gz"),
    ],
    ids=[
        "bytes",
        "bytearray",
        "memoryview",
        "view",
        "BytesIO",
        "stream",
        "generator",
        "list",
        "path",
        "file",
        "raw",
        "gz",
    ],
)
@pytest.mark.parametrize(("compress", "chunked"), [(False, False), (True, True)])
def test_every_form_of_content_arrives_whole(
    scripted: Scripted, tmp_path: Path, make: Callable[[Path], Any], compress: bool, chunked: bool
) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    with gzip.open(tmp_path / "data.bin.gz", "wb") as packed:
        packed.write(DATA)
    mesh, server = scripted(ACCEPTED, **(SMALL_CHUNKS if chunked else {}))
    content = make(tmp_path)
    sent = mesh.send_message(content, **TO, compress=compress)
    bodies = [gzip.decompress(seen.body) if compress else seen.body for seen in server.seen]
    assert b"".join(bodies) == DATA
    assert (sent.message_id, sent.chunks, sent.bytes) == (MESSAGE_ID, 3 if chunked else 1, len(DATA))
    assert sent.bytes_on_wire == sum(len(seen.body) for seen in server.seen)
    assert [len(body) for body in bodies] == ([1000, 1000, 572] if chunked else [2572])
    if hasattr(content, "closed"):
        assert not content.closed, "the caller's file is the caller's to close"
        content.close()


def test_text_goes_as_utf_8(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED)
    mesh.send_message("£5 – naïve", **TO)
    assert server.seen[0].body == "£5 – naïve".encode()


def test_an_async_iterable_arrives_whole(scripted: Scripted, connect: Connector) -> None:
    mesh, server = scripted(ACCEPTED)

    async def blocks() -> Any:
        for piece in pieces(DATA):
            yield piece

    if connect.variant == "sync":
        with pytest.raises(InvalidArgument, match="async"):
            mesh.send_message(blocks(), **TO)
    else:
        mesh.send_message(blocks(), **TO)
        assert server.seen[0].body == DATA


@pytest.mark.parametrize("opened", [io.BytesIO, lambda data: io.BufferedReader(io.BytesIO(data))])
def test_a_file_read_halfway_is_sent_from_there(scripted: Scripted, opened: Callable[[bytes], Any]) -> None:
    mesh, server = scripted(ACCEPTED)
    file = opened(DATA)
    file.read(100)
    mesh.send_message(file, **TO)
    assert server.seen[0].body == DATA[100:]


def test_a_pipe_is_sent_to_its_end(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED, **SMALL_CHUNKS)
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb") as pipe:  # noqa: PTH123 - a descriptor has no path
            pipe.write(DATA)

    thread = threading.Thread(target=feed)
    thread.start()
    with open(reading, "rb") as pipe:  # noqa: PTH123
        mesh.send_message(pipe, **TO)
    thread.join()
    assert b"".join(seen.body for seen in server.seen) == DATA


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        ("", "empty"),
        (iter(()), "empty"),
        (io.BytesIO(), "empty"),
        (None, "NoneType"),
        (7, "int"),
        (io.StringIO("text"), "binary mode"),
        (["text"], "must give bytes"),
    ],
)
def test_what_is_no_content_is_refused_before_anything_is_sent(scripted: Scripted, content: Any, words: str) -> None:
    mesh, server = scripted(ACCEPTED)
    with pytest.raises(InvalidArgument, match=words) as caught:
        mesh.send_message(content, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.seen == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"to": ""}, "^send_message: to: it is empty"),
        ({"file_name": "a\r\nMex-To: X"}, r"file_name: the character U\+000D"),
    ],
)
def test_an_unusable_header_is_refused_by_name_before_anything_is_sent(
    scripted: Scripted, arguments: dict[str, Any], words: str
) -> None:
    mesh, server = scripted(ACCEPTED)
    with pytest.raises(InvalidArgument, match=words) as caught:
        mesh.send_message(b"x", **{**TO, **arguments})
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.seen == []


def test_what_is_absent_is_not_sent_and_what_is_given_is(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED)
    mesh.send_message(b"x", **TO)
    sent = server.seen[0].headers
    assert not {name for name in sent if name.startswith("mex-")} - {
        "mex-from",
        "mex-to",
        "mex-workflowid",
        "mex-localid",
        "mex-clientversion",
        "mex-osname",
        "mex-osversion",
        "mex-osarchitecture",
    }
    assert "None" not in sent.values()
    mesh.send_message(
        b"x",
        **TO,
        subject="subject",
        local_id="local-1",
        file_name="a.csv",
        checksum="md5 abc",
        content_type="text/csv",
        encrypted=True,
        compressed=True,
        partner_id="partner",
    )
    sent = {name: value for name, value in server.seen[1].headers.items() if name.startswith(("mex-", "content-"))}
    of_the_client = ("mex-client", "mex-os")
    assert {name: value for name, value in sent.items() if not name.startswith(of_the_client)} == {
        "mex-from": "X26ABC1",
        "mex-to": "X26ABC2",
        "mex-workflowid": "WF",
        "mex-subject": "subject",
        "mex-localid": "local-1",
        "mex-filename": "a.csv",
        "mex-content-checksum": "md5 abc",
        "mex-content-encrypted": "Y",
        "mex-content-compressed": "Y",
        "mex-partnerid": "partner",
        "mex-content-type": "text/csv",
        "content-type": "text/csv",
        "content-length": "1",
    }


def test_send_file_gives_the_files_own_name(scripted: Scripted, tmp_path: Path) -> None:
    mesh, server = scripted(ACCEPTED)
    (tmp_path / "results.csv").write_bytes(b"1,2\n")
    mesh.send_file(tmp_path / "results.csv", **TO)
    mesh.send_file(str(tmp_path / "results.csv"), **TO, file_name="other.csv")
    assert [seen.headers["mex-filename"] for seen in server.seen] == ["results.csv", "other.csv"]


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_read_is_said_to_be_so(scripted: Scripted, tmp_path: Path, name: str) -> None:
    mesh, server = scripted(ACCEPTED)
    with pytest.raises(SourceError, match="content: ") as caught:
        mesh.send_file(tmp_path / name, **TO, file_name="x")
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.seen == []


def test_a_file_that_shrinks_meanwhile_is_not_sent_short(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)

    def shrink(seen: Seen) -> Step:
        path.write_bytes(DATA[:1500])
        return ACCEPTED

    mesh, _server = scripted(shrink, ACCEPTED, **SMALL_CHUNKS)
    with pytest.raises(SourceError, match="shorter") as caught:
        mesh.send_file(path, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.message_id == MESSAGE_ID


# Retries


def test_every_attempt_has_a_new_token(scripted: Scripted, connect: Connector) -> None:
    mesh, server = scripted(Step(503), Step(503), ACCEPTED)
    assert mesh.send_message(b"content", **TO).message_id == MESSAGE_ID
    assert len(set(tokens(server))) == 3
    assert all(token.parse(one) for one in tokens(server))
    assert [seen.body for seen in server.seen] == [b"content"] * 3
    assert connect.clock.waits == [0.5, 1.0]


@pytest.mark.parametrize("status", [425, 429, 503])
def test_an_answer_that_nothing_was_done_is_tried_again_up_to_the_limit(scripted: Scripted, status: int) -> None:
    mesh, server = scripted(Step(status, body=b"<xml>busy</xml>"), max_attempts=3)
    with pytest.raises(Busy) as caught:
        mesh.send_message(b"content", **TO)
    assert len(server.seen) == 3
    assert (caught.value.status, caught.value.outcome) == (status, Outcome.NOT_SENT)


def test_retry_after_is_honoured_and_a_long_one_ends_the_attempts(scripted: Scripted, connect: Connector) -> None:
    mesh, _ = scripted(Step(503, {"Retry-After": "7"}), ACCEPTED)
    mesh.send_message(b"content", **TO)
    assert connect.clock.waits == [7.5]
    late = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    mesh, server = scripted(Step(503, {"Retry-After": late}))
    with pytest.raises(Busy) as caught:
        mesh.send_message(b"content", **TO)
    assert len(server.seen) == 1
    assert 3500 < (caught.value.retry_after_in_seconds or 0) <= 3600


def test_no_connection_means_not_sent(connect: Connector, serve: Callable[..., ScriptedServer]) -> None:
    with ScriptedServer(ACCEPTED) as server:
        url = server.url
    mesh = connect(settings_for(url, max_attempts=3))
    with pytest.raises(ConnectionFailed) as caught:
        mesh.send_message(b"content", **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.local_id
    assert len(connect.clock.waits) == 2


# Sending exactly once


def tracked(**fields: Any) -> Callable[[Seen], Step]:
    """Tracking's answer for the local id that is asked for."""

    def answer(seen: Seen) -> Step:
        local_id = seen.path.rsplit("/", 1)[1]
        body = {"messageId": "FOUND_1", "localId": local_id, "workflowId": "WF", "status": "Accepted", **fields}
        return Step(
            200, headers={"Date": format_datetime(datetime.now(UTC), usegmt=True)}, body=json.dumps(body).encode()
        )

    return answer


LOST = [DROP, Step(502), Step(504), Step(500, body=b"<?xml version='1.0'?><error/>"), Step(raw=b"HTTP/1.1 202 Acc")]


@pytest.mark.parametrize("lost", LOST, ids=["dropped", "502", "504", "500", "cut"])
def test_a_lost_answer_to_a_single_request_is_settled_by_local_id(scripted: Scripted, lost: Step) -> None:
    mesh, server = scripted(lost, tracked())
    assert mesh.send_message(b"content", **TO).message_id == "FOUND_1"
    assert [seen.method for seen in server.seen] == ["POST", "GET"], "it must not be sent twice"


@pytest.mark.parametrize("looked_up", [Step(404), Step(300), Step(500), DROP, Step(403, body=b"<html>")])
def test_what_looking_up_does_not_settle_is_unknown(scripted: Scripted, looked_up: Step) -> None:
    mesh, server = scripted(DROP, looked_up, max_attempts=2)
    with pytest.raises(OutcomeUnknown) as caught:
        mesh.send_message(b"content", **TO, local_id="mine")
    assert (caught.value.outcome, caught.value.local_id) == (Outcome.UNKNOWN, "mine")
    assert [seen.method for seen in server.seen].count("POST") == 1


def test_an_unreadable_acceptance_is_settled_by_local_id(scripted: Scripted) -> None:
    mesh, _server = scripted(Step(202, body=b"<html>"), tracked())
    assert mesh.send_message(b"content", **TO).message_id == "FOUND_1"


@pytest.mark.parametrize(
    ("fields", "settled"),
    [
        ({"uploadTimestamp": "20200101000000"}, False),
        ({"uploadTimestamp": datetime.now(UTC).strftime("%Y%m%d235959")}, True),
    ],
)
def test_an_older_message_of_the_same_local_id_is_not_taken_for_this_one(
    scripted: Scripted, fields: dict[str, Any], settled: bool
) -> None:
    mesh, _ = scripted(DROP, tracked(**fields))
    if settled:
        assert mesh.send_message(b"content", **TO, local_id="mine").message_id == "FOUND_1"
    else:
        with pytest.raises(OutcomeUnknown):
            mesh.send_message(b"content", **TO, local_id="mine")


def test_a_request_that_cannot_have_been_complete_is_sent_again(scripted: Scripted) -> None:
    """The server cannot have a message whose last block never left this machine."""
    content = os.urandom(40_000_000)
    mesh, server = scripted(Step(read=1000, drop=True), ACCEPTED, max_chunk_size_in_megabytes=100)
    assert mesh.send_message(content, **TO).message_id == MESSAGE_ID
    assert [len(seen.body) for seen in server.seen] == [1000, len(content)]


def test_a_lost_first_chunk_of_several_starts_again(scripted: Scripted) -> None:
    other = Step(202, body=b'{"message_id": "OTHER"}')
    mesh, server = scripted(DROP, Step(502), other)
    mesh, server = scripted(DROP, Step(502), other, **SMALL_CHUNKS)
    assert mesh.send_message(DATA, **TO).message_id == "OTHER"
    assert [(seen.path[-7:], seen.headers["mex-chunk-range"]) for seen in server.seen] == [
        ("/outbox", "1:3"),
        ("/outbox", "1:3"),
        ("/outbox", "1:3"),
        ("OTHER/2", "2:3"),
        ("OTHER/3", "3:3"),
    ]


@pytest.mark.parametrize("lost", LOST[:2], ids=["dropped", "502"])
def test_a_lost_middle_chunk_is_repeated(scripted: Scripted, lost: Step) -> None:
    mesh, server = scripted(ACCEPTED, lost, ACCEPTED, **SMALL_CHUNKS)
    assert mesh.send_message(DATA, **TO).message_id == MESSAGE_ID
    assert [seen.headers["mex-chunk-range"] for seen in server.seen] == ["1:3", "2:3", "2:3", "3:3"]
    assert server.seen[1].body == server.seen[2].body == DATA[1000:2000]


def track(status: str) -> Step:
    return Step(200, body=json.dumps({"message_id": MESSAGE_ID, "status": status}).encode())


def test_a_lost_last_chunk_that_had_arrived_was_sent(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED, ACCEPTED, DROP, Step(423), track("accepted"), **SMALL_CHUNKS)
    assert mesh.send_message(DATA, **TO).message_id == MESSAGE_ID
    assert server.seen[-1].path.endswith(f"/tracking?messageID={MESSAGE_ID}")


def test_a_last_chunk_that_stays_lost_is_settled_by_tracking(scripted: Scripted) -> None:
    busy_after_loss = (DROP, Step(503), track("acknowledged"))
    mesh, _ = scripted(ACCEPTED, ACCEPTED, *busy_after_loss, max_attempts=2, **SMALL_CHUNKS)
    assert mesh.send_message(DATA, **TO).message_id == MESSAGE_ID


@pytest.mark.parametrize("tracking", [track("uploading"), DROP])
def test_a_last_chunk_that_tracking_does_not_settle_is_unknown(scripted: Scripted, tracking: Step) -> None:
    mesh, _ = scripted(ACCEPTED, ACCEPTED, DROP, DROP, tracking, max_attempts=2, **SMALL_CHUNKS)
    with pytest.raises(OutcomeUnknown) as caught:
        mesh.send_message(DATA, **TO)
    assert (caught.value.message_id, caught.value.outcome) == (MESSAGE_ID, Outcome.UNKNOWN)


def test_a_last_chunk_that_was_never_acted_on_is_not_sent(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED, ACCEPTED, Step(503), max_attempts=2, **SMALL_CHUNKS)
    with pytest.raises(Busy) as caught:
        mesh.send_message(DATA, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert len(server.seen) == 4


def test_a_failure_after_the_first_chunk_gives_the_message_id(scripted: Scripted) -> None:
    mesh, _ = scripted(ACCEPTED, DROP, max_attempts=2, **SMALL_CHUNKS)
    with pytest.raises(MeshError) as caught:
        mesh.send_message(DATA, **TO, local_id="mine")
    assert (caught.value.message_id, caught.value.local_id) == (MESSAGE_ID, "mine")
    assert caught.value.outcome is Outcome.NOT_SENT


def test_a_refusal_is_not_tried_again_and_says_why(scripted: Scripted) -> None:
    detail = [{"event": "SEND", "code": "12", "msg": "Unregistered to address"}]
    body = json.dumps({"message_id": "M1", "internal_id": "i", "detail": detail}).encode()
    mesh, server = scripted(Step(417, body=body))
    with pytest.raises(Refused) as caught:
        mesh.send_message(b"content", **TO)
    error = caught.value
    assert (error.event, error.code, error.description) == ("SEND", "12", "Unregistered to address")
    assert (error.status, error.outcome, error.operation) == (417, Outcome.NOT_SENT, "send_message")
    assert "SEND 12 Unregistered" in str(error)
    assert len(server.seen) == 1


def test_a_redirect_is_not_followed(scripted: Scripted) -> None:
    mesh, server = scripted(Step(307, {"Location": "/elsewhere"}))
    with pytest.raises(ServerError):
        mesh.send_message(b"content", **TO)
    assert len(server.seen) == 1


# SendProgress


def test_progress_goes_up_to_the_whole_and_back_when_a_chunk_is_repeated(scripted: Scripted) -> None:
    mesh, _ = scripted(ACCEPTED, DROP, ACCEPTED, **SMALL_CHUNKS)
    told: list[SendProgress] = []
    mesh.send_message(DATA, **TO, progress=told.append)
    assert [(one.bytes_done, one.chunk) for one in told] == [
        (0, 1),
        (1000, 1),
        (1000, 2),
        (1000, 2),
        (2000, 2),
        (2000, 3),
        (2572, 3),
    ]
    assert {(one.bytes_total, one.chunks) for one in told} == {(2572, 3)}


def test_progress_that_raises_ends_the_send(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED, **SMALL_CHUNKS)

    def stop(progress: SendProgress) -> None:
        if progress.chunk == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mesh.send_message(DATA, **TO, progress=stop)
    assert len(server.seen) <= 2


def test_nothing_is_left_behind_by_spooling(scripted: Scripted, tmp_path: Path) -> None:
    mesh, server = scripted(ACCEPTED, spool_directory=tmp_path, max_chunk_size_in_megabytes=3)
    content = os.urandom(7_000_000)
    mesh.send_message((content[k : k + 100_000] for k in range(0, len(content), 100_000)), **TO, compress=True)
    assert b"".join(gzip.decompress(seen.body) for seen in server.seen) == content
    assert list(tmp_path.iterdir()) == []


# What a review found


def test_a_message_of_an_earlier_receipt_settles_nothing(scripted: Scripted) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y%m%d%H%M%S")
    first = Step(202, body=b'{"message_id": "FOUND_1"}')
    mesh, _ = scripted(first, DROP, tracked(uploadTimestamp=soon, recipient="X26ABC2"))
    assert mesh.send_message(b"content", **TO, local_id="mine").message_id == "FOUND_1"
    with pytest.raises(OutcomeUnknown, match="another message"):
        mesh.send_message(b"content", **TO, local_id="mine")


@pytest.mark.parametrize("chunked", [False, True])
def test_a3_a_send_answered_200_with_a_message_id_is_sent(scripted: Scripted, chunked: bool) -> None:
    """A3: the MESH API says 202. Other servers say 200, and every peer takes it."""
    accepted = Step(200, body=ACCEPTED.body)
    mesh, server = scripted(accepted, **(SMALL_CHUNKS if chunked else {}))
    assert mesh.send_message(DATA, **TO).message_id == MESSAGE_ID
    assert {seen.method for seen in server.seen} == {"POST"}


def test_a3_a_page_of_a_proxy_is_no_acceptance(scripted: Scripted) -> None:
    page = Step(200, body=b"<html>")
    mesh, server = scripted(page, NOT_FOUND)
    with pytest.raises(OutcomeUnknown):
        mesh.send_message(b"content", **TO)
    assert [seen.method for seen in server.seen].count("POST") == 1
    mesh, _ = scripted(ACCEPTED, page, **SMALL_CHUNKS)
    with pytest.raises(ServerError) as caught:
        mesh.send_message(DATA, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    mesh, _ = scripted(ACCEPTED, ACCEPTED, page, track("accepted"), **SMALL_CHUNKS)
    assert mesh.send_message(DATA, **TO).message_id == MESSAGE_ID


def test_success_before_the_whole_request_is_not_believed(scripted: Scripted) -> None:
    content = os.urandom(40_000_000)
    early = Step(read=1000, raw=b"HTTP/1.1 202 Accepted\r\nContent-Length: 20\r\n\r\n" + b'{"message_id": "M1"}')
    mesh, _ = scripted(early, NOT_FOUND, max_chunk_size_in_megabytes=100)
    try:
        mesh.send_message(content, **TO)
    except MeshError as error:
        assert error.outcome is not Outcome.SENT  # noqa: PT017 - where the reset overtakes the answer, it is sent again
    else:
        pytest.fail("a receipt for a message that the server cannot have")


def test_upload_finished_in_the_middle_is_unknown(scripted: Scripted) -> None:
    mesh, _ = scripted(ACCEPTED, Step(423), **SMALL_CHUNKS)
    with pytest.raises(OutcomeUnknown):
        mesh.send_message(DATA, **TO)


def test_progress_that_raises_after_the_end_does_not_hide_the_receipt(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, _ = scripted(ACCEPTED)

    def stop(progress: SendProgress) -> None:
        if progress.bytes_done == progress.bytes_total:
            raise ZeroDivisionError

    assert mesh.send_message(DATA, **TO, progress=stop).message_id == MESSAGE_ID
    assert "after the message was sent" in caplog.text


def test_a_mesh_error_out_of_progress_is_the_callers_own(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED)
    mine = Busy("mine", status=503)

    def stop(progress: SendProgress) -> None:
        raise mine

    with pytest.raises(Busy) as caught:
        mesh.send_message(DATA, **TO, progress=stop)
    assert caught.value is mine
    assert caught.value.operation is None
    assert len(server.seen) <= 1


@pytest.mark.parametrize("argument", ["to", "workflow_id"])
def test_none_is_no_recipient_and_no_workflow(scripted: Scripted, argument: str) -> None:
    mesh, server = scripted(ACCEPTED)
    with pytest.raises(InvalidArgument, match=f"{argument}: it is empty"):
        mesh.send_message(b"x", **{**TO, argument: None})
    assert server.seen == []


def test_a_file_that_grows_meanwhile_is_not_sent_short(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)

    def grow(seen: Seen) -> Step:
        with path.open("ab") as file:
            file.write(b"more")
        return ACCEPTED

    for source in (path, path.open("rb")):
        path.write_bytes(DATA)
        mesh, _ = scripted(grow, ACCEPTED, **SMALL_CHUNKS)
        with pytest.raises(SourceError, match="changed"):
            mesh.send_message(source, **TO)
    source.close()  # type: ignore[union-attr]


def test_one_file_object_is_sent_once_at_a_time(scripted: Scripted) -> None:
    file = io.BytesIO(DATA)
    inner: list[BaseException] = []

    def again(progress: SendProgress) -> None:
        if not inner:
            try:
                other.send_message(file, **TO)
            except InvalidArgument as error:
                inner.append(error)

    other, _ = scripted(ACCEPTED)
    mesh, server = scripted(ACCEPTED)
    if isinstance(other, MeshClient):  # a call from inside an event loop would wait for itself
        mesh.send_message(file, **TO, progress=again)
        assert "already" in str(inner[0])
        assert server.seen[0].body == DATA
        file.seek(0)
        mesh.send_message(file, **TO)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: "\ud800", "surrogate"),
        (lambda: tempfile.NamedTemporaryFile("w+"), "binary mode"),
        (lambda: closed(io.BytesIO(b"x")), "closed"),
    ],
)
def test_odd_content_is_refused_clearly(scripted: Scripted, make: Callable[[], Any], words: str) -> None:
    mesh, _ = scripted(ACCEPTED)
    content = make()
    if hasattr(content, "write") and not content.closed:
        content.write("text")
        content.seek(0)
    with pytest.raises(InvalidArgument, match=words) as caught:
        mesh.send_message(content, **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    if hasattr(content, "close"):
        content.close()


def closed(file: io.BytesIO) -> io.BytesIO:
    file.close()
    return file


def test_a_view_with_gaps_arrives_whole(scripted: Scripted) -> None:
    mesh, server = scripted(ACCEPTED)
    mesh.send_message(memoryview(DATA)[::2], **TO)
    assert server.seen[0].body == DATA[::2]


def test_what_the_caller_is_handling_says_nothing_of_the_send(scripted: Scripted) -> None:
    mesh, _ = scripted(DROP, NOT_FOUND)
    try:
        ssl.create_default_context(cadata="no certificate at all")
    except ssl.SSLError:
        with pytest.raises(OutcomeUnknown):
            mesh.send_message(b"content", **TO)


def test_no_exception_in_the_chain_holds_the_token_or_the_headers(scripted: Scripted) -> None:
    mesh, _ = scripted(DROP, NOT_FOUND)
    with pytest.raises(OutcomeUnknown) as caught:
        mesh.send_message(b"content", **TO, subject="Mrs Jones")
    cause: BaseException | None = caught.value
    while cause is not None:
        assert getattr(cause, "_request", None) is None
        cause = cause.__cause__ or cause.__context__


def test_the_http_packages_do_not_log_our_requests(scripted: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    mesh, _ = scripted(ACCEPTED, Step(200, {"Mex-Subject": "Mrs Jones", "Mex-MessageID": "M1"}))
    mesh.send_message(b"content", **TO, subject="Mr Smith")
    mesh.message_metadata("M1")
    for secret in ("NHSMESH", "Smith", "Jones"):
        assert secret not in caplog.text


def test_an_interrupted_send_says_what_to_ask_for(serve: Callable[..., ScriptedServer]) -> None:
    waiting = threading.Event()

    def wait(seen: Seen) -> Step:
        waiting.wait(20)
        return ACCEPTED

    server = serve(wait)

    async def run() -> None:
        async with AsyncMeshClient(settings_for(server.url)) as mesh:
            with anyio.fail_after(0.5):
                await mesh.send_message(b"content", to="X26ABC2", workflow_id="WF", local_id="mine")

    with pytest.raises(TimeoutError) as caught:
        anyio.run(run)
    waiting.set()
    cancelled = caught.value.__context__
    assert cancelled is not None
    assert any("local id mine" in note for note in cancelled.__notes__)
