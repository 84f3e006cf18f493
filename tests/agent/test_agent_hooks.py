"""Hooks, metrics and health: what other systems get to see, over real sockets and in real processes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from agents import ALICE, BOB, Site, until
from ledgers import MovableClock
from prometheus_client.parser import text_string_to_metric_families

from nel_mesh.agent import systemd
from nel_mesh.agent.service import Agent
from nel_mesh.ledger.search import Filter
from nel_mesh.sandbox import Sandbox

SECRET = b"an invented secret"


class Receiver(HTTPServer):
    """A receiver of webhooks, which fails the first requests."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.seen: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status = 503 if len(self.server.seen) <= self.server.failures else 204
        self.send_response(status)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.seen.append(({}, b""))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def site(mesh_sandbox: Sandbox, tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, mesh_sandbox)
    (tmp_path / "out").mkdir()
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    yield site
    site.close()


class Running:
    """An agent in a thread of this process."""

    def __init__(self, site: Site) -> None:
        self.agent = Agent(site.config)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self.agent.run, kwargs={"on_ready": self._ready.set})

    def __enter__(self) -> Agent:
        self._thread.start()
        assert self._ready.wait(30)
        return self.agent

    def __exit__(self, *_: object) -> None:
        self.agent.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_webhook_is_signed_and_repeated_until_it_is_taken(
    site: Site, mesh_sandbox: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.failures = 1
    site.write(
        f'{{bob}}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n'
        f'on_stored = {{ url = "{receiver.url}?token=private", secret_file = "secret" }}\n'
    )
    mesh_sandbox.deliver_message(BOB, b"x", file_name="a.csv", subject="Jane Doe")
    with Running(site):
        until(lambda: len(receiver.seen) == 1)
        with site.ledger() as ledger:
            until(lambda: ledger.hook_calls.of_message(1)[0].attempts == 1)
            [noted] = ledger.hook_calls.of_message(1)
            assert noted.reason == "it answered with 503"
            with ledger.database.write() as connection:
                connection.exec_driver_sql("UPDATE hook_call SET next_attempt_at = created_at")
            until(lambda: len(receiver.seen) == 2)
            until(lambda: ledger.hook_calls.of_message(1)[0].done_at is not None)
    (first, _), (headers, body) = receiver.seen
    assert first["webhook-id"] == headers["webhook-id"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    said = json.loads(body)
    assert (said["type"], said["data"]["bytes"]) == ("message.stored", 1)
    assert said["data"]["locations"] == [str(site.folder / "in/a.csv")]
    assert b"Jane" not in body


def test_a_receiver_that_does_not_answer_holds_up_no_other(
    site: Site, mesh_sandbox: Sandbox, receiver: Receiver
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        site.write(
            f'{{bob}}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\non_stored = [\n'
            f'{{ url = "{url}", secret_file = "secret", timeout_in_seconds = 60 }},\n'
            f'{{ url = "{receiver.url}", secret_file = "secret" }},\n]\n'
        )
        for number in range(5):
            mesh_sandbox.deliver_message(BOB, b"x", file_name=f"{number}.csv")
        with Running(site):
            until(lambda: len(receiver.seen) == 5)
            silent.close()


def test_a_command_is_told_on_its_input_and_never_in_its_arguments(site: Site, mesh_sandbox: Sandbox) -> None:
    program = site.folder / "hook.py"
    program.write_text(
        "import json, os, sys\n"
        "said = {'input': json.load(sys.stdin), 'arguments': sys.argv[1:], 'event': os.environ['NEL_MESH_EVENT']}\n"
        "said['mesh'] = [name for name in os.environ if name.startswith('MESH_')]\n"
        "open(sys.argv[1], 'a').write(json.dumps(said) + '\\n')\n"
    )
    said = site.folder / "said"
    command = json.dumps([sys.executable, str(program), str(said)])
    site.write(
        '{alice}\n[[mailboxes.X26ABC1.send]]\nfrom = "out"\nto = "X26ABC2"\nworkflow_id = "WF"\nsettle_in_seconds = 0\n'
        f"on_sent = {{ command = {command} }}\non_undelivered = {{ command = {command} }}\n"
    )
    (site.folder / "out/a.csv").write_text("x")
    (site.folder / "out/empty.csv").touch()
    with Running(site):
        until(lambda: said.exists() and len(said.read_text().splitlines()) == 2)
    records = [json.loads(line) for line in said.read_text().splitlines()]
    assert {record["event"] for record in records} == {"message.sent", "message.undelivered"}
    assert all(record["arguments"] == [str(said)] and record["mesh"] == [] for record in records)
    assert all("a.csv" not in json.dumps(record["input"]) for record in records)


def test_every_hook_can_be_tried(site: Site, receiver: Receiver) -> None:
    site.write(
        f'{{bob}}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n'
        f'on_stored = [{{ url = "{receiver.url}?token=private", secret_file = "secret" }}, {{ command = ["false"] }}]\n'
        'on_quarantined = { command = ["/no/such/program"] }\n'
    )
    code, tried, _ = site.run("hooks", "test")
    assert code == 14
    assert [one["is_good"] for one in tried] == [True, False, False]
    assert "private" not in json.dumps(tried)
    assert json.loads(receiver.seen[0][1])["type"] == "test"


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_monitors_see_how_it_is(site: Site, mesh_sandbox: Sandbox, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site.write(
        '{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n',
        agent=f'health = "127.0.0.1:{port}"\nalive_url = "{receiver.url}"',
    )
    mesh_sandbox.deliver_message(BOB, b"x", workflow_id="PATH_1", subject="Jane Doe", file_name="a.csv")
    mesh_sandbox.deliver_report(BOB, linked_message_id="20260101000000000000_000001", code="14")
    base = f"http://127.0.0.1:{port}"

    def metrics() -> dict[str, float]:
        families = text_string_to_metric_families(get(f"{base}/metrics")[1])
        return {
            f"{sample.name}{sorted(sample.labels.values())}": sample.value
            for family in families
            for sample in family.samples
        }

    with Running(site) as agent:
        until(lambda: "mesh_messages_total['PATH_1', 'acknowledged', 'in']" in metrics())
        until(lambda: metrics().get("mesh_reports_total['14']") == 1)
        until(lambda: metrics().get(f"mesh_mailbox_last_success_timestamp_seconds['{BOB}']"))
        now = metrics()
        assert now["mesh_message_bytes_total['in']"] == 1
        assert (
            now[f"mesh_certificate_expiry_timestamp_seconds['{BOB}']"]
            > now[f"mesh_handshake_timestamp_seconds['{BOB}']"]
        )
        assert now["mesh_quarantined[]"] == 0
        assert now["mesh_disk_free_bytes[]"] > 0
        text = get(f"{base}/metrics")[1]
        assert not any(private in text for private in ("Jane", "a.csv", str(site.folder)))
        assert get(f"{base}/livez") == (200, "alive")
        assert json.loads(get(f"{base}/readyz")[1]) == {"ready": True, "needs_person": 0}
        agent.ledger.mailboxes.pause(BOB, actor="ann", reason="moving")
        assert json.loads(get(f"{base}/readyz")[1])["needs_person"] == 1
        assert metrics()[f"mesh_paused['{BOB}']"] == 1


def test_the_dead_mans_switch_is_called_only_while_all_is_well(site: Site, receiver: Receiver) -> None:
    site.write('{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n', agent=f'alive_url = "{receiver.url}"')
    clock = MovableClock()
    agent = Agent(site.config, clock=clock)
    with agent.ledger as ledger:
        ledger.mailboxes.configure([BOB])
        agent._say_alive()
        assert receiver.seen == []
        begun = ledger.mailboxes.begin_visit(BOB, "me")
        assert begun is not None
        ledger.mailboxes.end_visit(BOB, begun.epoch, ledger.clock.now() + timedelta(minutes=5), None)
        agent._say_alive()
        assert len(receiver.seen) == 1
        clock.advance(minutes=16)
        agent._say_alive()
        assert len(receiver.seen) == 1
        ledger.mailboxes.pause(BOB, actor="ann", reason="moving")
        agent._say_alive()
        assert len(receiver.seen) == 2


def test_an_address_that_is_taken_is_named(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site.write('{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n', agent=f'health = "127.0.0.1:{port}"')
        code, _, said = site.run("run")
    assert code == 4
    assert f"127.0.0.1:{port}" in json.loads(said)["error"]["message"]


def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        site.write('{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n')
        with Running(site) as agent:
            assert manager.recv(1000) == b"READY=1"
            assert manager.recv(1000) == b"WATCHDOG=1"
            agent.reload()
            said = [manager.recv(1000) for _ in range(4)]
            assert any(line.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for line in said)
        assert systemd.watchdog_seconds() == 1.0
        while manager.recv(1000) != b"STOPPING=1":
            pass
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    systemd.notify("READY=1")


def test_a_configuration_is_made_by_questions(site: Site, tmp_path: Path) -> None:
    site.config = tmp_path / "made" / "agent.toml"
    options = {
        "--mailbox-settings": site.settings[ALICE],
        "--into": "in",
        "--from": "out",
        "--to": "x26abc2",
        "--workflow-id": "WF",
    }
    code, [made], _ = site.run("init", *(str(part) for pair in options.items() for part in pair))
    assert (code, made["mailbox_id"]) == (0, ALICE)
    (tmp_path / "made/in").mkdir()
    with Agent(site.config).ledger as ledger:
        assert ledger.search.messages(Filter()) == []
    code, _, said = site.run("init", "--mailbox-settings", str(site.settings[ALICE]))
    assert (code, "exists already" in said) == (2, True)
