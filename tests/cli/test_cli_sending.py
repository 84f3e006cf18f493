"""`nel-mesh send` and `nel-mesh track`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from nel_command import Nel, wait_until

from nel_mesh.sandbox import Sandbox
from stores import S3, s3_environment

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
    assert stopped.err.startswith("Cancelled. MESH has 200.0 kB of 307.2 kB. Run the same command again to resume.")
    assert not mesh_sandbox.delivered("X26ABC2")

    resumed = alice(*command, env=SMALL_CHUNKS)
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert resumed.code == 0
    assert "resuming an interrupted send (200.0 kB of 307.2 kB)" in resumed.err
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
    assert "Run the same command again: it asks MESH whether the message has arrived" in done.error["message"]


def test_a_send_whose_outcome_is_unknown_is_looked_up_by_its_local_id(alice: Nel, mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.add_fault("send_message:1:lose-response")
    mesh_sandbox.add_fault("track_by_local_id:*:respond=400,body=no")
    lost = alice("send", "-", *TO_BOB, "--json", stdin=b"from a pipe")
    assert (lost.code, "track --local-id" in lost.error["message"]) == (10, True)
    mesh_sandbox.clear_faults()
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert alice("track", "--local-id", lost.error["local_id"], "--json").record["message_id"] == message.message_id
    assert alice("track", "--local-id", "another").code == 7


def test_r1_what_was_sent_is_not_sent_again_before_the_command_has_succeeded(
    alice: Nel, letter: Path, big: Path, mesh_sandbox: Sandbox
) -> None:
    """R1: `send a b`, b fails, the same command again, as advised."""
    mesh_sandbox.add_fault("send_message:2:respond=503")
    command = ("send", letter, big, letter, *TO_BOB, "--json")
    once = {"MESH_MAX_ATTEMPTS": "1"}
    failed = alice(*command, env=once)
    assert (failed.code, failed.error["kind"]) == (9, "busy")
    first = failed.record["message_id"]
    assert f"Not started: {letter}." in failed.error["message"]

    again = alice(*command)
    assert (again.code, [one["resumed"] for one in again.records]) == (0, [True, False, False])
    assert again.records[0]["message_id"] == first
    assert len(mesh_sandbox.delivered("X26ABC2")) == 3

    anew = alice(*command)
    assert (anew.code, [one["resumed"] for one in anew.records]) == (0, [False, False, False])
    assert len(mesh_sandbox.delivered("X26ABC2")) == 6


def test_r1_new_content_of_a_file_that_was_sent_is_a_new_message(
    alice: Nel, letter: Path, big: Path, mesh_sandbox: Sandbox
) -> None:
    mesh_sandbox.add_fault("send_message:2:respond=503")
    command = ("send", letter, big, *TO_BOB)
    assert alice(*command, env={"MESH_MAX_ATTEMPTS": "1"}).code == 9
    letter.write_bytes(b"Dear Bob, a day later")
    assert alice(*command).code == 0
    contents = [mesh_sandbox.content(one.message_id) for one in mesh_sandbox.delivered("X26ABC2")]
    assert contents == [b"Dear Bob", b"Dear Bob, a day later", big.read_bytes()]


def test_r2_a_receipt_that_could_not_be_printed_is_printed_by_the_next_run(
    alice: Nel, letter: Path, mesh_sandbox: Sandbox
) -> None:
    """R2: stdout is full when the message has been sent."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        failed = alice("send", letter, *TO_BOB, stdout=full)
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert failed.code == 4
    assert f"{letter} was sent, as {message.message_id}. Run the same command again" in failed.one_paragraph()
    again = alice("send", letter, *TO_BOB)
    assert "already sent by an earlier run" in again.err
    assert message.message_id in again.out
    assert len(mesh_sandbox.delivered("X26ABC2")) == 1


_KILL_BEFORE = {
    "the receipt": """
class Stream:
    def __init__(self, stream): self.stream = stream
    def __getattr__(self, name): return getattr(self.stream, name)
    def write(self, text): kill()
sys.stdout = Stream(sys.stdout)
""",
    "the record's removal": """
def hook(event, arguments):
    if event == "os.remove" and str(arguments[0]).endswith(".json"):
        kill()
sys.addaudithook(hook)
""",
}


@pytest.mark.parametrize("moment", _KILL_BEFORE)
def test_r2_a_kill_around_the_receipt_sends_nothing_twice(
    alice: Nel, letter: Path, mesh_sandbox: Sandbox, moment: str, tmp_path: Path
) -> None:
    """R2: killed just before the receipt is printed, or between that and the removal of the record."""
    kill = "import os, signal, sys\ndef kill(): os.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "sitecustomize.py").write_text(kill + _KILL_BEFORE[moment])
    killed = alice("send", letter, *TO_BOB, env={"PYTHONPATH": str(tmp_path)})
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert (killed.code, message.message_id in killed.out) == (-9, moment != "the receipt")
    assert message.message_id in alice("send", letter, *TO_BOB).out
    assert len(mesh_sandbox.delivered("X26ABC2")) == 1


def test_a_receipt_of_stdin_that_could_not_be_printed_names_the_message(alice: Nel, mesh_sandbox: Sandbox) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        failed = alice("send", "-", *TO_BOB, stdin=b"from a pipe", stdout=full)
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert failed.err.rstrip().endswith(f"- was sent, as {message.message_id}.")


def test_a11_a_named_pipe_is_sent(alice: Nel, tmp_path: Path, mesh_sandbox: Sandbox) -> None:
    """A11: the check of the arguments does not open it, which would end its writer."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with alice.start("send", pipe, *TO_BOB, "-q") as process:
        pipe.write_bytes(b"through a named pipe")
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert mesh_sandbox.content(out.decode().strip()) == b"through a named pipe"


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


@pytest.mark.parametrize("folder", ["letter.txt", "/proc", "/dev/full", "read-only", "closed"])
def test_a12_without_a_place_for_the_record_it_is_sent_all_the_same(
    alice: Nel, letter: Path, mesh_sandbox: Sandbox, folder: str
) -> None:
    """A12: the state folder is a file, cannot be made, is read-only, or is another user's."""
    (alice.home / "read-only").mkdir(mode=0o500)
    (alice.home / "closed").mkdir(mode=0o000)
    done = alice("send", letter, *TO_BOB, env={"XDG_STATE_HOME": folder}, privileged=False)
    assert (done.code, len(mesh_sandbox.delivered("X26ABC2"))) == (0, 1), done.err
    assert "--transfers" in done.err


def test_a12_a_user_without_name_and_home(alice: Nel, letter: Path, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    """A12: a uid that is not in passwd, without HOME, as in a container."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd\ndef getpwuid(uid):\n    raise KeyError(uid)\npwd.getpwuid = getpwuid\n"
    )
    done = alice("send", letter, *TO_BOB, env={"PYTHONPATH": str(tmp_path), "HOME": None, "XDG_STATE_HOME": None})
    assert (done.code, len(mesh_sandbox.delivered("X26ABC2"))) == (0, 1), done.err
    assert "no home folder" in done.err


def test_a17_sigterm_ends_a_wait(alice: Nel, letter: Path, mesh_sandbox: Sandbox) -> None:
    """A17: as Ctrl-C does."""
    sent = alice("send", letter, *TO_BOB, "-q").out.strip()
    with alice.start("track", sent, "--wait") as process:
        wait_until(lambda: mesh_sandbox.requests("track_message"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, b"")
    assert err.endswith(b"Cancelled.\n")


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


def test_send_out_of_a_store(alice: Nel, mesh_sandbox: Sandbox, s3: S3) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key="out/results.csv", Body=b"one")
    send = ("send", f"s3://{s3.bucket}/out/results.csv", "--to", "X26ABC2", "--workflow-id", "WF")
    done = alice(*send, env=s3_environment(s3.url))
    assert done.code == 0, done.err
    (message,) = mesh_sandbox.delivered("X26ABC2")
    assert (message.description.file_name, mesh_sandbox.content(message.message_id)) == ("results.csv", b"one")
    s3.client.delete_object(Bucket=s3.bucket, Key="out/results.csv")
    gone = alice(*send, env=s3_environment(s3.url))
    assert (gone.code, "there is no such object" in gone.one_paragraph()) == (4, True)
