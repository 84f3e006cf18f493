"""Faults, each one over a real socket, with TLS and without."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from raw_mesh import V2, RawMesh
from wire import connected, get, head, parsed, send_head, until_the_end

from nel_mesh.sandbox import Effect, Fault, Sandbox, sandbox

pytest_plugins = ["raw_fixtures"]

CONTENT = b"".join(b"line %d of the text\n" % number for number in range(5000))
GZIPPED = gzip.compress(CONTENT, mtime=0)
GZIP = {"accept-encoding": "gzip"}


@pytest.fixture(scope="module")
def plain_session() -> Iterator[RawMesh]:
    with sandbox(tls=False) as mesh, RawMesh(mesh) as raw:
        yield raw


@pytest.fixture(params=["plain", "tls"])
def either(request: pytest.FixtureRequest) -> RawMesh:
    """A sandbox without TLS, and one with it."""
    if request.param == "tls":
        secure: RawMesh = request.getfixturevalue("raw")
        return secure
    raw: RawMesh = request.getfixturevalue("plain_session")
    raw.mesh.reset()
    return raw


@pytest.fixture
def plain(plain_session: RawMesh) -> RawMesh:
    plain_session.mesh.reset()
    return plain_session


def struck(mesh: Sandbox, fault: Fault, status: int | None) -> None:
    """The fault has been done, once, and the request that suffered it says so."""
    assert mesh.pending_faults == ()
    assert [request.status for request in mesh.requests() if request.fault == fault] == [status]


# Cuts before the answer


@pytest.mark.parametrize(
    ("effect", "delivered"),
    [("cut-before-body", 0), ("cut-during-body", 0), ("cut-after-body", 0), ("lose-response", 1)],
)
def test_connection_is_reset(either: RawMesh, effect: str, delivered: int) -> None:
    fault = either.mesh.add_fault(Fault("send_message", effect))
    with connected(either) as connection:
        connection.sendall(send_head(either, 7) + b"content")
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)
    struck(either.mesh, fault, None)
    assert len(either.mesh.delivered("X26ABC2")) == delivered
    assert either.send().status_code == 202
    assert len(either.mesh.delivered("X26ABC2")) == delivered + 1


def test_cut_before_body_is_before_the_body(either: RawMesh) -> None:
    either.mesh.add_fault(Fault("send_message", "cut-before-body"))
    with connected(either) as connection:
        connection.sendall(send_head(either, 1_000_000, expect="100-continue"))
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)


@pytest.mark.parametrize(("at_byte", "sent"), [(None, 500_000), (1, 1), (999_999, 999_999)])
def test_cut_during_body_waits_for_so_much_of_it_and_no_more(either: RawMesh, at_byte: int | None, sent: int) -> None:
    either.mesh.add_fault(Fault("send_message", "cut-during-body", at_byte=at_byte))
    with connected(either) as connection:
        connection.sendall(send_head(either, 1_000_000, expect="100-continue"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(bytes(sent - 1))
        assert either.mesh.pending_faults
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)


def test_cut_during_a_body_that_is_still_being_sent(either: RawMesh) -> None:
    fault = either.mesh.add_fault(Fault("send_message", "cut-during-body", at_byte=5_000_000))
    block, sent = bytes(50_000), 0
    with connected(either) as connection:
        connection.sendall(send_head(either, 100_000_000))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while sent < 100_000_000:
                connection.sendall(block)
                sent += len(block)
    assert 4_900_000 <= sent < 100_000_000
    struck(either.mesh, fault, None)
    assert either.mesh.messages() == []
    assert [path for path in either.mesh.folder.rglob("*") if path.is_file()] == []


def test_cut_during_a_body_of_unknown_length(plain: RawMesh) -> None:
    plain.mesh.add_fault(Fault("send_message", "cut-during-body"))
    with pytest.raises(httpx2.TransportError):
        plain.send(iter([b"content"] * 10))
    assert plain.mesh.pending_faults == ()


def test_lost_answer_to_the_last_chunk(either: RawMesh) -> None:
    sent = either.send(b"1", mex_chunk_range="1:2").json()["message_id"]
    fault = either.mesh.add_fault("send_chunk:1:lose-response")
    with pytest.raises(httpx2.TransportError):
        either.send_chunk(sent, 2, 2, b"2")
    struck(either.mesh, fault, None)
    assert either.send_chunk(sent, 2, 2, b"2").status_code == 423
    assert either.mesh.content(sent) == b"12"


def test_lost_answer_to_an_acknowledgement(either: RawMesh) -> None:
    sent = either.send().json()["message_id"]
    either.mesh.add_fault(Fault("acknowledge_message", "lose-response", message_id=sent))
    with pytest.raises(httpx2.TransportError):
        either.acknowledge(sent)
    assert either.inbox() == []
    assert either.acknowledge(sent).status_code == 200


@pytest.mark.parametrize("what", ["cut-before-body", "cut-after-body", "lose-response", "respond=503"])
def test_token_of_a_faulted_request_is_used_up(plain: RawMesh, what: str) -> None:
    token = plain.token()
    plain.mesh.add_fault(f"list_messages:{what}")
    try:
        assert plain.request("GET", "/inbox", authorization=token).status_code == 503
    except httpx2.TransportError:
        assert what != "respond=503"
    assert plain.request("GET", "/inbox", authorization=token).status_code == 403


# The answer


@pytest.mark.parametrize(
    ("at_byte", "got"), [(None, len(CONTENT) // 2), (0, 0), (1, 1), (70_000, 70_000), (10**9, len(CONTENT) - 1)]
)
def test_cut_answer_ends_at_the_byte(either: RawMesh, at_byte: int | None, got: int) -> None:
    sent = either.send(CONTENT).json()["message_id"]
    fault = either.mesh.add_fault(Fault("retrieve_message", "cut-response", at_byte=at_byte))
    answer = get(either, f"/inbox/{sent}")
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(CONTENT)))
    assert answer.body == CONTENT[:got]
    struck(either.mesh, fault, 200)
    assert either.get(sent).content == CONTENT


def test_cut_answer_loses_nothing_before_the_cut_to_a_client_that_reads_late(either: RawMesh) -> None:
    content = CONTENT * 200
    sent = either.send(content).json()["message_id"]
    either.mesh.add_fault(Fault("retrieve_message", "cut-response", at_byte=15_000_001))
    with connected(either) as connection:
        connection.sendall(head(either, "GET", f"/inbox/{sent}", mailbox_id="X26ABC2"))
        first = connection.recv(1)
        assert either.get(sent).content == content
        assert parsed(first + until_the_end(connection)).body == content[:15_000_001]


def test_cut_answer_is_an_error_to_a_client(either: RawMesh) -> None:
    sent = either.send(CONTENT).json()["message_id"]
    either.mesh.add_fault("retrieve_message:cut-response=1000")
    with pytest.raises(httpx2.RemoteProtocolError):
        either.get(sent)


def test_cut_answer_to_a_send_that_was_done(plain: RawMesh) -> None:
    plain.mesh.add_fault("send_message:cut-response=5")
    with connected(plain) as connection:
        connection.sendall(send_head(plain, 7) + b"content")
        answer = parsed(until_the_end(connection))
    assert (answer.status, answer.body) == (202, b'{"mes')
    assert len(plain.mesh.delivered("X26ABC2")) == 1


@pytest.mark.parametrize("at_byte", [None, 1000, 10**9])
def test_cut_answer_of_unannounced_length(at_byte: int | None) -> None:
    with sandbox(tls=False, compress_downloads=True) as mesh, RawMesh(mesh) as raw:
        sent = raw.send(CONTENT).json()["message_id"]
        fault = mesh.add_fault(Fault("retrieve_message", "cut-response", at_byte=at_byte))
        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
            raw.get(sent, accept_encoding="gzip")
        struck(mesh, fault, 200)


def test_delay(either: RawMesh) -> None:
    fault = either.mesh.add_fault("send_message:delay=0.05")
    begun = time.monotonic()
    assert either.send().status_code == 202
    assert time.monotonic() - begun >= 0.05
    struck(either.mesh, fault, 202)


@pytest.mark.parametrize("tls", [True, False])
def test_delay_ends_with_its_client_and_with_the_sandbox(tls: bool) -> None:
    with sandbox(tls=tls, faults=["send_message:*:delay=600"]) as mesh, RawMesh(mesh) as raw:
        raw.http.timeout = httpx2.Timeout(20, read=0.2)
        with pytest.raises(httpx2.ReadTimeout):
            raw.send()
        assert len(mesh.delivered("X26ABC2")) == 1
        assert mesh.requests("send_message")[-1].status is None
        with connected(raw) as connection:
            connection.sendall(send_head(raw, 7) + b"content")
            while len(mesh.delivered("X26ABC2")) < 2:
                raw.inbox()
            begun = time.monotonic()
            mesh.stop()
            assert time.monotonic() - begun < 3


def test_trickle(either: RawMesh) -> None:
    sent = either.send(bytes(300)).json()["message_id"]
    fault = either.mesh.add_fault("retrieve_message:trickle=3000")
    begun = time.monotonic()
    with either.http.stream(
        "GET", f"/messageexchange/X26ABC2/inbox/{sent}", headers={"authorization": either.token("X26ABC2")}
    ) as answer:
        parts = list(answer.iter_raw())
    assert time.monotonic() - begun >= 0.09
    assert len(parts) > 1
    assert b"".join(parts) == bytes(300)
    struck(either.mesh, fault, 200)


@pytest.mark.parametrize("seconds", ["0.05", "0"])
def test_trickle_is_bounded(plain: RawMesh, seconds: str) -> None:
    sent = plain.send(CONTENT).json()["message_id"]
    plain.mesh.add_fault(f"retrieve_message:trickle=1,seconds={seconds}")
    begun = time.monotonic()
    assert plain.get(sent).content == CONTENT
    assert time.monotonic() - begun < 5


def test_trickle_that_is_given_up(plain: RawMesh) -> None:
    sent = plain.send(CONTENT).json()["message_id"]
    plain.mesh.add_fault("retrieve_message:trickle=1,seconds=600")
    with connected(plain) as connection:
        connection.sendall(head(plain, "GET", f"/inbox/{sent}", mailbox_id="X26ABC2"))
        assert connection.recv(1000)
    assert plain.get(sent).content == CONTENT


@pytest.mark.parametrize("status", [425, 429, 502, 503, 504])
@pytest.mark.parametrize("retry_after", [None, 7, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_answer(either: RawMesh, status: int, retry_after: int | str | None) -> None:
    fault = either.mesh.add_fault(Fault("any", "respond", status=status, retry_after=retry_after))
    answer = either.send()
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    struck(either.mesh, fault, status)
    assert either.mesh.messages() == []
    assert either.send().status_code == 202


def test_answer_after_the_work(plain: RawMesh) -> None:
    plain.mesh.add_fault("send_message:respond=504,done")
    assert plain.send().status_code == 504
    assert len(plain.mesh.delivered("X26ABC2")) == 1


def test_answers_in_other_tongues(plain: RawMesh) -> None:
    plain.mesh.add_fault(Fault("any", "respond", status=500))
    plain.mesh.add_fault(Fault("any", "respond", status=403))
    plain.mesh.add_fault(Fault("any", "respond", status=418, body=b"\xff\x00", content_type="image/png"))
    plain.mesh.add_fault("any:respond=200,content-type=application/json,body={")
    plain.mesh.add_fault(Fault("any", "respond", status=502, body=""))
    plain.mesh.add_fault(Fault("any", "respond", status=204))
    answers = [plain.send() for _ in range(6)]
    assert [answer.status_code for answer in answers] == [500, 403, 418, 200, 502, 204]
    assert answers[0].headers["content-type"].startswith("text/xml")
    assert answers[0].text.startswith("<?xml ")
    assert answers[1].headers["content-type"].startswith("text/html")
    assert answers[1].text.startswith("<html>")
    assert (answers[2].content, answers[2].headers["content-type"]) == (b"\xff\x00", "image/png")
    assert (answers[3].content, answers[3].headers["content-type"]) == (b"{", "application/json")
    assert [answer.content for answer in answers[4:]] == [b"", b""]
    assert plain.mesh.pending_faults == ()


# Damaged bodies


@pytest.mark.parametrize(
    ("at_byte", "kept"), [(None, len(GZIPPED) // 2), (0, 0), (len(GZIPPED) - 8, len(GZIPPED) - 8), (10**9, -1)]
)
def test_truncated_gzip(either: RawMesh, at_byte: int | None, kept: int) -> None:
    sent = either.send(GZIPPED, content_encoding="gzip").json()["message_id"]
    fault = either.mesh.add_fault(Fault("retrieve_message", "truncate-gzip", at_byte=at_byte))
    headers, body = on_the_wire(either, sent)
    assert body == GZIPPED[:kept]
    assert headers["content-length"] == str(len(body))
    assert headers["content-encoding"] == "gzip"
    decompressor = zlib.decompressobj(31)
    assert CONTENT.startswith(decompressor.decompress(body))
    assert not decompressor.eof
    struck(either.mesh, fault, 200)
    assert on_the_wire(either, sent)[1] == GZIPPED


@pytest.mark.parametrize("at_byte", [None, 0, 5000, 10**9])
def test_corrupt_gzip(either: RawMesh, at_byte: int | None) -> None:
    sent = either.send(GZIPPED, content_encoding="gzip").json()["message_id"]
    fault = either.mesh.add_fault(Fault("retrieve_message", "corrupt-gzip", at_byte=at_byte))
    headers, body = on_the_wire(either, sent)
    assert headers["content-length"] == str(len(GZIPPED)) == str(len(body))
    assert sum(one != other for one, other in zip(body, GZIPPED, strict=True)) == 1
    with pytest.raises((zlib.error, OSError)):
        gzip.decompress(body)
    struck(either.mesh, fault, 200)


@pytest.mark.parametrize("effect", ["truncate-gzip", "corrupt-gzip"])
def test_damage_to_gzip_made_on_the_way(effect: str) -> None:
    with sandbox(tls=False, compress_downloads=True) as mesh, RawMesh(mesh) as raw:
        sent = raw.send(CONTENT).json()["message_id"]
        mesh.add_fault(Fault("retrieve_message", effect))
        headers, body = on_the_wire(raw, sent)
        assert headers["content-length"] == str(len(body))
        with pytest.raises((zlib.error, OSError, EOFError)):
            gzip.decompress(body)
        assert gzip.decompress(on_the_wire(raw, sent)[1]) == CONTENT


@pytest.mark.parametrize("effect", ["truncate-gzip", "corrupt-gzip"])
def test_damage_to_gzip_waits_for_gzip(plain: RawMesh, effect: str) -> None:
    mesh = plain.mesh
    bare = plain.send(CONTENT).json()["message_id"]
    packed = plain.send(GZIPPED, content_encoding="gzip").json()["message_id"]
    fault = mesh.add_fault(Fault("any", effect))
    assert plain.inbox() == [bare, packed]
    assert on_the_wire(plain, bare)[1] == CONTENT
    assert plain.get(packed, accept_encoding="identity").content == CONTENT
    assert mesh.pending_faults == (fault,)
    assert on_the_wire(plain, packed)[1] != GZIPPED
    struck(mesh, fault, 200)


def test_damage_to_what_is_damaged_already(plain: RawMesh) -> None:
    sent = plain.send(GZIPPED[:-4], content_encoding="gzip").json()["message_id"]
    plain.mesh.add_fault("retrieve_message:longer-length")
    with pytest.raises(httpx2.RemoteProtocolError):
        plain.get(sent)
    assert plain.mesh.pending_faults


@pytest.mark.parametrize("by_bytes", [None, 1000])
def test_length_that_is_too_long(either: RawMesh, by_bytes: int | None) -> None:
    sent = either.send(CONTENT).json()["message_id"]
    fault = Fault("retrieve_message", "longer-length", by_bytes=by_bytes)
    for _ in range(2):
        either.mesh.add_fault(fault)
    answer = get(either, f"/inbox/{sent}")
    assert answer.headers["content-length"] == str(len(CONTENT) + (by_bytes or 1))
    assert answer.body == CONTENT
    with pytest.raises(httpx2.RemoteProtocolError):
        either.get(sent)
    assert either.mesh.pending_faults == ()


@pytest.mark.parametrize("by_bytes", [None, 1000])
def test_length_that_is_too_short(either: RawMesh, by_bytes: int | None) -> None:
    sent = either.send(CONTENT).json()["message_id"]
    fault = Fault("retrieve_message", "shorter-length", by_bytes=by_bytes)
    for _ in range(2):
        either.mesh.add_fault(fault)
    answer = get(either, f"/inbox/{sent}")
    assert answer.headers["content-length"] == str(len(CONTENT) - (by_bytes or 1))
    assert answer.body == CONTENT
    assert either.get(sent).content == CONTENT[: -(by_bytes or 1)]
    assert either.mesh.pending_faults == ()
    assert either.inbox() == [sent]


def test_length_that_cannot_be_shorter(plain: RawMesh) -> None:
    sent = plain.send(b"1").json()["message_id"]
    plain.mesh.add_fault("any:shorter-length=2")
    assert plain.get(sent).content == b"1"
    plain.mesh.add_fault("acknowledge_message:cut-response")
    assert plain.acknowledge(sent).status_code == 200
    assert len(plain.mesh.pending_faults) == 2


def test_length_of_gzip_made_on_the_way() -> None:
    with sandbox(tls=False, compress_downloads=True) as mesh, RawMesh(mesh) as raw:
        sent = raw.send(CONTENT).json()["message_id"]
        mesh.add_fault("retrieve_message:longer-length")
        answer = get(raw, f"/inbox/{sent}", accept_encoding="gzip")
        assert answer.headers["content-length"] == str(len(answer.body) + 1)
        assert gzip.decompress(answer.body) == CONTENT


# Chunks

RESULTS: dict[str, list[tuple[int, str | None, bytes | None] | None]] = {
    # The status, the range and the content of chunks 1, 2 and 3, each asked for with the fault.
    "missing-chunk": [(404, None, None)] * 3,
    "skip-chunk": [(206, "2:3", b"two"), (200, "3:3", b"three"), None],
    "repeat-chunk": [None, (206, "1:3", b"one"), (206, "2:3", b"two")],
    "repeat-content": [None, (206, "2:3", b"one"), (200, "3:3", b"two")],
    "wrong-range": [(206, "2:3", b"one"), (206, "1:3", b"two"), (200, "2:3", b"three")],
}
TRUE = [(206, "1:3", b"one"), (206, "2:3", b"two"), (200, "3:3", b"three")]


@pytest.mark.parametrize("effect", RESULTS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_chunks(plain: RawMesh, effect: str, number: int) -> None:
    mesh = plain.mesh
    sent = mesh.deliver_message("X26ABC2", [b"one", b"two", b"three"])
    fault = mesh.add_fault(Fault("any", effect, chunk=number))
    faulty = RESULTS[effect][number - 1]
    for other in (1, 2, 3):
        answer = plain.get(sent, None if other == 1 else other)
        status, chunk_range, content = (faulty if other == number else None) or TRUE[other - 1]
        assert answer.status_code == status
        assert answer.headers.get("mex-chunk-range") == chunk_range
        assert content in (None, answer.content)
    if faulty:
        struck(mesh, fault, faulty[0])
    else:
        assert mesh.pending_faults == (fault,)


@pytest.mark.parametrize("effect", ["skip-chunk", "repeat-chunk", "wrong-range"])
def test_message_of_one_chunk_has_no_other(plain: RawMesh, effect: str) -> None:
    sent = plain.send().json()["message_id"]
    plain.mesh.add_fault(Fault("retrieve_message", effect))
    answer = plain.get(sent)
    assert (answer.status_code, answer.headers["mex-chunk-range"], answer.content) == (200, "1:1", b"content")
    assert plain.mesh.pending_faults


def test_chunks_of_an_upload(plain: RawMesh) -> None:
    plain.mesh.add_fault(Fault("any", "respond", chunk=1, status=503))
    plain.mesh.add_fault(Fault("send_chunk", "respond", chunk=3, status=503))
    assert plain.send(mex_chunk_range="1:3").status_code == 503
    sent = plain.send(mex_chunk_range="1:3").json()["message_id"]
    assert [plain.send_chunk(sent, number, 3).status_code for number in (2, 3, 3)] == [202, 503, 202]


# Which request


def statuses(raw: RawMesh, count: int) -> list[int]:
    return [raw.request("GET", "/count").status_code for _ in range(count)]


def planned(mesh: Sandbox) -> tuple[list[Fault], list[Fault]]:
    """The faults that can still strike, and those that have not."""
    return list(mesh.faults), list(mesh.pending_faults)


def test_nth_request(plain: RawMesh) -> None:
    assert statuses(plain, 1) == [200]
    fault = plain.mesh.add_fault("count_messages:3:respond=503")
    assert plain.inbox() == []
    assert planned(plain.mesh) == ([fault], [fault])
    assert statuses(plain, 4) == [200, 200, 503, 200]
    assert planned(plain.mesh) == ([], [])


def test_every_request(plain: RawMesh) -> None:
    fault = plain.mesh.add_fault("count_messages:*:respond=503")
    assert planned(plain.mesh) == ([fault], [fault])
    assert statuses(plain, 3) == [503] * 3
    assert planned(plain.mesh) == ([fault], [])
    plain.mesh.clear_faults()
    assert planned(plain.mesh) == ([], [])
    assert statuses(plain, 1) == [200]


def test_several_faults(plain: RawMesh) -> None:
    for text in ("2:respond=502", "1:respond=503", "2:respond=504", "1:respond=429"):
        plain.mesh.add_fault(f"any:{text}")
    assert statuses(plain, 5) == [503, 502, 504, 429, 200]


def test_one_message_only(plain: RawMesh) -> None:
    one, other = [plain.send().json()["message_id"] for _ in range(2)]
    plain.mesh.add_fault(Fault("any", "respond", message_id=other, status=503))
    assert [plain.get(message_id).status_code for message_id in (one, other, other)] == [200, 503, 200]


def test_requests_that_ask_for_nothing_known_suffer_nothing(plain: RawMesh) -> None:
    plain.mesh.add_fault("any:*:respond=503")
    assert plain.http.get("/elsewhere").status_code == 404
    assert plain.http.get("/messageexchange/_ping").status_code == 503


def test_each_of_many_threads_gets_its_own(plain: RawMesh) -> None:
    for _ in range(20):
        plain.mesh.add_fault("count_messages:respond=503")
    results: list[int] = []

    def ask() -> None:
        with RawMesh(plain.mesh) as own:
            results.extend(statuses(own, 10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(503) == 20
    assert results.count(200) == 20
    assert plain.mesh.faults == ()


def test_client_that_leaves_first_uses_no_fault_up(plain: RawMesh) -> None:
    fault = plain.mesh.add_fault("send_message:lose-response")
    with connected(plain) as connection:
        connection.sendall(send_head(plain, 1000, expect="100-continue"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    while any(plain.mesh.folder.rglob("arriving-*")):
        plain.inbox()
    assert plain.mesh.pending_faults == (fault,)
    with pytest.raises(httpx2.TransportError):
        plain.send()
    struck(plain.mesh, fault, None)


def test_faults_from_the_start_come_back_with_a_reset() -> None:
    with sandbox(tls=False, faults=["count_messages:respond=503"]) as mesh, RawMesh(mesh) as raw:
        assert statuses(raw, 2) == [503, 200]
        mesh.add_fault("any:*:respond=502")
        mesh.reset()
        assert mesh.faults == (Fault("count_messages", "respond", status=503),)
        assert statuses(raw, 2) == [503, 200]


def test_faults_may_be_added_before_the_start() -> None:
    mesh = sandbox(tls=False)
    mesh.add_fault("count_messages:respond=503")
    with mesh, RawMesh(mesh) as raw:
        assert statuses(raw, 2) == [503, 200]


@pytest.mark.parametrize("effect", list(Effect))
def test_every_effect_is_survived_over_tls(raw: RawMesh, mesh_sandbox: Sandbox, effect: Effect) -> None:
    needed: dict[Effect, dict[str, Any]] = {
        Effect.DELAY: {"seconds": 0.01},
        Effect.TRICKLE: {"bytes_per_second": 10**6},
        Effect.RESPOND: {"status": 503},
    }
    sent = mesh_sandbox.deliver_message("X26ABC2", [GZIPPED] * 3, content_encoding="gzip")
    fault = mesh_sandbox.add_fault(Fault("retrieve_chunk", effect, **needed.get(effect, {})))
    path = f"/messageexchange/X26ABC2/inbox/{sent}/2"
    with contextlib.suppress(httpx2.TransportError, httpx2.DecodingError):
        raw.http.get(path, headers={"authorization": raw.token("X26ABC2"), "accept": V2, **GZIP})
    assert mesh_sandbox.pending_faults == ()
    assert mesh_sandbox.requests("retrieve_chunk")[-1].fault == fault
    assert raw.get(sent, 2, accept_encoding="gzip").content == CONTENT


def on_the_wire(raw: RawMesh, message_id: str) -> tuple[httpx2.Headers, bytes]:
    """A download's headers, and its body without anything undone."""
    headers = {"authorization": raw.token("X26ABC2"), "accept": V2, **GZIP}
    with raw.http.stream("GET", f"/messageexchange/X26ABC2/inbox/{message_id}", headers=headers) as answer:
        return answer.headers, b"".join(answer.iter_raw())
