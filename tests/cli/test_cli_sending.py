"""`nel-mesh send` and `nel-mesh track`."""

from __future__ import annotations

from pathlib import Path

import pytest
from nel_command import Nel

from nel_mesh.sandbox import Sandbox

pytest_plugins = ["cli_fixtures"]

SMALL_CHUNKS = {"MESH_MAX_CHUNK_SIZE_IN_MEGABYTES": "0.1"}
TO_BOB = ("--to", "X26ABC2", "--workflow-id", "TEST")


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear Bob")
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 1200)
    return path


def test_a_file_is_sent(alice: Nel, letter: Path, mesh_sandbox: Sandbox) -> None:
    done = alice("send", letter, *TO_BOB, "--subject", "Results", "--compress")
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{letter}: sent to X26ABC2 as {message.message_id} (8 bytes, 28 bytes on the wire).\n"
    assert mesh_sandbox.content(message.message_id) == b"Dear Bob"
    assert (message.description.file_name, message.description.subject) == ("letter.txt", "Results")


def test_several_files_for_a_script(alice: Nel, letter: Path, big: Path, mesh_sandbox: Sandbox) -> None:
    done = alice("send", letter, big, *TO_BOB, "--json")
    first, second = done.records
    assert (done.code, done.err) == (0, "")
    assert set(first) == {
        "file",
        "message_id",
        "local_id",
        "to",
        "workflow_id",
        "bytes",
        "bytes_on_wire",
        "chunks",
        "resumed",
    }
    assert (first["bytes"], second["bytes"]) == (8, big.stat().st_size)
    assert [one.message_id for one in mesh_sandbox.delivered("X26ABC2")] == [first["message_id"], second["message_id"]]


def test_stdin_is_sent_and_quiet_gives_the_id_alone(alice: Nel, mesh_sandbox: Sandbox) -> None:
    done = alice("send", "-", *TO_BOB, "--file-name", "note.txt", "--quiet", stdin=b"from a pipe")
    assert (done.code, done.err) == (0, "")
    assert mesh_sandbox.content(done.out.strip()) == b"from a pipe"


def test_an_interrupted_send_goes_on(alice: Nel, big: Path, mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.add_fault("send_chunk:2:delay=30")
    command = ("send", big, *TO_BOB)
    stopped = alice.interrupted_when(
        lambda: len(mesh_sandbox.requests("send_chunk")) > 1 or len(mesh_sandbox.pending_faults) == 0,
        *command,
        env=SMALL_CHUNKS,
    )
    assert stopped.code == 130
    assert "run the same command again" in stopped.one_paragraph()
    assert "(200.0 kB of 307.2 kB)" in stopped.err
    assert not mesh_sandbox.delivered("X26ABC2")

    resumed = alice(*command, env=SMALL_CHUNKS)
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert resumed.code == 0
    assert "going on with a send that was interrupted (200.0 kB of 307.2 kB)" in resumed.err
    assert mesh_sandbox.content(message.message_id) == big.read_bytes()
    assert len(mesh_sandbox.requests("send_message")) == 1
    assert not list((alice.home / "state/nel-mesh/transfers").iterdir())

    again = alice(*command, "--json", env=SMALL_CHUNKS)
    assert again.record["resumed"] is False
    assert len(mesh_sandbox.delivered("X26ABC2")) == 2


def test_a_failed_send_goes_on_or_begins_anew(alice: Nel, big: Path, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    mesh_sandbox.add_fault("send_chunk:1:respond=400,body=no")
    command = ("send", big, *TO_BOB, "--transfers", tmp_path / "transfers")
    failed = alice(*command, env=SMALL_CHUNKS)
    assert failed.code == 8
    assert "--restart" in failed.one_paragraph()
    big.write_bytes(b"another file now" * 10000)
    assert alice(*command, env=SMALL_CHUNKS).code == 4
    anew = alice(*command, "--restart", "--json", env=SMALL_CHUNKS)
    assert anew.record["resumed"] is False
    assert mesh_sandbox.content(anew.record["message_id"]) == big.read_bytes()


def test_a_send_whose_outcome_is_unknown(alice: Nel, letter: Path, mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.add_fault("send_message:1:lose-response")
    mesh_sandbox.add_fault("track_by_local_id:*:respond=400,body=no")
    done = alice("send", letter, *TO_BOB, "--json")
    assert (done.code, done.out) == (10, "")
    assert done.error["kind"] == "outcome_unknown"
    assert done.error["outcome"] == "unknown"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("send", "missing.csv", *TO_BOB), 4, "missing.csv: No such file or directory. Check the path."),
        (("send", ".", *TO_BOB), 4, ".: Is a directory. It is a folder; name a file."),
        (("send", "letter.txt", "--to", "NOBODY", "--workflow-id", "T"), 8, "MESH says: SEND 12"),
        (("send", "letter.txt", "--to", "X26ABC2"), 2, "--workflow-id"),
        (("send", "letter.txt", "--to", "X26ABC2", "--workflow-id", "é"), 2, "ASCII"),
        (("send", "-", "letter.txt", *TO_BOB), 2, "one file at a time"),
        (("send", "letter.txt", *TO_BOB, "--transfers", "letter.txt/x"), 4, "Not a directory"),
        (("track", "20200101000000000000_000000"), 7, "MESH says"),
    ],
)
def test_what_cannot_be_sent_or_tracked(
    alice: Nel, letter: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = alice(*arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.one_paragraph()
    assert len(done.err.splitlines()) == 1


def test_without_a_place_for_the_record_it_is_sent_all_the_same(alice: Nel, letter: Path) -> None:
    done = alice("send", letter, *TO_BOB, env={"XDG_STATE_HOME": str(letter)})
    assert done.code == 0
    assert "--transfers" in done.err


def test_track_says_what_has_become_of_it(alice: Nel, bob: Nel, letter: Path) -> None:
    sent = alice("send", letter, *TO_BOB, "-q").out.strip()
    assert alice("track", sent).out.startswith(f"{sent}: accepted since 20")
    late = alice("track", sent, "--wait", "--timeout", "0", "--json")
    assert (late.code, late.record["status"]) == (13, "accepted")
    bob("ack", sent)
    done = alice("track", sent, "--wait", "-q")
    assert (done.code, done.out) == (0, "acknowledged\n")


def test_track_of_a_message_that_failed(alice: Nel, letter: Path, mesh_sandbox: Sandbox) -> None:
    from datetime import timedelta

    sent = alice("send", letter, *TO_BOB, "-q").out.strip()
    mesh_sandbox.advance(timedelta(days=6))
    done = alice("track", sent, "--wait")
    assert done.code == 12
    assert "undeliverable" in done.out
    assert "14" in done.out
