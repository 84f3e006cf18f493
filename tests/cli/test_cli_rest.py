"""`nel-mesh handshake`, `lookup`, `search`, `sandbox serve`, and the behaviour that all commands share."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from nel_command import Nel

from nel_mesh.cli.app import COMMANDS
from nel_mesh.sandbox import Sandbox

pytest_plugins = ["cli_fixtures"]


def test_handshake(alice: Nel, mesh_sandbox: Sandbox) -> None:
    assert alice("handshake").out == "X26ABC1: the handshake succeeded.\n"
    assert alice("--json", "handshake").record == {"mailbox_id": "X26ABC1", "ok": True}
    assert alice("handshake", "--quiet").out == ""
    assert len(mesh_sandbox.requests("handshake")) == 3


def test_lookup_and_search(alice: Nel, mesh_sandbox: Sandbox) -> None:
    assert alice("lookup", "X26", "TEST", "--json").records == [
        {"mailbox_id": "X26ABC1", "mailbox_name": "TESTMB1"},
        {"mailbox_id": "X26ABC2", "mailbox_name": "TESTMB2"},
    ]
    assert alice("search", "TEST", "-q").out.split() == list(mesh_sandbox.mailbox_ids)
    none = alice("lookup", "NOONE", "TEST")
    assert (none.code, none.out, none.err) == (7, "", "There is no such mailbox.\n")


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        ("handshake:*:respond=403,body=no", 6, "not_authorised"),
        ("handshake:*:respond=503,retry-after=7", 9, "busy"),
        ("handshake:*:respond=500,body=no", 9, "server_error"),
        ("handshake:*:cut-before-body", 5, "connection_lost"),
    ],
)
def test_exit_codes_of_answers(alice: Nel, mesh_sandbox: Sandbox, fault: str, code: int, kind: str) -> None:
    mesh_sandbox.add_fault(fault)
    done = alice("handshake", "--json", env={"MESH_MAX_ATTEMPTS": "1"})
    assert (done.code, done.out) == (code, "")
    assert (done.error["kind"], done.error["exit_code"]) == (kind, code)


def test_no_server(alice: Nel) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{probe.getsockname()[1]}"
        done = alice("handshake", env={"MESH_URL": url, "MESH_MAX_ATTEMPTS": "1"})
    assert done.code == 5
    assert "`nel-mesh check`" in done.one_paragraph()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("mailbox_id = ", "not valid TOML"),
        ('mailbox_id = "X26ABC1"\npasswort = "hunter2"\n', "passwort"),
        ('mailbox_id = "X26ABC1"\n', "set MESH_PASSWORD, or put `password` in mesh.toml\n"),
        (None, "no such file"),
    ],
)
def test_settings_that_cannot_be_used(nobody: Nel, tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "mesh.toml"
    if content is not None:
        path.write_text(content)
    done = nobody("handshake", "--settings", path)
    assert (done.code, done.out) == (3, "")
    assert words in done.one_paragraph()
    assert "hunter2" not in done.err


def test_an_unknown_profile(nobody: Nel, tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text('[profiles.alice]\nmailbox_id = "X26ABC1"\n')
    done = nobody("handshake", "--profile", "bob")
    assert done.code == 3
    assert "there is no profile 'bob'" in done.one_paragraph()


def test_no_settings_at_all(nobody: Nel) -> None:
    done = nobody("inbox", "--json")
    assert done.code == 3
    first, *others = done.error["faults"]
    assert (first["source"], first["kind"]) == ("settings file", "missing")
    assert "`nel-mesh init` creates one" in first["message"]
    assert [fault["setting"] for fault in others] == ["mailbox_id", "password", "shared_key", "url"]
    assert "--settings" in nobody("inbox", "--profile", "alice").one_paragraph()


def test_a_settings_file_is_found(alice: Nel, nobody: Nel) -> None:
    assert alice.settings is not None
    (nobody.home / "appsettings.Development.json").write_bytes(alice.settings.read_bytes())
    assert nobody("handshake").code == 0


@pytest.mark.parametrize("arguments", [("snd",), ("inbox", "--limit", "x"), ("inbox", "--nonsense")])
def test_a_wrong_command_line(nobody: Nel, arguments: tuple[str, ...]) -> None:
    done = nobody(*arguments)
    assert (done.code, done.out) == (2, "")
    told = nobody("--json", *arguments)
    assert (told.code, told.error["kind"]) == (2, "usage")


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        ((), "nel-mesh [OPTIONS] COMMAND"),
        (("help",), "nel-mesh [OPTIONS] COMMAND"),
        (("sandbox",), "nel-mesh sandbox [OPTIONS] COMMAND"),
        (("help", "sandbox"), "nel-mesh sandbox [OPTIONS] COMMAND"),
        (("help", "sandbox", "serve"), "nel-mesh sandbox serve [OPTIONS]"),
        (("sandbox", "help", "serve"), "nel-mesh sandbox serve [OPTIONS]"),
        (("help", "send"), "nel-mesh send [OPTIONS] FILE..."),
        (("help", "receive"), "nel-mesh receive [OPTIONS] [ID...]"),
    ],
)
def test_a26_help_without_an_error(nobody: Nel, arguments: tuple[str, ...], usage: str) -> None:
    """A26: a bare command or group shows its help on stdout and succeeds; `help` stands before any command."""
    done = nobody(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {usage}")
    assert not re.search(r"<(str|int|float|list|path|bool)", done.out), "a Python type"


def test_a26_the_package_runs_as_the_command() -> None:
    """A26: `python -m nel_mesh` is the command."""
    done = subprocess.run([sys.executable, "-m", "nel_mesh", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nel-mesh ")


def test_a25_check_in_brief_keeps_its_lines(alice: Nel, mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.add_fault("handshake:*:respond=403")
    done = alice("-q", "check")
    assert done.code == 14
    assert "\ufffd" not in done.out
    assert [line for line in done.out.splitlines() if line.lstrip().startswith("->")], done.out


def test_help_lists_the_commands_by_group(nobody: Nel) -> None:
    lines = nobody("--help").out.splitlines()
    assert [line for line in lines if re.fullmatch(r"(Set up|Send|Receive|Look up|Debug):", line)] == [
        "Set up:",
        "Send:",
        "Receive:",
        "Look up:",
        "Debug:",
    ]
    rows = dict(line.split(None, 1) for line in lines if line.startswith("  ") and line.split()[0] in COMMANDS)
    assert list(rows) == list(COMMANDS)
    assert {name: text for name, text in rows.items() if len(text) > 50} == {}
    assert "..." not in "".join(rows.values())


def test_a_local_command_has_no_option_for_a_mailbox(nobody: Nel) -> None:
    assert "--settings " not in nobody("csr", "--help").out
    assert nobody("csr", "--profile", "alice").code == 2


def test_a_mistyped_command_is_guessed(nobody: Nel) -> None:
    assert "Did you mean 'receive'" in nobody("recieve").err


def test_a_bug_is_one_sentence(alice: Nel, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import nel_mesh.cli.mailboxes as module\n"
        "def broken(ctx):\n"
        "    raise KeyError('patient name')\n"
        "module.session_of = broken\n"
    )
    done = alice("handshake", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 1
    assert "This is a bug in nel-mesh" in done.one_paragraph()
    assert "patient name" not in done.err
    assert "Traceback" in alice("handshake", "--verbose", env={"PYTHONPATH": str(tmp_path)}).err


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(nobody: Nel, tmp_path: Path, missing: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    done = nobody("--version", env={"PYTHONPATH": str(tmp_path)})
    if missing == "typer":
        assert (done.code, done.out) == (3, "")
        assert done.err == 'nel-mesh needs its extra: pip install "nel-mesh[cli]"\n'
    else:
        assert done.code == 0


def test_verbose_logs_to_stderr_and_tells_no_secret(alice: Nel, mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.add_fault("handshake:1:respond=503")
    done = alice("handshake", "--verbose", "--json")
    assert done.record["ok"] is True
    assert "handshake" in done.err
    assert "password" not in done.err
    assert "NHSMESH" not in done.err


def test_completion_is_offered(nobody: Nel) -> None:
    done = nobody(env={"_NEL_MESH_COMPLETE": "complete_bash", "COMP_WORDS": "nel-mesh rec", "COMP_CWORD": "1"})
    assert "receive" in done.out


def test_help_is_quick(nobody: Nel) -> None:
    """What is slow to import must not be imported for --help; clocks of busy machines say little."""
    code = (
        "import sys; sys.argv=['nel-mesh','--help']; before=set(sys.modules)\n"
        "import nel_mesh\n"
        # As long as the package itself is not lazy, what it imports is not this command's doing.
        "before=before if hasattr(nel_mesh,'__getattr__') else set(sys.modules)\n"
        "from nel_mesh.cli.__main__ import main\n"
        "main(); new=set(sys.modules)-before\n"
        "bad=[name for name in new if name.split('.')[0] in ('pydantic','httpx2','cryptography','rich')]\n"
        "sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sandbox_serve(nobody: Nel, tmp_path: Path) -> None:
    arguments = ("sandbox", "serve", "--port", "0", "--json", "--settings-folder", tmp_path / "s")
    more = ("--mailbox", "GP1:A81001", "--mailbox", "LAB1", "--fault", "handshake:1:respond=403")
    with nobody.start(*arguments, *more) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["mailboxes"] == ["GP1", "LAB1"]
        assert told["faults"] == ["handshake:1:respond=403"]
        gp = Nel(tmp_path, Path(told["settings"][0]))
        assert gp("handshake").code == 6
        assert gp("handshake").code == 0
        taken = nobody("sandbox", "serve", "--port", told["url"].rpartition(":")[2])
        assert taken.code == 4
        assert "port" in taken.one_paragraph()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.parametrize("arguments", [("--fault", "nonsense"), ("--mailbox", "small")])
def test_a_sandbox_that_cannot_be(nobody: Nel, arguments: tuple[str, str]) -> None:
    done = nobody("sandbox", "serve", "--port", "0", *arguments)
    assert done.code == 2
    done.one_paragraph()
