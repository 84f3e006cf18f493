"""Outgoing folders: which files are taken, and where they go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import Report, StorageError
from nel_mesh.agent import filing
from nel_mesh.agent.outgoing import FileLayout, OutgoingFile, stamp_of
from nel_mesh.agent.tables import SendRoute
from nel_mesh.destinations.metadata import sidecar_of
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.outgoing import NewSend


def layout(folder: Path, **options: Any) -> FileLayout:
    values = {"from": folder, "to": "X26ABC2", "workflow_id": "WF", **options}
    return FileLayout(SendRoute.model_validate(values))


def found(one: FileLayout, now: float = 100.0) -> dict[str, OutgoingFile]:
    return {file.path.name: file for file in one.find(now)}


def test_a_file_is_taken_once_it_has_not_changed_for_a_while(tmp_path: Path) -> None:
    one = layout(tmp_path, settle_in_seconds=2)
    path = tmp_path / "a.csv"
    path.write_text("half")
    assert found(one, 0.0) == {}
    assert found(one, 1.9) == {}
    path.write_text("half and half")
    assert found(one, 2.1) == {}
    assert list(found(one, 4.2)) == ["a.csv"]


@pytest.mark.parametrize("name", [".hidden", "a.tmp", "a.CSV.PART", "a.filepart", "a.csv~", "~$a.xlsx", "a.crdownload"])
def test_what_is_called_unfinished_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    assert found(layout(tmp_path, settle_in_seconds=0)) == {}


def test_folders_and_links_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert found(layout(tmp_path, settle_in_seconds=0)) == {}


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX)
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("lock", ["flock", "lockf"])
def test_a_file_that_another_program_has_locked_is_left_alone(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x")
    command = [sys.executable, "-c", HOLDER, str(path), lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert found(layout(tmp_path, settle_in_seconds=0)) == {}
        holder.communicate()
    assert list(found(layout(tmp_path, settle_in_seconds=0))) == ["a.csv"]


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert found(layout(tmp_path / "none")) == {}


def test_the_name_says_the_rest(tmp_path: Path) -> None:
    (tmp_path / "X26ABC9__LAB__a.csv").write_text("x")
    (tmp_path / "other.csv").write_text("x")
    files = found(
        layout(tmp_path, to=None, workflow_id=None, name="{to}__{workflow_id}__{file_name}", settle_in_seconds=0)
    )
    options = files["X26ABC9__LAB__a.csv"].options
    assert (options["to"], options["workflow_id"], options["file_name"]) == ("X26ABC9", "LAB", "a.csv")
    assert "template" in str(files["other.csv"].fault)


def test_a_sidecar_says_the_rest_and_is_waited_for(tmp_path: Path) -> None:
    one = layout(tmp_path, layout="sidecar", to=None, settle_in_seconds=0)
    (tmp_path / "a.csv").write_text("x")
    assert found(one) == {}
    (tmp_path / "a.csv.json").write_text(json.dumps({"to": "X26ABC9", "subject": "s", "encrypted": True}))
    assert found(one)["a.csv"].options == {
        "to": "X26ABC9",
        "workflow_id": "WF",
        "subject": "s",
        "encrypted": True,
        "file_name": "a.csv",
        "compress": False,
    }


def test_the_sidecar_of_a_received_message_is_taken(tmp_path: Path) -> None:
    """It is sent on to where the route says, not to the site that had received it."""
    received = Report(message_id="M1", recipient="X26ABC1", sender="X26ABC3", workflow_id="IN", local_id="7", chunks=3)
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "a.csv.json").write_bytes(sidecar_of(received))
    assert found(layout(tmp_path, layout="sidecar", to="X26ABC9", settle_in_seconds=0))["a.csv"].options == {
        "to": "X26ABC9",
        "workflow_id": "IN",
        "local_id": "7",
        "file_name": "a.csv",
        "compress": False,
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"{", "not JSON"),
        (b"[1]", "one JSON object"),
        (b'{"too": "X"}', "1 unknown names"),
        (b'{"to": 7}', "to must be a text"),
        (b'{"encrypted": "yes"}', "encrypted must be true or false"),
        (b" " * 70_000, "longer than"),
        (b"{}", "nothing says its to"),
        (b"[" * 60_000, "not JSON"),
    ],
)
def test_a_faulty_sidecar_is_a_fault_of_its_file(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "a.csv.json").write_bytes(content)
    [file] = found(layout(tmp_path, layout="sidecar", to=None, settle_in_seconds=0)).values()
    assert fault in str(file.fault)


def test_an_empty_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert "empty" in str(found(layout(tmp_path, settle_in_seconds=0))["a.csv"].fault)


def test_a_moved_file_replaces_none(tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "a.b.csv").write_text("old")
    source = tmp_path / "a.b.csv"
    source.write_text("new")
    moved = filing.move_into(source, folder, name="a.b.csv", unique="u1")
    assert moved == folder / "a.u1.b.csv"
    assert (moved.read_text(), (folder / "a.b.csv").read_text()) == ("new", "old")
    assert not source.exists()


def test_a_kill_between_the_two_names_is_mended(tmp_path: Path) -> None:
    """The file has its new name, and the old one was not removed."""
    folder = tmp_path / "sent"
    folder.mkdir()
    source = tmp_path / "a.csv"
    source.write_text("x")
    os.link(source, folder / "a.csv")
    assert filing.move_into(source, folder, name="a.csv", unique="u") == folder / "a.csv"
    assert not source.exists()
    assert filing.move_into(source, folder, name="a.csv", unique="u") == folder / "a.csv"
    assert [path.name for path in folder.iterdir()] == ["a.csv"]


def test_where_two_of_the_name_are_there_the_file_stays(tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("a.csv", "a.u.csv"):
        (folder / name).write_text("old")
    source = tmp_path / "a.csv"
    source.write_text("new")
    with pytest.raises(StorageError, match="sent"):
        filing.move_into(source, folder, name="a.csv", unique="u")
    assert source.read_text() == "new"


def test_a_file_is_told_from_another_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert stamp_of(path) is None
    path.write_text("x")
    before = stamp_of(path)
    path.unlink()
    (tmp_path / "b").write_text("keeps the inode")
    path.write_text("y")
    assert stamp_of(path) not in (None, before)


def test_old_files_of_an_archive_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    now = (tmp_path / "a").stat().st_ctime
    assert filing.remove_older(tmp_path, now - 10) == 0
    assert filing.remove_older(tmp_path, now + 10) == 1
    assert filing.remove_older(tmp_path / "none", now) == 0


def test_a_senders_own_id_is_no_part_of_a_path_and_a_new_file_of_the_name_stays(tmp_path: Path) -> None:
    out, sent = tmp_path / "out", tmp_path / "out/sent"
    sent.mkdir(parents=True)
    (sent / "a.csv").write_text("old")
    path = out / "a.csv"
    path.write_text("new")
    (out / "a.csv.json").write_text(json.dumps({"to": "X26ABC9", "local_id": "../../run/42"}))
    one = layout(out, layout="sidecar", to=None, settle_in_seconds=0)
    file = found(one)["a.csv"]
    with Ledger(tmp_path / "ledger") as ledger:
        message = ledger.outgoing.add(
            "X26ABC1",
            [NewSend(source=str(path), stamp=file.stamp, options=file.options, route=0, file_name=None, length=3)],
        )[0]
    assert one.archive(message) == str(sent / f"a.{message.id}.csv")
    (out / "keeps the inode").write_text("x")
    path.write_text("newer")
    one.archive(message)
    one.refuse(message)
    assert path.read_text() == "newer"
    assert not (out / "failed").exists()
