"""Messages in several chunks: in order, all of them, one encoding, and delivered with the last."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from raw_mesh import RawMesh

from nel_mesh.sandbox import Sandbox

pytest_plugins = ["raw_fixtures"]


def begin(raw: RawMesh, total: int = 3, **headers: str) -> str:
    answer = raw.send(b"one", headers=headers, mex_chunk_range=f"1:{total}")
    message_id: str = answer.json()["message_id"]
    return message_id


def test_delivered_with_the_last_chunk(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = begin(raw)
    assert raw.track(sent).json()["status"] == "uploading"
    answer = raw.send_chunk(sent, 2, 3, b"two")
    assert (answer.status_code, answer.json()) == (202, {"message_id": sent})
    assert raw.inbox() == []
    assert raw.get(sent).status_code == 410
    assert raw.acknowledge(sent).status_code == 404
    assert raw.send_chunk(sent, 3, 3, b"three", version=1).json() == {"messageID": sent, "blockID": 3}
    assert raw.inbox() == [sent]
    assert raw.track(sent).json()["status"] == "accepted"
    assert raw.track(sent, version=1).json()["chunkCount"] == 3
    assert raw.track(sent, version=1).json()["fileSize"] == len(b"onetwothree")
    assert mesh_sandbox.content(sent) == b"onetwothree"


def test_download(raw: RawMesh) -> None:
    sent = begin(raw, 2, **{"mex-content-type": "text/csv"})
    raw.send_chunk(sent, 2, 2, b"two")
    for first in (raw.get(sent), raw.get(sent, 1)):
        assert (first.status_code, first.content) == (206, b"one")
        assert first.headers["mex-chunk-range"] == "1:2"
        assert first.headers["content-type"] == "application/octet-stream"
        assert first.headers["mex-content-type"] == "text/csv"
    last = raw.get(sent, 2)
    assert (last.status_code, last.content, last.headers["mex-chunk-range"]) == (200, b"two", "2:2")
    assert raw.get(sent, 3).status_code == 404
    head = raw.request("HEAD", f"/inbox/{sent}", mailbox_id="X26ABC2")
    assert (head.status_code, head.headers["mex-chunk-range"]) == (200, "1:2")
    for number in ("0", "-1", "x", "1e3"):
        answer = raw.request("GET", f"/inbox/{sent}/{number}", mailbox_id="X26ABC2")
        assert answer.status_code == 400


def test_order(raw: RawMesh) -> None:
    sent = begin(raw, 4)
    skipped = raw.send_chunk(sent, 3, 4)
    assert skipped.status_code == 417
    assert skipped.json()["message_id"] == sent
    assert raw.send_chunk(sent, 2, 4).status_code == 202
    assert raw.send_chunk(sent, 3, 4).status_code == 202
    assert raw.send_chunk(sent, 2, 4).status_code == 417


def test_last_chunk_without_the_middle_one(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = begin(raw, 3)
    assert raw.send_chunk(sent, 3, 3).status_code == 417
    assert raw.inbox() == []
    assert mesh_sandbox.delivered("X26ABC2") == []


def test_repeat_of_the_last_received_overwrites(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = begin(raw, 3)
    assert raw.send_chunk(sent, 1, 3, b"ONE!").status_code == 202
    assert raw.send_chunk(sent, 2, 3, b"two").status_code == 202
    assert raw.send_chunk(sent, 2, 3, b"TWO!").status_code == 202
    assert raw.send_chunk(sent, 3, 3, b"three").status_code == 202
    assert mesh_sandbox.chunks(sent) == [b"ONE!", b"TWO!", b"three"]
    assert raw.track(sent, version=1).json()["fileSize"] == len(b"ONE!TWO!three")


def test_after_the_last_chunk_all_is_locked(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = begin(raw, 2)
    raw.send_chunk(sent, 2, 2, b"two")
    for number in (1, 2):
        answer = raw.send_chunk(sent, number, 2, b"other")
        assert answer.status_code == 423
        assert answer.json()["message_id"] == sent
        words = "Messages has been finalised; no more chunks can be uploaded"
        assert answer.json()["detail"] == [{"event": "SEND", "code": "", "msg": words}]
    assert mesh_sandbox.content(sent) == b"onetwo"
    single = raw.send().json()["message_id"]
    assert raw.send_chunk(single, 2, 2).status_code == 423


@pytest.mark.parametrize(
    ("number", "header", "status"),
    [
        (4, "4:4", 406),
        (4, "4:3", 406),
        (2, "2:4", 417),
        (2, "2:2", 417),
        (2, "1:3", 417),
        (2, "", 417),
        (2, "two", 417),
        (2, "2" * 21, 400),
    ],
)
def test_ranges(raw: RawMesh, number: int, header: str, status: int) -> None:
    sent = begin(raw, 3)
    answer = raw.send_chunk(sent, number, 3, headers={"mex-chunk-range": header})
    assert answer.status_code == status
    if status == 406:
        assert answer.json()["detail"][0]["msg"] == "Not Acceptable"


@pytest.mark.parametrize(("first", "second"), [("gzip", ""), ("", "gzip")])
def test_encoding_cannot_change(raw: RawMesh, first: str, second: str) -> None:
    sent = begin(raw, 2, **{"content-encoding": first})
    answer = raw.send_chunk(sent, 2, 2, content_encoding=second)
    assert answer.status_code == 417
    assert raw.send_chunk(sent, 2, 2, content_encoding=first.upper()).status_code == 202


def test_empty_chunk(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = begin(raw, 2)
    answer = raw.send_chunk(sent, 2, 2, b"")
    assert (answer.status_code, answer.json()["detail"][0]["code"]) == (417, "02")
    assert raw.send_chunk(sent, 2, 2, b"two").status_code == 202
    assert mesh_sandbox.content(sent) == b"onetwo"


def test_chunk_for_somebody_elses_message(raw: RawMesh) -> None:
    sent = begin(raw, 2)
    assert raw.send_chunk(sent, 2, 2, mailbox_id="X26ABC3").status_code == 403
    assert raw.send_chunk("NONE", 2, 2).status_code == 404
    assert raw.request("POST", f"/outbox/{sent}/zero").status_code == 400


def test_same_chunk_twice_at_once(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = begin(raw, 2)
    both_have_begun = threading.Barrier(2, timeout=20)
    statuses: list[int] = []

    def chunk(letter: bytes) -> None:
        def body() -> Iterator[bytes]:
            yield letter * 100_000
            both_have_begun.wait()
            yield letter * 100_000

        with RawMesh(mesh_sandbox) as own:
            statuses.append(own.send_chunk(sent, 2, 2, body()).status_code)

    threads = [threading.Thread(target=chunk, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202, 423]
    assert mesh_sandbox.chunks(sent)[1] in (b"a" * 200_000, b"b" * 200_000)
    assert raw.inbox() == [sent]
