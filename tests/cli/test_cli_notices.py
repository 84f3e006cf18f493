"""A wait before a retry is announced on a terminal, and only there; and what `--verbose` shows is printable."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from nel_command import Nel

from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer, Step

pytest_plugins = ["cli_fixtures"]

TO_BOB = ("--to", "X26ABC2", "--workflow-id", "TEST")
SOON = {"MESH_RETRY_INITIAL_DELAY_IN_SECONDS": "0.1"}
LINE = r"MESH is not available \(status 503\)\. Attempt 2 of 5 follows in 0\.\d s; Ctrl-C cancels\.\n"


def test_a18_each_wait_is_one_line_on_a_terminal(alice: Nel, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    mesh_sandbox.add_fault("send_message:1:respond=503")
    done = alice.in_terminal("send", "a.txt", *TO_BOB, env=SOON)
    assert done.code == 0
    assert re.match(LINE, done.out)
    assert done.out.count("Attempt") == 1


def test_a18_a_server_that_is_not_there(nobody: Nel) -> None:
    settings = {"MAILBOX_ID": "X26ABC1", "PASSWORD": "p", "SHARED_KEY": "k", "URL": "http://127.0.0.1:1"}
    environment = {f"MESH_{name}": value for name, value in settings.items()}
    done = nobody.in_terminal("inbox", env={**environment, **SOON, "MESH_MAX_ATTEMPTS": "2"})
    assert done.code != 0
    assert re.match(r"Could not connect\. Attempt 2 of 2 follows in 0\.\d s; Ctrl-C cancels\.\n", done.out)


@pytest.mark.parametrize("option", ["--json", "--quiet", None])
def test_a18_scripts_get_no_such_line(alice: Nel, mesh_sandbox: Sandbox, tmp_path: Path, option: str | None) -> None:
    (tmp_path / "a.txt").write_text("a")
    mesh_sandbox.add_fault("send_message:1:respond=503")
    if option is None:
        assert alice("send", "a.txt", *TO_BOB, env=SOON).err == ""
    else:
        assert "Attempt" not in alice.in_terminal(option, "send", "a.txt", *TO_BOB, env=SOON).out


def test_r10_verbose_passes_nothing_of_a_server_to_the_terminal(
    nobody: Nel, serve: Callable[..., ScriptedServer]
) -> None:
    hostile = "\x1b[2J\x07 9434765919"
    report = dict.fromkeys(("mex-linkedmsgid", "mex-statusevent", "mex-statuscode", "mex-workflowid"), hostile)
    server = serve(
        Step(200, body=json.dumps({"messages": [hostile, "9434765919", "M1"]}).encode()),
        Step(200, {"mex-messagetype": "REPORT", **report}),
        Step(200),
        Step(200, body=b'{"messages": []}'),
    )
    settings = {"MAILBOX_ID": "X26ABC1", "PASSWORD": "p", "SHARED_KEY": "k", "URL": server.url}
    environment = {f"MESH_{name}": value for name, value in settings.items()}
    done = nobody("--verbose", "receive", "--into", "inbox", env=environment)
    assert all(character.isprintable() or character == "\n" for character in done.err)
    log = [line for line in done.err.splitlines() if re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert any("receive_messages: " in line for line in log)
    assert "9434765919" not in "".join(log)
