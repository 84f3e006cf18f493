"""The command `nel-mesh sandbox serve`, run as a person runs it."""

from __future__ import annotations

import ctypes
import dataclasses
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from command_server import forked_nel_mesh
from nel_mesh.cli.sandbox import serve
from nel_mesh.protocol import token
from nel_mesh.sandbox.configuration import COMPATIBLE, SandboxConfiguration, utc_now

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there it is stopped by other means")


FRESH = [sys.executable, "-m", "nel_mesh.cli"]


@contextmanager
def running(
    *arguments: str, program: list[str] | None = None, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and its output up to the point where it is ready."""
    command = [*(program or [str(forked_nel_mesh())]), "sandbox", "serve", "--port", "0", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | (environment or {}), **pipes) as process:
        try:
            assert process.stdout
            said = ""
            for line in process.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            yield process, said
        finally:
            process.kill()


def failing(*arguments: str) -> tuple[int, str]:
    command = [str(forked_nel_mesh()), "sandbox", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_it_is_stopped(number: signal.Signals) -> None:
    with running("--plain-http") as (process, said):
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        assert httpx2.get(f"{url}/messageexchange/_ping", trust_env=False).status_code == 200
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "Stopped.\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a signal to one thread of another process")
def test_a_signal_that_does_not_wake_the_main_thread_stops_it_too() -> None:
    """As one that comes just before that thread begins to wait: Python notes it, and the wait goes on."""
    with running(program=FRESH) as (process, _):
        threads = {int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir()} - {process.pid}
        # There is a function for it in the C library, and none in Python.
        assert ctypes.CDLL(None).tgkill(process.pid, max(threads), signal.SIGTERM) == 0
        assert process.communicate(timeout=20)[1] == "Stopped.\n"


@pytest.mark.parametrize("half", [0, 1])
def test_each_leniency_is_an_option_and_a_variable_and_is_named(half: int) -> None:
    names = [*COMPATIBLE][half::2]
    options = [f"--{'' if COMPATIBLE[name] else 'no-'}{name.replace('_', '-')}" for name in names]
    variables = {f"NEL_MESH_SANDBOX_{option[2:].replace('-', '_').upper()}": "1" for option in options}
    for arguments, environment in ((options, {}), ([], variables)):
        with running(*arguments, environment=environment) as (_, said):
            assert f"\nNot strict: {', '.join(options)}\n" in said


def test_compatible_names_all_that_it_sets_and_strict_names_nothing() -> None:
    with running("--compatible") as (_, said):
        for name, lenient in COMPATIBLE.items():
            assert f"--{'' if lenient else 'no-'}{name.replace('_', '-')}" in said
    with running() as (_, said):
        assert "Not strict" not in said


def test_every_argument_of_a_sandbox_has_an_option() -> None:
    options = {name.removeprefix("no_").removesuffix("_in_seconds") for name in inspect.signature(serve).parameters}
    arguments = {field.name for field in dataclasses.fields(SandboxConfiguration)}
    of_a_program_alone = {"clock", "max_request_bytes", "requests_remembered"}
    assert arguments - options == of_a_program_alone | {"tls"}
    assert "plain_http" in options, "which is tls=False"


def test_s13_settings_are_files_until_it_stops() -> None:
    with running("--mailbox", "LAB") as (process, said):
        (path,) = re.findall(r"^  (.*/appsettings\.LAB\.json)$", said, re.MULTILINE)
        assert f"\nexport MESH_SETTINGS={path}\n" in said
        assert max(map(len, said.splitlines())) < 200, "no certificate in base64"
        assert json.loads(Path(path).read_text())["MeshConfiguration"]["MailboxId"] == "LAB"
        script = said.partition("as LAB:\n")[2].partition("\n\n")[0].replace("nel-mesh ", f"{forked_nel_mesh()} ")
        assert subprocess.run(["/bin/sh", "-c", script], check=False, timeout=60).returncode == 0
        process.terminate()
        process.communicate(timeout=20)
    assert not Path(path).parent.exists()


def test_a_settings_folder_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    with running(
        "--mailbox", "LAB:R1:secret", "--mailbox", "GP", "--shared-key", "k", "--settings-folder", str(folder)
    ) as (process, said):
        path = folder / "appsettings.LAB.json"
        assert str(path) in said
        assert "secret" not in said
        process.terminate()
        process.communicate(timeout=20)
    written = json.loads(path.read_text())["MeshConfiguration"]
    assert (written["MailboxId"], written["Password"], written["SharedKey"]) == ("LAB", "secret", "k")
    assert written["Url"].startswith("https://127.0.0.1:")


def test_faults_reports_and_a_short_life() -> None:
    arguments = ["--fault", "ping:lose-response", "--fault", "ping:*:respond=503,retry-after=9"]
    more = ["--report", "X26ABC1:20200102_A", "--report", "X26ABC2", "--inbox-life", "60"]
    with running("--plain-http", *arguments, *more) as (process, said):
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        assert "\nFaults:\n  ping:1:lose-response\n" in said
        with httpx2.Client(base_url=url + "/messageexchange", trust_env=False) as http:
            with pytest.raises(httpx2.TransportError):
                http.get("/_ping")
            answer = http.get("/_ping")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "9")
            reports = [inbox(http, mailbox_id) for mailbox_id in ("X26ABC1", "X26ABC2", "X26ABC3")]
        assert [len(ids) for ids in reports] == [1, 1, 0]
        process.terminate()
        process.communicate(timeout=20)


def test_s3_s7_workflows_and_reports_are_options() -> None:
    arguments = ["--workflow", "PATH:X26ABC2:X26ABC1", "--workflow", "ANY", "--no-enforce-workflows"]
    with running("--plain-http", *arguments, "--report-unregistered-recipients") as (process, said):
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        with httpx2.Client(base_url=url + "/messageexchange", trust_env=False) as http:
            found = [http.get(f"/workflowsearch/{name}").json()["results"] for name in ("PATH", "ANY", "OTHER")]
            refused = http.post("/X26ABC1/outbox", headers=message("X26NONE"), content=b"x")
            sent = http.post("/X26ABC1/outbox", headers=message("X26ABC3"), content=b"x")
            assert len(inbox(http, "X26ABC1")) == 1
        assert [[box["mailbox_id"] for box in boxes] for boxes in found][0::2] == [["X26ABC2"], []]
        assert len(found[1]) == 3
        assert (refused.status_code, sent.status_code) == (417, 202)
        process.terminate()
        process.communicate(timeout=20)


def message(to: str) -> dict[str, str]:
    authorization = token.authorization(
        mailbox_id="X26ABC1", password="password", shared_key="TestKey", nonce=to, now=utc_now()
    )
    return {"authorization": authorization, "mex-to": to, "mex-workflowid": "OTHER"}


def inbox(http: httpx2.Client, mailbox_id: str) -> list[str]:
    authorization = token.authorization(
        mailbox_id=mailbox_id, password="password", shared_key="TestKey", nonce="n", nonce_count=0, now=utc_now()
    )
    found: list[str] = http.get(f"/{mailbox_id}/inbox", headers={"authorization": authorization}).json()["messages"]
    return found


def test_s13_a_port_in_use_is_named_with_its_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = failing("--port", str(port))
    assert code == 4
    assert said.startswith(f"Error: Cannot listen on 127.0.0.1 port {port}: Address already in use.")
    assert "`--port 0`" in " ".join(said.split())


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = failing("--port", "0", "--data", str(tmp_path / "file" / "none"))
    assert code == 4
    assert "none" in said


def test_settings_stay_good_over_a_kill(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    settings = tmp_path / "data" / "settings" / "appsettings.X26ABC1.json"
    client = [str(forked_nel_mesh()), "--settings", str(settings)]
    with running("--data", data, program=FRESH) as (process, said):
        port = re.findall(r"https://127\.0\.0\.1:(\d+)", said)[0]
        send = ["send", "-", "--to", "X26ABC1", "--workflow-id", "W"]
        subprocess.run([*client, *send], input=b"kept", check=True, capture_output=True, timeout=60)
        before = settings.read_bytes()
        code, refused = failing("--port", "0", "--data", data)
        assert (code, "another sandbox uses" in refused) == (2, True)
        process.kill()
        process.wait(timeout=20)
    settings.write_bytes(before)
    with running("--data", data, "--port", port) as (process, _):
        settings.write_bytes(before)
        inbox = tmp_path / "inbox"
        subprocess.run([*client, "receive", "--into", str(inbox)], capture_output=True, check=True, timeout=60)
        assert [path.read_bytes() for path in inbox.glob("*.dat")] == [b"kept"]
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--mailbox", "lower"], "mailbox id"),
        (["--port", "70000"], "--port"),
        (["--fault", "any:1:explode"], "explode"),
        (["--inbox-life", "nan"], "--inbox-life"),
        (["--report", "NOBODY"], "--report NOBODY: there is no such mailbox"),
        (["--faults", "file.toml"], "--faults"),
        (["--workflow", "PATH:NOBODY"], "there is no mailbox 'NOBODY'"),
    ],
)
def test_arguments_that_cannot_be(arguments: list[str], reason: str) -> None:
    code, said = failing(*arguments)
    assert code == 2
    assert reason in " ".join(said.split())
