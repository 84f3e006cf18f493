"""The command `nel-mesh-sandbox`, run as a person runs it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from nel_mesh.protocol import token
from nel_mesh.sandbox.__main__ import main
from nel_mesh.sandbox.configuration import utc_now

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there it is stopped by other means")


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and what it says up to the point where it is ready."""
    command = [sys.executable, "-m", "nel_mesh.sandbox", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_until_it_is_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    with running("--plain-http", "--data-folder", str(tmp_path)) as (process, said):
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        assert httpx2.get(f"{url}/messageexchange/_ping", trust_env=False).status_code == 200
        assert "export MESH_MAILBOX_ID=X26ABC1\n" in said
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (0, "stopped\n", "")
    assert list(tmp_path.iterdir()) == []


def test_settings_folder_and_mailboxes(tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    with running(
        "--mailbox", "LAB:secret:R1", "--mailbox", "GP", "--shared-key", "k", "--settings-folder", str(folder)
    ) as (process, said):
        path = folder / "appsettings.LAB.json"
        assert str(path) in said
        assert "secret" not in said
        assert "MeshSettings.from_file" in said
        written = json.loads(path.read_text())["MeshConfiguration"]
        assert (written["MailboxId"], written["Password"], written["SharedKey"]) == ("LAB", "secret", "k")
        assert written["Url"].startswith("https://127.0.0.1:")
        process.terminate()
        process.communicate(timeout=20)


def test_faults_reports_and_a_short_life(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('faults = ["count_messages:2:answer=502"]')
    arguments = ["--fault", "ping:lose-answer", "--fault", "ping:*:answer=503,retry-after=9"]
    more = ["--faults", str(path), "--report", "X26ABC1:20200102_A", "--report", "X26ABC2", "--inbox-life", "60"]
    with running("--plain-http", *arguments, *more) as (process, said):
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        assert "\nfaults:\n  count_messages:2:answer=502\n  ping:1:lose-answer\n" in said
        with httpx2.Client(base_url=url + "/messageexchange", trust_env=False) as http:
            with pytest.raises(httpx2.TransportError):
                http.get("/_ping")
            answer = http.get("/_ping")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "9")
            reports = [inbox(http, mailbox_id) for mailbox_id in ("X26ABC1", "X26ABC2", "X26ABC3")]
        assert [len(ids) for ids in reports] == [1, 1, 0]
        process.terminate()
        process.communicate(timeout=20)


def inbox(http: httpx2.Client, mailbox_id: str) -> list[str]:
    authorization = token.authorization(
        mailbox_id=mailbox_id, password="password", shared_key="TestKey", nonce="n", nonce_count=0, now=utc_now()
    )
    found: list[str] = http.get(f"/{mailbox_id}/inbox", headers={"authorization": authorization}).json()["messages"]
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--faults", "none.toml"], "none.toml"),
        (["--report", "NOBODY"], "--report NOBODY: there is no such mailbox"),
        (["--inbox-life", "0"], "inbox_life"),
    ],
)
def test_faults_that_cannot_be_had(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "0", "--plain-http", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"nel-mesh-sandbox: cannot listen on 127.0.0.1 port {port}: Address already in use")
    assert said.count("\n") == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--port", "0", "--data-folder", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mailbox", "lower"],
        ["--port", "x"],
        ["--port", "70000"],
        ["--unknown"],
        ["--fault", "any:1:explode"],
        ["--inbox-life", "soon"],
        ["--inbox-life", "nan"],
    ],
)
def test_arguments_that_cannot_be(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: nel-mesh-sandbox" in capsys.readouterr().err
