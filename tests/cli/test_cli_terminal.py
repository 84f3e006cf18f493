"""The command in a terminal: bars, tables, colour; and none of them where nobody looks."""

from __future__ import annotations

from pathlib import Path

import pytest
from nel_command import Nel

from nel_mesh.sandbox import Sandbox

pytest_plugins = ["cli_fixtures"]

SMALL_CHUNKS = {"MESH_MAX_CHUNK_SIZE_IN_MEGABYTES": "0.1"}
TO_BOB = ("--to", "X26ABC2", "--workflow-id", "TEST")


def test_a_slow_send_has_a_bar_with_speed_and_time_left(alice: Nel, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(300_000))
    mesh_sandbox.add_fault("send_chunk:1:delay=1.6")
    done = alice.in_terminal("send", big, *TO_BOB, env=SMALL_CHUNKS)
    assert done.code == 0
    assert "Sending big.bin" in done.out
    assert "B/s" in done.out
    assert " left" in done.out
    mesh_sandbox.add_fault("send_chunk:1:delay=1.6")
    assert alice("send", big, *TO_BOB, env=SMALL_CHUNKS).err == ""


def test_a_slow_receive_has_a_bar(bob: Nel, mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.deliver_message("X26ABC2", [b"1" * 50_000] * 3)
    mesh_sandbox.add_fault("retrieve_chunk:2:delay=1.8")
    done = bob.in_terminal("receive", "--into", "inbox")
    assert (done.code, "Receiving" in done.out, "/150.0 kB" in done.out) == (0, True, True)


def test_a_quick_send_has_none(alice: Nel, tmp_path: Path, mesh_sandbox: Sandbox) -> None:
    (tmp_path / "a.txt").write_text("a")
    done = alice.in_terminal("send", "a.txt", *TO_BOB)
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) == 1


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_a28_a_table_too_wide_for_the_terminal_becomes_blocks(bob: Nel, mesh_sandbox: Sandbox, columns: int) -> None:
    """A28: no column is lost, no word broken."""
    name, workflow = "results of the laboratory for" + " January" * 8, "A_LONG_WORKFLOW_ID"
    first = mesh_sandbox.deliver_message("X26ABC2", b"1", workflow_id=workflow, file_name=name)
    second = mesh_sandbox.deliver_message("X26ABC2", b"1", workflow_id=workflow, file_name="b.csv")
    for done in (
        bob.in_terminal("inbox", "--details", columns=columns),
        bob.in_terminal("inbox", "--details", env={"COLUMNS": str(columns)}, columns=200),
    ):
        assert max(map(len, done.out.splitlines())) <= columns
        assert done.out.split("\n\n")[1].startswith(f"Message    {second}\n")
        assert {"X26ABC1", first, *name.split(), workflow, "Time"} <= set(done.out.split())


def test_a28_a_table_that_fits_has_a_bold_heading(bob: Nel, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"1", workflow_id="W", file_name="a.csv")
    heading, row = bob.in_terminal("inbox", "--details", columns=110).out.splitlines()
    assert heading.startswith("\x1b[1mMessage ")
    assert row.startswith(f"{message_id}  X26ABC1  W ")
    assert "\x1b" not in bob.in_terminal("inbox", "--details", env={"NO_COLOR": "1"}).out


def test_a28_a_pipe_has_one_line_for_each_message(bob: Nel, mesh_sandbox: Sandbox) -> None:
    """A28: nothing is broken in a pipe, whatever COLUMNS says."""
    mesh_sandbox.deliver_message(
        "X26ABC2", b"1", workflow_id="A_LONG_WORKFLOW_ID_" * 4, file_name="long" + " long" * 40
    )
    assert len(bob("inbox", "--details", env={"COLUMNS": "60"}).out.splitlines()) == 2


def test_errors_in_colour_unless_told_otherwise(alice: Nel) -> None:
    wrong = ("track", "20200101000000000000_000000")
    assert "\x1b[31;1mError:" in alice.in_terminal(*wrong).out
    plain = alice.in_terminal(*wrong, env={"NO_COLOR": "1"}, columns=60)
    assert "\x1b" not in plain.out
    assert max(map(len, plain.out.splitlines())) <= 60


def test_json_has_no_bar_either(alice: Nel, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    mesh_sandbox.add_fault("send_message:1:delay=1.3")
    done = alice.in_terminal("send", "a.txt", *TO_BOB, "--json")
    assert done.record["bytes"] == 1
