"""The Java client's life, with its folders and a process, against the sandbox over mutual TLS."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import ALICE, BOB, Site, until

from command_server import forked_nel_mesh
from java_client import write_configuration
from nel_mesh.agent.java.configuration import load_java
from nel_mesh.agent.java.control_file import parse
from nel_mesh.agent.java.layout import ControlFileLayout
from nel_mesh.agent.service import Agent
from nel_mesh.agent.tables import SendRoute
from nel_mesh.io.clock import Clock
from nel_mesh.io.locks import FileLock
from nel_mesh.sandbox import Sandbox

CONTROL = (
    "<DTSControl><Version>1.0</Version><AddressType>DTS</AddressType><MessageType>Data</MessageType>"
    "<WorkflowId>EXAMPLE</WorkflowId><To_DTS>{to}</To_DTS><From_DTS>X26ABC1</From_DTS>"
    "<Subject>weekly extract</Subject><LocalId>{local}</LocalId></DTSControl>"
)


class JavaSite(Site):
    """The Java client's configuration for two mailboxes of the sandbox."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        super().__init__(folder, sandbox)
        self.config = folder / "meshclient.cfg"
        write_configuration(folder, sandbox, folder / "settings", (ALICE, BOB))

    def put(self, name: str, content: bytes | None, control: str) -> None:
        """Put a pair into OUT: the data first."""
        out = self.folder / ALICE / "OUT"
        out.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (out / f"{name}.dat").write_bytes(content)
        (out / f"{name}.ctl").write_text(control)

    def names(self, mailbox: str, folder: str) -> set[str]:
        path = self.folder / mailbox / folder
        return {file.name for file in path.iterdir() if not file.name.startswith(".")} if path.is_dir() else set()


@pytest.fixture
def site(mesh_sandbox: Sandbox, tmp_path: Path) -> Iterator[JavaSite]:
    site = JavaSite(tmp_path, mesh_sandbox)
    yield site
    site.close()


def test_a_day_of_the_java_client(site: JavaSite, mesh_sandbox: Sandbox) -> None:
    site.put("UPPER00000001", b"results", CONTROL.format(to=BOB, local="run-1"))
    site.put("nobody", b"results", CONTROL.format(to="NOBODY", local="run-2"))
    site.put("wrong", b"results", "<DTSControl>")
    process = site.start()
    until(lambda: len(site.names(BOB, "IN")) == 2)
    until(lambda: site.names(ALICE, "SENT") == {"UPPER00000001.dat", "UPPER00000001.ctl"})
    until(lambda: site.names(ALICE, "FAILED") == {"nobody.dat", "nobody.ctl", "wrong.dat", "wrong.ctl"})
    assert site.names(ALICE, "OUT") == set()

    [message] = mesh_sandbox.delivered(BOB)
    assert site.names(BOB, "IN") == {f"{message.message_id}.dat", f"{message.message_id}.ctl"}
    assert (site.folder / BOB / f"IN/{message.message_id}.dat").read_bytes() == b"results"
    received = parse((site.folder / BOB / f"IN/{message.message_id}.ctl").read_bytes())
    assert (received.get("From_DTS"), received.get("LocalId"), received.get("AddressType")) == (ALICE, "run-1", "ALL")
    sent = parse((site.folder / ALICE / "SENT/UPPER00000001.ctl").read_bytes())
    assert (sent.get("DTSId"), sent.get("Subject")) == (message.message_id, "weekly extract")

    # Reports: of the pair that was sent (collected and transferred), and of the two that failed.
    until(lambda: len(site.names(ALICE, "IN")) == 4)
    texts = [(site.folder / ALICE / "IN" / name).read_text() for name in site.names(ALICE, "IN")]
    assert all("<MessageType>Report<" in text for text in texts)
    codes = sorted(text.partition("<StatusCode>")[2].partition("<")[0] for text in texts)
    assert codes == ["00", "00", "01", "12"]

    report = mesh_sandbox.deliver_report(ALICE, linked_message_id=message.message_id, code="14")
    until(lambda: f"{report}.ctl" in site.names(ALICE, "IN"))
    assert f"{report}.dat" not in site.names(ALICE, "IN")

    (site.folder / "sig").mkdir()
    (site.folder / "sig/mexclient.sig").write_text("1")
    process.wait(30)
    assert process.returncode == 0


def test_a_control_file_without_data_waits_and_then_fails(site: JavaSite) -> None:
    route = SendRoute.model_validate({"from": site.folder / ALICE / "OUT", "layout": "ctl", "settle_in_seconds": 0})
    layout = ControlFileLayout(route, ALICE, Clock().now)
    site.put("alone", None, CONTROL.format(to=BOB, local="run-1"))
    assert list(layout.find(0.0)) == []
    assert list(layout.find(9.9)) == []
    [file] = layout.find(10.1)
    assert file.fault is not None
    assert file.fault.code == "02"
    site.put("alone", b"at last", CONTROL.format(to=BOB, local="run-1"))
    [file] = layout.find(10.2)
    assert file.fault is None


def test_a_killed_process_leaves_whole_pairs_alone(site: JavaSite, mesh_sandbox: Sandbox) -> None:
    """The content has its name, and the control file is missing: the next process writes it, and fetches nothing."""
    site.put("a", b"results", CONTROL.format(to=BOB, local="run-1"))
    process = site.start()
    until(lambda: len(site.names(BOB, "IN")) == 2)
    site.stop(process, signal.SIGKILL)
    process = site.start()
    until(lambda: mesh_sandbox.messages(recipient=BOB, status="acknowledged"))
    assert len(site.names(BOB, "IN")) == 2
    site.stop(process)


def test_the_configuration_is_converted(site: JavaSite, tmp_path: Path) -> None:
    for mailbox in (ALICE, BOB):
        (site.folder / mailbox / "OUT").mkdir(parents=True)
    output = tmp_path / "ours"
    command = [str(forked_nel_mesh()), "agent", "import-java", str(site.config), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    password = site.folder / "ours/x26abc1.toml"
    assert password.stat().st_mode & 0o077 == 0
    assert "keystore" not in done.stdout
    site.config = output / "agent.toml"
    code, steps, said = site.run("check")
    assert (code, {step["is_good"] for step in steps}) == (0, {True}), (steps, said)


@pytest.mark.parametrize("arguments", [["--java-config"], ["--java-config", "none.cfg"], ["--java-config=x", "--what"]])
def test_its_launcher_is_never_told_to_start_it_again(site: JavaSite, arguments: list[str]) -> None:
    """It takes exit code 2, which is our code for a wrong command, for an upgrade."""
    command = [str(forked_nel_mesh()), "agent", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=site.folder, check=False)
    assert done.returncode == 3, done.stderr


_NOT_NEEDED = ("alembic", "asyncssh", "azure", "boto3", "prometheus_client", "starlette", "uvicorn")


def test_a_start_loads_nothing_that_it_does_not_need(site: JavaSite) -> None:
    """The first look into the inbox comes within a second: `make scale` measures it."""
    Agent(site.config, read=load_java).run(once=True)
    program = (
        "import sys; from pathlib import Path; from nel_mesh.agent.service import Agent;"
        "from nel_mesh.agent.java.configuration import load_java; import nel_mesh.cli.agent.running;"
        "Agent(Path(sys.argv[1]), read=load_java).run(once=True);"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-c", program, str(site.config)]
    loaded = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert "sqlalchemy" in loaded
    assert sorted(set(loaded) & set(_NOT_NEEDED)) == []


def test_a_second_client_waits_until_the_folders_are_free(site: JavaSite) -> None:
    lock = FileLock(site.folder / ALICE / "OUT/.nel-mesh-agent.lock")
    assert lock.acquire()
    process = site.launch()
    until((site.folder / "nel-mesh-agent/agent.lock").exists)
    assert not list((site.folder / "nel-mesh-agent").glob("*.sqlite*"))
    lock.release()
    until(lambda: "works on" in site.said(process))
    site.stop(process)
