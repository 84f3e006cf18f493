"""Receiving into files: goes on after anything, checks everything, and names a file only when it is whole."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import (
    IntegrityError,
    InvalidArgument,
    MeshError,
    NotFound,
    ReceivedFile,
    ReceiveProgress,
    Report,
    StorageError,
)
from nel_mesh.io.locks import FileLock
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer, Step, raw_answer

Scripted = Callable[..., tuple[Any, ScriptedServer]]
DATA = random.Random(7).randbytes(4000)
MEX = {"Mex-MessageID": "M1", "Mex-From": "X26ABC2", "Mex-WorkflowID": "WF", "Mex-MessageType": "DATA"}
SUMS = {name: hashlib.new(name, DATA).hexdigest() for name in ("md5", "sha1", "sha256")}


def chunk(number: int, total: int = 4, body: bytes | None = None, **headers: str) -> Step:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = DATA[1000 * (number - 1) : 1000 * number] if body is None else body
    status = 200 if number == total else 206
    return Step(status, {**MEX, "Mex-Chunk-Range": f"{number}:{total}", **named}, content)


def broken(number: int) -> Step:
    mex = {name.replace("-", "_"): value for name, value in MEX.items()}
    return raw_answer(206, DATA[1000 * (number - 1) :][:300], announced=1000, Mex_Chunk_Range=f"{number}:4", **mex)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_message_becomes_a_file(scripted: Scripted, tmp_path: Path) -> None:
    mesh, server = scripted(
        *[chunk(k, Mex_FileName="results.csv", Mex_Content_Checksum=SUMS["sha256"]) for k in (1, 2, 3, 4)]
    )
    received = mesh.receive_file("M1", tmp_path / "inbox")
    assert isinstance(received, ReceivedFile)
    assert received.path == tmp_path / "inbox" / "results.csv"
    assert received.path.read_bytes() == DATA
    assert (received.bytes, received.verified, received.metadata.sender) == (4000, True, "X26ABC2")
    assert [path.name for path in received.path.parent.iterdir()] == ["results.csv"], "nothing is left behind"
    assert {seen.method for seen in server.seen} == {"GET"}, "it is not acknowledged"


def test_a_chunk_that_breaks_is_fetched_again_without_a_word(scripted: Scripted, tmp_path: Path) -> None:
    damaged = chunk(3, body=b"\x1f\x8b damaged", Content_Encoding="gzip")
    mesh, server = scripted(chunk(1), broken(2), broken(2), chunk(2), damaged, chunk(3), Step(503), chunk(4))
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == DATA
    assert [seen.path.rsplit("/", 1)[1] for seen in server.seen] == ["M1", "2", "2", "2", "3", "3", "4", "4"]


@pytest.mark.parametrize("arrived", [1, 2, 3])
def test_a_restart_goes_on_at_the_first_missing_chunk(scripted: Scripted, tmp_path: Path, arrived: int) -> None:
    mesh, _ = scripted(*[chunk(k) for k in range(1, arrived + 1)], broken(arrived + 1), max_attempts=1)
    with pytest.raises(IntegrityError) as caught:
        mesh.receive_file("M1", tmp_path)
    assert caught.value.message_id == "M1"
    assert visible(tmp_path) == []
    mesh, server = scripted(Step(200, MEX), *[chunk(k) for k in range(arrived + 1, 5)])
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == DATA
    assert [seen.method for seen in server.seen] == ["HEAD"] + ["GET"] * (4 - arrived)


def test_bytes_after_the_record_are_not_believed(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(chunk(1), broken(2), max_attempts=1)
    with pytest.raises(IntegrityError):
        mesh.receive_file("M1", tmp_path)
    with (tmp_path / ".M1.part").open("ab") as part:
        part.write(b"written when the power went")
    mesh, _ = scripted(Step(200, MEX), chunk(2), chunk(3), chunk(4))
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == DATA


@pytest.mark.parametrize(
    "steps",
    [
        [chunk(1, 2), Step(404)],
        [chunk(1, 2), chunk(2, 3)],
        [chunk(1, 2), chunk(1, 2)],
        [Step(200, {**MEX, "Mex-MessageID": "M2"}, DATA)],
        [broken(1)],
    ],
    ids=["missing", "another total", "repeated", "another message", "broken"],
)
def test_what_is_not_whole_gets_no_name(scripted: Scripted, tmp_path: Path, steps: list[Step]) -> None:
    mesh, _ = scripted(*steps, max_attempts=2)
    with pytest.raises(IntegrityError):
        mesh.receive_file("M1", tmp_path)
    assert visible(tmp_path) == []


@pytest.mark.parametrize("form", ["MD5 {md5}", "sha-1:{sha1}", "sha256 {sha256}"])
def test_a_checksum_with_its_algorithm_is_enforced(scripted: Scripted, tmp_path: Path, form: str) -> None:
    mesh, _ = scripted(chunk(1, 1, DATA, Mex_Content_Checksum=form.format(**SUMS)))
    assert mesh.receive_file("M1", tmp_path).verified is True
    mesh, _ = scripted(chunk(1, 1, DATA[:-1] + b"?", Mex_Content_Checksum=form.format(**SUMS)))
    with pytest.raises(IntegrityError, match="checksum"):
        mesh.receive_file("M1", tmp_path / "other")
    assert visible(tmp_path / "other") == []
    received = mesh.receive_file("M1", tmp_path / "other", verify_checksum=False)
    assert received.verified is None


@pytest.mark.parametrize("form", [SUMS["md5"], SUMS["sha1"], SUMS["sha256"].upper()])
def test_a_bare_digest_is_a_hint_a9(
    scripted: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    """A9: it may be an S3 ETag, or the checksum of the content before it was encrypted."""
    mesh, _ = scripted(chunk(1, 1, DATA, Mex_Content_Checksum=form))
    assert mesh.receive_file("M1", tmp_path).verified is True
    mesh, _ = scripted(chunk(1, 1, DATA[:-1] + b"?", Mex_Content_Checksum=form))
    received = mesh.receive_file("M1", tmp_path / "other")
    assert (received.verified, received.path.read_bytes()) == (False, DATA[:-1] + b"?")
    assert "does not have the sender's checksum" in caplog.text
    with mesh.retrieve_message("M1", verify_checksum=True) as message:
        assert message.read() == DATA[:-1] + b"?"
        assert message.verified is False
    strict, _ = scripted(chunk(1, 1, DATA[:-1] + b"?", Mex_Content_Checksum=form), strict_checksums=True)
    with pytest.raises(IntegrityError, match="checksum"):
        strict.receive_file("M1", tmp_path / "strict")
    assert visible(tmp_path / "strict") == []


def test_after_a_wrong_checksum_nothing_of_it_is_built_upon(scripted: Scripted, tmp_path: Path) -> None:
    wrong = [chunk(1, Mex_Content_Checksum=f"md5 {SUMS['md5']}"), chunk(2, body=bytes(1000)), chunk(3), chunk(4)]
    right = [chunk(1, Mex_Content_Checksum=f"md5 {SUMS['md5']}"), chunk(2), chunk(3), chunk(4)]
    mesh, _ = scripted(*wrong, *right)
    with pytest.raises(IntegrityError, match="checksum"):
        mesh.receive_file("M1", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert mesh.receive_file("M1", tmp_path).verified is True


def test_a_checksum_of_unknown_form_is_passed_on(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(chunk(1, 1, DATA, Mex_Content_Checksum="crc32 12345678"))
    received = mesh.receive_file("M1", tmp_path)
    assert (received.verified, received.metadata.checksum) == (None, "crc32 12345678")


@pytest.mark.parametrize(
    ("given", "name"),
    [("../../evil.sh", "evil.sh"), (".hidden", "hidden"), ("nul", "_nul"), ("/etc/passwd", "passwd"), ("", "M1.dat")],
)
def test_a_name_from_a_message_is_never_a_path(scripted: Scripted, tmp_path: Path, given: str, name: str) -> None:
    mesh, _ = scripted(chunk(1, 1, DATA, Mex_FileName=given))
    folder = tmp_path / "a" / "b"
    assert mesh.receive_file("M1", folder).path == folder / name
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / name]


def test_nothing_is_ever_replaced(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_bytes(b"mine")
    mesh, _ = scripted(chunk(1, 1, DATA, Mex_FileName="results.csv"))
    assert [mesh.receive_file("M1", tmp_path).path.name for _ in range(3)] == [
        "results.M1.csv",
        "results.M1.2.csv",
        "results.M1.3.csv",
    ]
    assert (tmp_path / "results.csv").read_bytes() == b"mine"


@pytest.mark.parametrize("moment", ["linked", "named", "moved on"])
def test_a_file_that_had_its_name_when_the_process_ended_is_not_made_twice(
    scripted: Scripted, tmp_path: Path, moment: str
) -> None:
    (tmp_path / "results.csv").write_bytes(DATA)
    if moment == "linked":  # the temporary name is still there as well
        os.link(tmp_path / "results.csv", tmp_path / ".M1.part")
    if moment == "moved on":  # by whoever waits for such files
        (tmp_path / "results.csv").rename(tmp_path / "taken.csv")
    record = {"version": 1, "message_id": "M1", "length": len(DATA), "name": "results.csv"}
    (tmp_path / ".M1.json").write_text(json.dumps(record))
    # Also if the first thing that is asked then fails.
    mesh, server = scripted(Step(403), Step(200, MEX))
    with pytest.raises(MeshError):
        mesh.receive_file("M1", tmp_path)
    received = mesh.receive_file("M1", tmp_path)
    assert (received.path.name, received.bytes) == ("results.csv", len(DATA))
    assert {seen.method for seen in server.seen} == {"HEAD"}
    assert visible(tmp_path) == ["taken.csv" if moment == "moved on" else "results.csv"]
    assert (tmp_path / visible(tmp_path)[0]).read_bytes() == DATA
    assert not list(tmp_path.glob(".M1*"))


def test_a_part_that_somebody_linked_is_not_taken_for_a_named_file(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / ".M1.part").write_bytes(DATA)
    os.link(tmp_path / ".M1.part", tmp_path / ".backup")
    record = {"version": 1, "message_id": "M1", "length": len(DATA), "name": "results.csv"}
    (tmp_path / ".M1.json").write_text(json.dumps(record))
    mesh, _ = scripted(Step(200, MEX))
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == DATA
    assert visible(tmp_path) == ["results.csv"]


@pytest.mark.parametrize("content", [b"", DATA[:100]])
def test_a_part_of_another_length_gets_no_name(scripted: Scripted, tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".M1.part").write_bytes(content)
    record = {"version": 1, "message_id": "M1", "length": len(DATA), "name": "results.csv"}
    (tmp_path / ".M1.json").write_text(json.dumps(record))
    mesh, _ = scripted(chunk(1, 1, DATA))
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == DATA


def test_a_named_file_is_never_cut_because_its_record_is_gone(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_bytes(b"delivered")
    os.link(tmp_path / "results.csv", tmp_path / ".M1.part")
    mesh, _ = scripted(chunk(1, 1, DATA))
    mesh.receive_file("M1", tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == b"delivered"


def test_a_complete_file_that_had_no_name_yet_gets_it(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / ".M1.part").write_bytes(DATA)
    record = {"version": 1, "message_id": "M1", "length": len(DATA), "name": "results.csv"}
    (tmp_path / ".M1.json").write_text(json.dumps(record))
    mesh, server = scripted(Step(200, MEX))
    assert mesh.receive_file("M1", tmp_path).path.read_bytes() == DATA
    assert [seen.method for seen in server.seen] == ["HEAD"]
    assert visible(tmp_path) == ["results.csv"]


def test_two_at_once_into_one_folder_are_refused(scripted: Scripted, tmp_path: Path) -> None:
    lock = FileLock(tmp_path / ".M1.json.lock")
    assert lock.acquire()
    mesh, server = scripted(chunk(1, 1, DATA))
    with pytest.raises(StorageError, match="another process"):
        mesh.receive_file("M1", tmp_path)
    lock.release()
    assert server.seen == []
    mesh.receive_file("M1", tmp_path)


@pytest.mark.parametrize("message_id", ["..", "a/b", "../../x"])
def test_a_message_id_is_never_a_path(scripted: Scripted, tmp_path: Path, message_id: str) -> None:
    mesh, server = scripted(chunk(1, 1, DATA))
    with pytest.raises(InvalidArgument, match="message_id"):
        mesh.receive_file(message_id, tmp_path)
    assert server.seen == []
    assert list(tmp_path.iterdir()) == []


def test_a_report_becomes_a_file_of_what_it_says(mesh_sandbox: Sandbox, connect: Any, tmp_path: Path) -> None:
    """R4: not an empty file, which a loop would acknowledge."""
    mesh = connect(mesh_sandbox.settings("X26ABC1"))
    report_id = mesh_sandbox.deliver_report("X26ABC1", linked_message_id="M0")
    received = mesh.receive_file(report_id, tmp_path)
    assert isinstance(received.metadata, Report)
    assert received.path.name == f"report-{report_id}.json"
    assert json.loads(received.path.read_bytes())["linked_message_id"] == "M0"
    assert visible(tmp_path) == [received.path.name]


def test_a_message_that_is_not_there_is_not_found(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(Step(404))
    with pytest.raises(NotFound):
        mesh.receive_file("M1", tmp_path)
    assert visible(tmp_path) == []


def test_progress_says_how_much_has_arrived(scripted: Scripted, tmp_path: Path) -> None:
    told: list[ReceiveProgress] = []
    packed = chunk(2, 2, gzip.compress(DATA[2000:]), Content_Encoding="gzip")
    mesh, _ = scripted(chunk(1, 2, DATA[:2000]), packed)
    mesh.receive_file("M1", tmp_path, progress=told.append)
    assert [(one.message_id, one.bytes_done) for one in told] == [("M1", 2000), ("M1", 4000)]
    assert [(one.share, one.bytes_total) for one in told] == [(0.5, 4000), (1.0, 4000)]
    mesh, _ = scripted(chunk(1, 1, DATA))
    mesh.receive_file("M1", tmp_path, progress=told.append)
    assert (told[-1].bytes_done, told[-1].bytes_total) == (4000, 4000)
