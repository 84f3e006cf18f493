"""`nel-mesh agent console`: people are managed, and it is served until it is told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest
from consoles import ALICE, PASSWORD

from command_server import forked_nel_mesh
from nel_mesh.cli.main import run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command of the agent in this process; gives its exit code, and what it said."""
    config = tmp_path / "agent.toml"
    settings = '{ url = "http://127.0.0.1:9", password = "p", shared_key = "k" }'
    config.write_text(f"[mailboxes.{ALICE}]\nsettings = {settings}\n")
    monkeypatch.setenv("NEL_MESH_AGENT", str(config))

    def start(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        file = tmp_path / "typed"
        file.write_text(typed)
        with file.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            code = run(["agent", *arguments])
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return start


def test_people_are_added_listed_disabled_and_reset(command: Command) -> None:
    code, out, err = command("console", "user", "list")
    assert (code, out) == (0, "")
    assert "There is none yet" in err
    code, out, _ = command("console", "user", "add", "ann", "--role", "operator", "--json", typed=f"{PASSWORD}\n")
    assert code == 0
    added = json.loads(out)
    assert re.fullmatch("[A-Z2-7]{32}", added["secret"])
    assert added["address"].startswith("otpauth://totp/")
    assert PASSWORD not in out
    code, out, _ = command("console", "user", "list", "--json")
    assert json.loads(out)["role"] == "operator"
    assert added["secret"] not in out
    assert command("console", "user", "disable", "ann")[0] == 0
    assert json.loads(command("console", "user", "list", "--json")[1])["disabled_at"]
    code, out, _ = command("console", "user", "reset", "ann", "--quiet", typed=f"{PASSWORD}\n")
    assert out.strip() != added["secret"]


def test_a_role_is_changed_and_the_last_administrator_stays(command: Command) -> None:
    assert command("console", "user", "add", "ann", "--role", "administrator", typed=f"{PASSWORD}\n")[0] == 0
    assert command("console", "user", "add", "bob", "--content", typed=f"{PASSWORD}\n")[0] == 0
    change = ("console", "user", "change")
    assert "last administrator" in command(*change, "ann", "--role", "viewer")[2]
    assert "last administrator" in command("console", "user", "disable", "ann")[2]
    code, out, _ = command(*change, "bob", "--role", "administrator", "--no-content", "--json", "--reason", "a post")
    assert (code, json.loads(out)) == (0, {"name": "bob", "role": "administrator", "sees_content": False})
    assert command(*change, "ann", "--role", "viewer")[0] == 0
    rows = [json.loads(line) for line in command("console", "user", "list", "--json")[1].splitlines()]
    assert [(row["name"], row["role"], row["sees_content"]) for row in rows] == [
        ("ann", "viewer", False),
        ("bob", "administrator", False),
    ]


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (("user", "add", "ann"), "", "a password is needed"),
        (("user", "add", "ann"), "short\n", "12 characters"),
        (("user", "add"), "", "NAME is needed"),
        (("user", "add", "ann", "--role", "king"), "", "--role: expected one of"),
        (("user", "explode"), "", "expected `user`"),
        (("user", "disable", "nobody"), "", "there is no user nobody"),
        (("user", "change", "nobody", "--role", "viewer"), "", "there is no user nobody"),
        (("user", "change", "ann"), "", "what is to change"),
        (("--listen", "everywhere"), "", "expected an address and a port"),
        (("--listen", "0.0.0.0:0"), "", "there is no TLS"),
    ],
    ids=str,
)
def test_a_mistake_is_named(command: Command, arguments: tuple[str, ...], typed: str, said: str) -> None:
    code, out, err = command("console", *arguments, typed=typed)
    assert code != 0
    assert out == ""
    assert said.casefold() in err.casefold()


@pytest.mark.parametrize("given", [("console", "--listen", "127.0.0.1:0"), ("run",)], ids=str)
def test_it_is_served_until_it_is_told_to_stop(command: Command, tmp_path: Path, given: tuple[str, ...]) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'[agent]\nconsole = "127.0.0.1:0"\n{config.read_text()}')
    arguments = [str(forked_nel_mesh()), "agent", *given, "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy()) as process:
        limit = threading.Timer(30, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            answer = httpx.get(f"{url}/", follow_redirects=True)
            assert answer.status_code == 200
            assert "Log in" in answer.text
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()
        finally:
            limit.cancel()
            process.kill()
