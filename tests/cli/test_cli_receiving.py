"""`nel-mesh inbox`, `show`, `receive`, `ack` and `reports`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from nel_command import Nel, wait_until

from nel_mesh.sandbox import Sandbox
from stores import S3, s3_environment

pytest_plugins = ["cli_fixtures"]


def test_the_inbox_for_people_and_scripts(bob: Nel, mesh_sandbox: Sandbox) -> None:
    assert bob("inbox").err == "The inbox is empty.\n"
    first = mesh_sandbox.deliver_message("X26ABC2", b"1", workflow_id="PATH", file_name="a.csv", sender="X26ABC1")
    second = mesh_sandbox.deliver_message("X26ABC2", b"2", workflow_id="OTHER")
    assert bob("inbox", "-q").out.split() == [first, second]
    assert bob("inbox", "--json", "--workflow-id", "PATH*").records == [{"message_id": first}]
    heading, row = bob("inbox", "--details", "--limit", "1").out.splitlines()
    assert heading.split() == ["Message", "From", "Workflow", "File", "name", "Chunks", "Time"]
    assert row.split()[:5] == [first, "X26ABC1", "PATH", "a.csv", "1"]
    assert row.split()[-1] in ("GMT", "BST")


def test_show_says_what_a_message_is(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"1", workflow_id="PATH", subject="\x1b]0;evil\x07")
    shown = bob("show", message_id)
    assert f"Message       {message_id}\n" in shown.out
    assert "\x1b" not in shown.out
    record = bob("show", message_id, "--json").record
    assert record["workflow_id"] == "PATH"
    assert record["status_timestamp"].endswith("+00:00")
    assert bob("show", "20200101000000000000_000000").code == 7


def test_receive_empties_the_inbox(bob: Nel, mesh_sandbox: Sandbox) -> None:
    checksum = "sha256:" + hashlib.sha256(b"one").hexdigest()
    first = mesh_sandbox.deliver_message("X26ABC2", b"one", file_name="one.txt", checksum=checksum)
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id=first)
    done = bob("receive", "--into", "inbox", "--json")
    stored, told = done.records
    assert (done.code, done.err) == (0, "")
    assert (bob.home / stored["path"]).read_bytes() == b"one"
    assert (stored["message_id"], stored["bytes"], stored["acknowledged"]) == (first, 3, True)
    assert stored["verified"] is True
    assert (told["message_id"], told["message_type"], told["linked_message_id"]) == (report, "REPORT", first)
    again = bob("receive", "--into", "inbox")
    assert (again.code, again.out, again.err) == (0, "", "Nothing new in the inbox.\n")


@pytest.mark.parametrize(("number", "concurrency"), [(signal.SIGTERM, 1), (signal.SIGHUP, 1), (signal.SIGTERM, 2)])
def test_a17_a_signal_ends_a_receive(bob: Nel, mesh_sandbox: Sandbox, number: signal.Signals, concurrency: int) -> None:
    """A17: as Ctrl-C does."""
    mesh_sandbox.deliver_message("X26ABC2", b"content", file_name="a.txt")
    mesh_sandbox.add_fault("retrieve_message:1:delay=30")
    with bob.start("receive", "--into", "inbox", "--concurrency", str(concurrency)) as process:
        wait_until(lambda: not mesh_sandbox.pending_faults)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err.startswith(b"Cancelled. What has arrived is kept")) == (128 + number, True)
    assert bob("receive", "--into", "inbox", "-q").out == "inbox/a.txt\n"


def test_one_bad_message_stops_no_other(bob: Nel, mesh_sandbox: Sandbox) -> None:
    bad = mesh_sandbox.deliver_message("X26ABC2", b"is no gzip", content_encoding="gzip")
    good = mesh_sandbox.deliver_message("X26ABC2", b"good", file_name="good.txt")
    done = bob("receive", "--into", "inbox", "--json", env={"MESH_MAX_ATTEMPTS": "1"})
    assert done.code == 11
    assert done.record["message_id"] == good
    assert (done.error["message_id"], done.error["kind"]) == (bad, "integrity_error")
    assert bob("inbox", "-q").out.split() == [bad]


def test_receive_by_id_acknowledges_only_if_asked(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content", file_name="a.txt")
    kept = bob("receive", message_id, "--into", "inbox")
    assert (kept.code, "Still in the inbox" in kept.err) == (0, True)
    assert kept.out.startswith("inbox/a.txt: SANDBOX_TEST from X26ABC1, 7 bytes")
    again = bob("receive", message_id, "--into", "inbox")
    assert (again.code, again.out) == (0, "inbox/a.txt: received before.\n")
    taken = bob("receive", message_id, "--into", "inbox", "--ack", "-q")
    assert (taken.code, taken.err) == (0, "")
    assert taken.out == "inbox/a.txt\n"
    assert bob("inbox", "-q").out == ""


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("by_id", [True, False])
def test_a_lost_acknowledgement_leaves_one_file(bob: Nel, mesh_sandbox: Sandbox, by_id: bool, number: int) -> None:
    """Issue 10: lost in one form of the command, and made up for in either; the message was received."""
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content", file_name="a.txt")
    mesh_sandbox.add_fault(
        "acknowledge_message:1:cut-before-body" if number == 1 else "acknowledge_message:1:respond=503"
    )
    forms = [("receive", message_id, "--into", "F", "--ack"), ("receive", "--into", "F")]
    first, second = forms if by_id else reversed(forms)
    lost = bob(*first, env={"MESH_MAX_ATTEMPTS": "1"})
    assert (lost.code, lost.out.split(":")[0]) == (5 if number == 1 else 9, "F/a.txt")
    assert f"{message_id}: It was received, as F/a.txt; only its acknowledgement is open" in lost.one_paragraph()
    assert "was not received" not in lost.err
    done = bob(*second)
    assert (done.code, done.out) == (0, "F/a.txt: received before, and acknowledged now.\n")
    assert [path.name for path in (bob.home / "F").iterdir() if not path.name.startswith(".")] == ["a.txt"]
    assert bob("inbox", "-q").out == ""


def test_a_lost_acknowledgement_for_scripts(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content", file_name="a.txt")
    mesh_sandbox.add_fault("acknowledge_message:1:cut-before-body")
    lost = bob("receive", "--into", "F", "--json", env={"MESH_MAX_ATTEMPTS": "1"})
    assert (lost.code, lost.record["acknowledged"], lost.record["already_received"]) == (5, False, False)
    assert (lost.error["kind"], lost.error["operation"]) == ("connection_lost", "acknowledge_message")
    assert (lost.error["message_id"], lost.error["received"], lost.error["path"]) == (message_id, True, "F/a.txt")
    again = bob("receive", "--into", "F", "--json").record
    assert (again["path"], again["acknowledged"], again["already_received"]) == ("F/a.txt", True, True)
    assert (again["sender"], again["bytes"]) == ("X26ABC1", 7)


def test_r13_a_kill_at_an_acknowledgement_and_the_same_command_again(bob: Nel, mesh_sandbox: Sandbox) -> None:
    """R13: `receive ID ID2 --ack` killed at the acknowledgement of either; the same again."""
    ids = [mesh_sandbox.deliver_message("X26ABC2", b"content", file_name=f"{number}.txt") for number in range(3)]
    command = ("receive", *ids, "--into", "F", "--ack")
    for number in (1, 2):
        mesh_sandbox.add_fault(f"acknowledge_message:{number}:delay=30")
        with bob.start(*command) as process:
            wait_until(lambda: not mesh_sandbox.pending_faults)
            process.kill()
    assert bob(*command).code == 0
    names = [path.name for path in (bob.home / "F").iterdir() if not path.name.startswith(".")]
    assert sorted(names) == ["0.txt", "1.txt", "2.txt"]
    assert bob("inbox", "-q").out == ""


@pytest.mark.parametrize("by_id", [True, False])
def test_r3_a_report_is_stored_before_it_is_acknowledged(bob: Nel, mesh_sandbox: Sandbox, by_id: bool) -> None:
    """R3: stdout is full when it is told."""
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="20200101000000000000_000000")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        arguments = ("receive", report, "--ack") if by_id else ("receive",)
        assert bob(*arguments, "--into", "F", stdout=full).code == 4
    assert bob("inbox", "-q").out == ""
    stored = json.loads((bob.home / "F" / f"report-{report}.json").read_text())
    assert stored["linked_message_id"] == "20200101000000000000_000000"


def test_a_message_that_another_process_took_is_no_failure(bob: Nel, mesh_sandbox: Sandbox) -> None:
    """Issue 10: taken between listing and fetching; but a message that was asked for by its id must be there."""
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content")
    mesh_sandbox.add_fault("retrieve_message:1:respond=410")
    taken = bob("receive", "--into", "F")
    assert (taken.code, taken.out) == (0, "")
    assert f"Taken by another process meanwhile, or expired: {message_id}." in taken.err
    mesh_sandbox.add_fault("retrieve_message:1:respond=410")
    gone = bob("receive", message_id, "--into", "F", "--json")
    assert (gone.code, gone.error["kind"], gone.error["message_id"]) == (7, "not_found", message_id)


def test_r9_received_lists_what_was_received(bob: Nel, nobody: Nel, mesh_sandbox: Sandbox) -> None:
    """R9: also what a run that was killed could not tell; it needs no settings."""
    assert nobody("received", "--into", "F").err == "Nothing was received there.\n"
    assert not (bob.home / "F").exists()
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content", file_name="a.txt", workflow_id="PATH")
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id=message_id)
    assert bob("receive", "--into", "F").code == 0
    heading, first, second = nobody("received", "--into", "F").out.splitlines()
    assert heading.split() == ["Message", "From", "Workflow", "Bytes", "Received", "File"]
    assert first.split()[:4] == [message_id, "X26ABC1", "PATH", "7"]
    assert (first.split()[-1], second.split()[-1]) == ("F/a.txt", f"F/report-{report}.json")
    assert [one["message_type"] for one in nobody("received", "--into", "F", "--json").records] == ["DATA", "REPORT"]


def test_a_journal_of_its_own(bob: Nel, mesh_sandbox: Sandbox) -> None:
    """A10: for a folder on a share."""
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content")
    assert bob("receive", "--into", "F", "--journal", "local/journal").code == 0
    assert not (bob.home / "F/.nel-mesh-journal").exists()
    assert bob("received", "--journal", "local/journal", "-q").out.split() == [message_id]


def test_receive_to_stdout(bob: Nel, mesh_sandbox: Sandbox) -> None:
    content = os.urandom(300_000)
    message_id = mesh_sandbox.deliver_message("X26ABC2", [content[:200_000], content[200_000:]])
    done = bob("receive", message_id, "--into", "-", "--ack")
    assert (done.code, done.raw) == (0, content)
    note, told = done.err.splitlines()
    assert note == "stdout is not a file: whether its reader has stored the content is not known."
    assert told == f"{message_id}: 300.0 kB written to stdout, and acknowledged."


def test_r22_stdout_is_durable_before_the_message_is_acknowledged(
    bob: Nel, mesh_sandbox: Sandbox, tmp_path: Path
) -> None:
    """R22: `receive ID --into - --ack > file`."""
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content")
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, os, stat\n"
        "def fsync(descriptor):\n"
        "    if descriptor == 1:\n"
        "        raise OSError(errno.EIO, os.strerror(errno.EIO))\n"
        "os.fsync = fsync\n"
    )
    broken = {"PYTHONPATH": str(tmp_path)}
    with (tmp_path / "file").open("wb") as file:
        failed = bob("receive", message_id, "--into", "-", "--ack", stdout=file, env=broken)
    assert (failed.code, "Input/output error" in failed.err) == (4, True)
    assert bob("inbox", "-q").out.split() == [message_id]
    with (tmp_path / "file").open("wb") as file:
        done = bob("receive", message_id, "--into", "-", "--ack", stdout=file)
    assert (done.code, done.err) == (0, f"{message_id}: 7 bytes written to stdout, and acknowledged.\n")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_lost_acknowledgement_of_content_on_stdout(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content")
    mesh_sandbox.add_fault("acknowledge_message:*:cut-before-body")
    lost = bob("receive", message_id, "--into", "-", "--ack", env={"MESH_MAX_ATTEMPTS": "1"})
    assert (lost.code, lost.raw) == (5, b"content")
    assert "The acknowledgement may not have reached MESH." in lost.err
    assert "The content on stdout is complete." in lost.err


def test_r3_a_report_goes_to_stdout_before_it_is_acknowledged(bob: Nel, mesh_sandbox: Sandbox) -> None:
    """R3: it has no content, so its metadata is written."""
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="20200101000000000000_000000")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        assert bob("receive", report, "--into", "-", "--ack", stdout=full).code == 4
    done = bob("receive", report, "--into", "-", "--ack")
    assert (done.code, json.loads(done.out)["linked_message_id"]) == (0, "20200101000000000000_000000")
    assert bob("inbox", "-q").out == ""


def test_a_message_cut_on_its_way_to_stdout(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", [b"first", b"second"])
    mesh_sandbox.add_fault("retrieve_chunk:*:missing-chunk")
    done = bob("receive", message_id, "--into", "-", "--ack")
    assert (done.code, done.raw) == (11, b"first")
    assert "The content on stdout is incomplete" in done.one_paragraph()
    assert bob("inbox", "-q").out.split() == [message_id]


def test_a_wrong_checksum_on_its_way_to_stdout(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content", checksum="sha256:" + "0" * 64)
    done = bob("receive", message_id, "--into", "-", "--ack", "--json")
    assert (done.code, done.error["kind"]) == (11, "integrity_error")


def test_a_full_disk(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        content = bob("receive", message_id, "--into", "-", "--ack", stdout=full)
        listing = bob("inbox", stdout=full)
    assert (content.code, listing.code) == (4, 4)
    assert "No space left on device" in content.one_paragraph()
    assert "Standard output: No space left on device. Free some space" in listing.one_paragraph()
    assert bob("inbox", "-q").out.split() == [message_id]


def test_a_broken_pipe_is_quiet(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", os.urandom(2_000_000))
    for arguments in (("receive", message_id, "--into", "-"), ("inbox",)):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            done = bob(*arguments, stdout=pipe)
        assert (done.code, done.err) == (141, "")


def test_ctrl_c_while_receiving_and_then_again(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", [b"first", b"second"], file_name="a.txt")
    mesh_sandbox.add_fault("retrieve_chunk:1:delay=30")
    noted = bob.home / "inbox" / f".{message_id}.json"
    stopped = bob.interrupted_when(
        lambda: not mesh_sandbox.pending_faults and noted.exists(), "receive", "--into", "inbox"
    )
    assert stopped.code == 130
    assert stopped.err == (
        "Cancelled. What has arrived is kept: run the same command again to resume. "
        "`nel-mesh received --into inbox` lists what is complete.\n"
    )
    assert bob("receive", "--into", "inbox", "-q").out == "inbox/a.txt\n"
    assert (bob.home / "inbox/a.txt").read_bytes() == b"firstsecond"
    assert len([one for one in mesh_sandbox.requests("retrieve_message") if message_id in one.path]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("receive", "20200101000000000000_000000", "--into", "x"), 7, "There is no such message in the inbox"),
        (("receive", "20200101000000000000_000000", "--into", "file"), 4, "Not a directory"),
        (("receive", "--into", "/proc/x"), 4, "No such file"),
        (("receive", "--into", "-"), 2, "exactly one message id"),
        (("receive", "--into", "x", "--no-ack"), 2, "needs message ids"),
        (("receive", "a", "--into", "x", "--limit", "2"), 2, "without ids"),
        (("receive",), 2, "--into"),
        (("show",), 2, "ID..."),
        (("ack", "20200101000000000000_000000"), 7, "was not acknowledged"),
    ],
)
def test_what_cannot_be_received(bob: Nel, arguments: tuple[str, ...], code: int, words: str) -> None:
    (bob.home / "file").touch()
    done = bob(*arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.one_paragraph()


@pytest.mark.parametrize("by_id", [True, False])
def test_a_disk_that_takes_no_more(bob: Nel, mesh_sandbox: Sandbox, by_id: bool) -> None:
    """The system refuses to write on, as it does when the disk is full: no file, no acknowledgement, one sentence."""
    message_id = mesh_sandbox.deliver_message("X26ABC2", bytes(3_000_000), file_name="big.bin")
    arguments = ("receive", message_id, "--into", "in") if by_id else ("receive", "--into", "in")
    done = bob(*arguments, largest_file=1_000_000)
    assert done.code == 4, done.err
    assert "cannot be stored" in done.one_paragraph()
    assert not (bob.home / "in" / "big.bin").exists()
    assert bob("inbox", "-q").out.split() == [message_id]
    assert bob(*arguments).code == 0
    assert (bob.home / "in" / "big.bin").stat().st_size == 3_000_000


def test_a_folder_without_permission(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content")
    closed = bob.home / "closed"
    closed.mkdir(mode=0o500)
    done = bob("receive", message_id, "--into", closed, privileged=False)
    assert (done.code, f"{closed}" in done.err) == (4, True)
    assert "Fix its permissions" in done.one_paragraph()


def test_reports_can_be_acknowledged_by_a_pipe(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message = mesh_sandbox.deliver_message("X26ABC2", b"1")
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="20200101000000000000_000000")
    listed = bob("reports", "--json")
    assert [one["message_id"] for one in listed.records] == [report]
    assert listed.record["linked_message_id"] == "20200101000000000000_000000"
    kept = bob("receive", report, "--into", "inbox", "--json").record
    assert (kept["linked_message_id"], kept["acknowledged"]) == ("20200101000000000000_000000", False)
    done = bob("ack", "-", stdin=bob("reports", "--quiet").raw)
    assert (done.code, done.out) == (0, f"{report}: acknowledged.\n")
    assert bob("reports").err == "There are no reports.\n"
    assert bob("inbox", "-q").out.split() == [message]


def test_a29_ack_asks_people_first(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"1")
    """A29: the prompt says what happens."""
    other = mesh_sandbox.deliver_message("X26ABC2", b"2")
    no = bob.in_terminal("ack", message_id, other, answers={"[y/N]: ": "n\n"})
    assert no.code == 130
    assert no.out.startswith("MESH will delete these 2 messages. Continue? [y/N]: n")
    assert no.out.endswith("\nCancelled.\n")
    yes = bob.in_terminal("ack", message_id, answers={"[y/N]: ": "y\n"})
    assert (yes.code, f"{message_id}: acknowledged." in yes.out) == (0, True)


def test_one_that_cannot_be_acknowledged_does_not_stop_the_others(bob: Nel, mesh_sandbox: Sandbox) -> None:
    """The kind of R13: a command over several messages can be repeated after it stopped halfway."""
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"1")
    unknown = "20200101000000000000_000000"
    done = bob("ack", unknown, message_id)
    assert (done.code, done.out) == (7, f"{message_id}: acknowledged.\n")
    assert done.one_paragraph().startswith(f"Error: {unknown}: The message was not acknowledged.")
    assert bob("inbox", "-q").out == ""


def test_a_concurrent_reader_is_no_error(bob: Nel, mesh_sandbox: Sandbox) -> None:
    first = mesh_sandbox.deliver_message("X26ABC2", b"1")
    second = mesh_sandbox.deliver_message("X26ABC2", b"2")
    mesh_sandbox.add_fault("list_messages:1:delay=1")
    with bob.start("inbox", "--details", "--json") as process:
        wait_until(lambda: not mesh_sandbox.pending_faults)
        other = Nel(bob.home, bob.settings)
        assert other("ack", first).code == 0
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert second in out.decode()


def test_a_bug_in_the_middle_of_a_receive_is_named_as_one(bob: Nel, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from nel_mesh._sync.download import Downloader\n"
        "def broken(*arguments):\n"
        "    raise KeyError('patient name')\n"
        "Downloader.open_download = broken\n"
    )
    mesh_sandbox.deliver_message("X26ABC2", b"content")
    done = bob("receive", "--into", "inbox", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 1
    assert "This is a bug in nel-mesh" in done.err
    assert "KeyError at sitecustomize.py:3" in done.err
    assert "patient name" not in done.err


def test_receive_into_a_store(bob: Nel, mesh_sandbox: Sandbox, s3: S3) -> None:
    """The same command as for a folder; `received` lists what is there."""
    environment = s3_environment(s3.url)
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"one", file_name="one.txt", sender="X26ABC1")
    place = f"s3://{s3.bucket}/in/{{sender}}"
    url = f"s3://{s3.bucket}/in/X26ABC1/{message_id}"
    done = bob("receive", "--into", place, env=environment)
    assert (done.code, done.out.split(": ")[0]) == (0, url), done.err
    assert s3.content(f"in/X26ABC1/{message_id}") == b"one"
    listed = bob("received", "--into", place, "--json", env=environment)
    assert [(entry["message_id"], entry["location"]) for entry in listed.records] == [(message_id, url)]
    again = bob("receive", "--into", place, env=environment)
    assert (again.code, again.err) == (0, "Nothing new in the inbox.\n")


def test_a_store_that_cannot_be_used(bob: Nel, mesh_sandbox: Sandbox, s3: S3) -> None:
    """One sentence with the next step, and nothing is fetched."""
    mesh_sandbox.deliver_message("X26ABC2", b"one")
    for place, environment, code, text in (
        ("s3://no-such-bucket/in", {}, 4, "there is no such bucket"),
        (f"s3://{s3.bucket}", {"AWS_SECRET_ACCESS_KEY": "another"}, 4, "check the AWS credentials"),
        ("s3://key:secret@bucket", {}, 2, "a URL holds no credentials"),
        ("s3://bucket/{subject}", {}, 2, "in braces is one of"),
        ("gs://bucket", {}, 2, "known are"),
    ):
        done = bob("receive", "--into", place, env={**s3_environment(s3.url), **environment})
        assert done.code == code, done.err
        assert text in done.err
        assert "Traceback" not in done.err
    assert mesh_sandbox.requests("retrieve_message") == []
