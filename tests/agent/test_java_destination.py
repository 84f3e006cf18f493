"""The incoming folder of the Java client, whose readers wait for the `.ctl`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nel_mesh import MessageMetadata, Report
from nel_mesh.agent.java.control_file import parse
from nel_mesh.agent.java.destination import JavaDestination, JavaUpload

DATA = MessageMetadata(message_id="M1", sender="TESTMB2", recipient="TESTMB1", workflow_id="EXAMPLE")
REPORT = Report(message_id="M1", status_event="SEND", status_code="14", status_success=False)


OPENED: list[JavaUpload] = []


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    before = os.umask(0o027)
    yield tmp_path
    os.umask(before)
    while OPENED:
        OPENED.pop().close()


def upload(root: Path, metadata: MessageMetadata, content: bytes | None = b"results") -> JavaUpload:
    """Begin a message; or continue it, if there is no content."""
    one = JavaDestination(root / "IN").upload("M1")
    OPENED.append(one)
    if content is None:
        one.resume(None, metadata)
    else:
        one.start(metadata)
        one.write([content])
        one.finish()
    return one


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_message_is_a_pair_and_a_report_a_control_file(root: Path) -> None:
    assert upload(root, DATA).publish("M1.dat")
    assert sorted(files(root)) == ["IN/M1.ctl", "IN/M1.dat"]
    assert files(root)["IN/M1.dat"] == b"results"
    assert parse(files(root)["IN/M1.ctl"]).get("From_DTS") == "TESTMB2"
    modes = {path.stat().st_mode & 0o777 for path in (root / "IN").iterdir()}
    assert modes == {0o640}, "the umask says who may read them"


def test_a_report_is_a_control_file_alone(root: Path) -> None:
    assert upload(root, REPORT).publish("M1.ctl")
    assert list(files(root)) == ["IN/M1.ctl"]


def test_nothing_is_in_the_folder_before_it_is_complete(root: Path) -> None:
    upload(root, DATA)
    assert not (root / "IN").exists()
    assert list(files(root)) == ["TEMP/.M1.part"]


@pytest.mark.parametrize("step", ["whole", "whole and written", "data moved", "all moved"])
def test_a_kill_while_a_pair_is_moved_is_made_good(root: Path, step: str) -> None:
    upload(root, DATA).publish("M1.dat")
    temp, inbox = root / "TEMP", root / "IN"
    if step == "whole":
        (inbox / "M1.ctl").unlink()
        (inbox / "M1.dat").rename(temp / ".M1.whole")
    elif step == "whole and written":
        (inbox / "M1.ctl").rename(temp / ".M1.ctl")
        (inbox / "M1.dat").rename(temp / ".M1.whole")
    elif step == "data moved":
        (inbox / "M1.ctl").rename(temp / ".M1.ctl")
    assert upload(root, DATA, None).is_published("M1.dat", 7)
    assert sorted(files(root)) == ["IN/M1.ctl", "IN/M1.dat"]
    assert files(root)["IN/M1.dat"] == b"results"


@pytest.mark.parametrize(("metadata", "name"), [(DATA, "M1.dat"), (REPORT, "M1.ctl")])
def test_what_a_program_has_taken_is_not_written_again(root: Path, metadata: MessageMetadata, name: str) -> None:
    upload(root, metadata).publish(name)
    for path in (root / "IN").iterdir():
        path.unlink()
    assert upload(root, metadata, None).is_published(name, 7)
    assert files(root) == {}


def test_a_report_whose_rename_was_killed_is_made_good(root: Path) -> None:
    upload(root, REPORT).publish("M1.ctl")
    (root / "IN/M1.ctl").rename(root / "TEMP/.M1.ctl")
    assert upload(root, REPORT, None).is_published("M1.ctl", 7)
    assert list(files(root)) == ["IN/M1.ctl"]


def test_a_pair_that_the_java_client_left_is_not_doubled_but_another_is_refused(root: Path) -> None:
    """It stored the message, and was ended before it acknowledged it."""
    (root / "IN").mkdir()
    (root / "IN/M1.dat").write_bytes(b"results")
    (root / "IN/M1.ctl").write_bytes(b"its own")
    assert upload(root, DATA).publish("M1.dat")
    assert files(root) == {"IN/M1.dat": b"results", "IN/M1.ctl": b"its own"}
    assert not upload(root, DATA, b"other length").publish("M1.dat")
    assert files(root)["IN/M1.dat"] == b"results"


def test_content_without_its_control_file_is_replaced(root: Path) -> None:
    """Nobody has taken it: it was being written when the Java client was ended."""
    (root / "IN").mkdir()
    (root / "IN/M1.dat").write_bytes(b"resu")
    assert upload(root, DATA).publish("M1.dat")
    assert files(root)["IN/M1.dat"] == b"results"


def test_what_failed_leaves_nothing(root: Path) -> None:
    upload(root, DATA).remove()
    assert files(root) == {}
