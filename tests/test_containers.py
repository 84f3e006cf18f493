"""The container files of deploy/: what their lines name is there, and their commands run as a container runs them.

No image is built, as there is no registry to build from: the commands run in a namespace of their own, as process 1, by
a user that has no name and no home, on a root file system that is read-only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import until

from nel_mesh import MeshClient, MeshSettings
from nel_mesh.sandbox import Sandbox

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
AGENT, SANDBOX = (DEPLOY / name for name in ("Containerfile", "sandbox.Containerfile"))
USER = 12345
"""A user that the images do not name."""

_NAMESPACE = (
    'mount --bind "$0" "$0" && mount -o remount,ro,bind / && exec setpriv --reuid "$1" --regid 0 --clear-groups'
    # Its own code is read with a right that it keeps: the folders of this checkout may be closed to other users.
    " --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search env -i"
    ' PATH="$PATH" "${@:2}"'
)


def _has_namespaces() -> bool:
    if not (shutil.which("unshare") and shutil.which("setpriv") and shutil.which("bash")):
        return False
    tried = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "mount", "-o", "remount,ro,bind", "/"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not _has_namespaces(), reason="making namespaces needs root, on Linux")


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a container file, each on one line."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def command_of(path: Path) -> list[str]:
    """What the image runs."""
    found = dict(instructions(path))
    return [*json.loads(found["ENTRYPOINT"]), *json.loads(found.get("CMD", "[]"))]


def environment_of(path: Path) -> dict[str, str]:
    pairs = " ".join(rest for name, rest in instructions(path) if name == "ENV").split()
    return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        volume = Path(folder) / "data"
        volume.mkdir()
        yield volume


@contextlib.contextmanager
def contained(writable: Path, command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command as a container would, with one folder that it may write to."""
    os.chown(writable, USER, 0)
    writable.chmod(0o770)
    variables = [f"{name}={value}" for name, value in environment.items()]
    starting = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "bash", "-c", _NAMESPACE]
    process = subprocess.Popen(
        [*starting, str(writable), str(USER), *variables, *command],
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        # Changing the user has cleared what --kill-child asked for.
        for first in first_processes(process):
            os.kill(first, signal.SIGKILL)
        process.kill()
        process.communicate(timeout=20)


def first_processes(process: subprocess.Popen[str]) -> list[int]:
    """The process 1 of the namespace, by its number here; none once it has ended."""
    with contextlib.suppress(OSError):
        return [*map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split())]
    return []


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout
    said, end = "", time.monotonic() + 30
    while words not in said:
        line = process.stdout.readline()
        assert line, said
        assert time.monotonic() < end, said
        said += line
    return said


def terminated(process: subprocess.Popen[str]) -> str:
    """Send SIGTERM to process 1 of the namespace, as `podman stop` does; return what it says then."""
    (first,) = first_processes(process)
    os.kill(first, signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    return said


@pytest.mark.parametrize("path", [AGENT, SANDBOX], ids=lambda path: path.name)
def test_what_the_lines_name_is_there(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = instructions(path)
    (run,) = (rest for name, rest in found if name == "RUN")
    (extras,) = re.findall(r"nel-mesh\[([\w,]+)\]", run)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "--constraint /usr/src/nel-mesh/constraints.txt" in run
    named = dict(found)
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim", named["FROM"])
    assert re.fullmatch(r"[1-9]\d*:\d+", named["USER"]), "a number, and not root"
    text = path.read_text(encoding="utf-8")
    assert f"--file deploy/{path.name} " in text.splitlines()[0 if path == AGENT else 2]


@pytest.mark.parametrize("path", [AGENT, SANDBOX], ids=lambda path: path.name)
def test_the_command_is_one(path: Path) -> None:
    done = subprocess.run([*command_of(path), "--help"], env=os.environ | {"PATH": _path()}, check=False)
    assert done.returncode == 0


def test_what_compose_and_kubernetes_run_follows_the_entry_point() -> None:
    """A `command` of compose, and `args` of Kubernetes, come after ENTRYPOINT."""
    entry = json.loads(dict(instructions(AGENT))["ENTRYPOINT"])
    for path in DEPLOY.glob("*.yaml"):
        for given in re.findall(r"^\s+(?:command|args): (\[.*\])$", path.read_text(encoding="utf-8"), re.MULTILINE):
            words = re.findall(r"[^\s,\[\]]+", given)
            done = subprocess.run([*entry, *words, "--help"], env=os.environ | {"PATH": _path()}, check=False)
            assert done.returncode == 0, f"{path.name}: {given}"


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@needs_namespaces
def test_the_sandbox_as_a_container(data: Path) -> None:
    given = environment_of(SANDBOX)
    assert {name for name, value in given.items() if value == "/data"} == {"NEL_MESH_SANDBOX_DATA_FOLDER", "TMPDIR"}
    inside = {name: str(data) if value == "/data" else value for name, value in given.items()}
    settings = data / "settings/appsettings.X26ABC1.json"
    for turn in range(2):
        with contained(data, command_of(SANDBOX), inside | {"NEL_MESH_SANDBOX_PORT": "0"}) as running:
            read_until(running, "Ctrl-C stops it.")
            with MeshClient(MeshSettings.from_file(settings, proxy="none")) as mesh:
                mesh.handshake()
                assert len(mesh.list_messages()) == turn
                mesh.send_message(b"1", to="X26ABC1", workflow_id="W")
            assert "Stopped." in terminated(running)
    assert {path.stat().st_uid for path in data.rglob("*")} == {USER}


@needs_namespaces
def test_the_sandbox_without_a_place_for_temporary_files_says_so(data: Path) -> None:
    inside = {"NEL_MESH_SANDBOX_DATA_FOLDER": str(data), "NEL_MESH_SANDBOX_PORT": "0"}
    with contained(data, command_of(SANDBOX), inside) as running:
        said, _ = running.communicate(timeout=30)
    assert "No usable temporary directory found" in said
    assert "listen" not in said


@needs_namespaces
def test_the_agent_as_a_container(data: Path, tmp_path: Path, mesh_sandbox: Sandbox) -> None:
    configuration = tmp_path / "configuration"
    configuration.mkdir()
    mesh_sandbox.write_settings(configuration)
    mesh_sandbox.deliver_message("X26ABC1", b"content", file_name="a.csv")
    (configuration / "agent.toml").write_text(
        f'[agent]\ndata = "{data}/ledger"\n[mailboxes.X26ABC1]\nsettings = "appsettings.X26ABC1.json"\n'
        f'[[mailboxes.X26ABC1.receive]]\ninto = "{data}/inbox"\n',
        encoding="utf-8",
    )
    given = environment_of(AGENT)
    assert (given["NEL_MESH_AGENT"], given["TMPDIR"]) == ("/etc/nel-mesh/agent.toml", "/var/lib/nel-mesh")
    inside = given | {"NEL_MESH_AGENT": str(configuration / "agent.toml"), "TMPDIR": str(data)}
    with contained(data, command_of(AGENT), inside) as running:
        read_until(running, "The agent works on 1 mailbox.")
        until(lambda: not mesh_sandbox.messages(recipient="X26ABC1", status="accepted"))
        assert "The agent has ended." in terminated(running)
    (received,) = (data / "inbox").iterdir()
    assert received.read_bytes() == b"content"
