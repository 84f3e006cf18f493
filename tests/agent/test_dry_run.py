"""What an agent would do, and what a new configuration would change: told, and not done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import ALICE, BOB, Site

from nel_mesh import InvalidArgument, StorageError
from nel_mesh.agent.configuration import load
from nel_mesh.agent.dry_run import Planned, plan_of
from nel_mesh.agent.running import FILE_NAME, compare
from nel_mesh.agent.service import Agent
from nel_mesh.io.locks import FileLock
from nel_mesh.sandbox import Sandbox

SENDS = '[[mailboxes.X26ABC1.send]]\nfrom = "out"\nto = "X26ABC2"\nworkflow_id = "WF"\n'
RECEIVES = '[[mailboxes.X26ABC2.receive]]\nworkflow_id = "PATH_*"\ninto = "in"\n'


@pytest.fixture
def site(mesh_sandbox: Sandbox, tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, mesh_sandbox)
    (tmp_path / "out").mkdir()
    yield site
    site.close()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}{{bob}}\n{RECEIVES}")
    fits = mesh_sandbox.deliver_message(BOB, b"x", workflow_id="PATH_1", file_name="jane.csv")
    other = mesh_sandbox.deliver_message(BOB, b"x", workflow_id="OTHER")
    (site.folder / "out/good.csv").write_text("content")
    (site.folder / "out/jane.csv").write_text("")
    before = tree(site.folder)
    code, records, said = site.run("run", "--dry-run")
    assert code == 0
    assert tree(site.folder) == before
    assert {request.operation for request in mesh_sandbox.requests()} == {"list_messages", "message_metadata"}
    found = {(one["mailbox_id"], one["action"], one["message_id"]): one for one in records}
    assert set(found) == {(ALICE, "send", None), (ALICE, "refuse", None), (BOB, "receive", fits), (BOB, "leave", other)}
    assert found[BOB, "receive", fits]["places"] == [str(site.folder / "in")]
    assert found[ALICE, "send", None]["length"] == len("content")
    assert "jane" not in json.dumps(records) + said


def test_a_dry_run_of_a_shadow_and_of_a_mailbox_that_cannot_be_read(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\nshadow = true\n{SENDS}{{bob}}\n{RECEIVES}")
    mesh_sandbox.deliver_message(ALICE, b"x")
    (site.folder / "out/a.csv").write_text("x")
    mesh_sandbox.add_fault("list_messages:2:respond=403")
    planned = list(plan_of(load(site.config)))
    assert [(one.mailbox_id, one.action) for one in planned] == [(ALICE, "leave"), (ALICE, "leave"), (BOB, "fail")]
    assert isinstance(planned[0], Planned)


def test_what_a_new_file_would_change(site: Site) -> None:
    site.write(f"{{alice}}\n{SENDS}{{bob}}\n{RECEIVES}", agent="workers = 3")
    with pytest.raises(InvalidArgument, match="no agent has run"):
        compare(load(site.config))
    Agent(site.config).run(once=True)
    same = compare(load(site.config))
    assert same.changes == []
    assert not same.is_running
    site.write(f"{{alice}}\n{SENDS.replace('X26ABC2', 'X26ABC9')}{{bob}}\nshadow = true\n{RECEIVES}")
    settings = site.settings[BOB]
    settings.write_text(settings.read_text() + " ")
    lock = FileLock(site.folder / "nel-mesh-agent/agent.lock")
    assert lock.acquire()
    try:
        assert compare(load(site.config)).is_running
        code, records, _ = site.run("diff")
    finally:
        lock.release()
    assert code == 14
    assert {one["name"]: (one["before"], one["after"], one["needs_restart"]) for one in records} | {
        f"file {site.config}": None,
        f"file {settings}": None,
    } == {
        "agent.workers": (3, 8, True),
        "mailboxes.X26ABC1.send.1.to": ("(not shown)", "(not shown)", False),
        "mailboxes.X26ABC2.shadow": (False, True, False),
        f"file {site.config}": None,
        f"file {settings}": None,
    }


def test_what_the_agent_works_by_has_no_secret(site: Site, mesh_sandbox: Sandbox) -> None:
    secret = site.folder / "s"
    secret.write_text("c2VjcmV0")
    hook = 'on_stored = { url = "https://hooks.example/token-in-it", secret_file = "s" }\n'
    site.write(f"{{bob}}\n{RECEIVES}{hook}", agent='alive_url = "https://alive.example/uuid-in-it"')
    agent = Agent(site.config)
    configuration = agent.configuration
    agent.run(once=True)
    kept = (site.folder / "nel-mesh-agent" / FILE_NAME).read_text()
    password = configuration.mailboxes[BOB].settings.password.get_secret_value()
    for one in (password, "token-in-it", "uuid-in-it", "c2VjcmV0", "PRIVATE KEY"):
        assert one not in kept
    assert str(secret) in kept
    (site.folder / "nel-mesh-agent" / FILE_NAME).write_text("{")
    with pytest.raises(StorageError, match="restart the agent"):
        compare(configuration)
