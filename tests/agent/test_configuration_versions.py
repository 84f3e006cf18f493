"""The configuration in the ledger: what goes there, and how agents take it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import BOB, Site, until

from nel_mesh import ConfigurationError, InvalidArgument
from nel_mesh.agent.versions import check, shared_part
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.sandbox import Sandbox

pytest_plugins = ["ledger_fixtures"]

SHARED = """# Results
[defaults]
poll_interval_in_minutes = 10

[mailboxes.X26ABC1]
settings = "alice.toml"

[[mailboxes.X26ABC1.receive]]
into = "in"
"""
SECRET = "canary-in-clear"
INLINE = """[mailboxes.X26ABC1.settings]
url = "https://127.0.0.1:1"
password = "canary-in-clear"
shared_key = "canary-in-clear"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "alice.toml").write_text(
        f'mailbox_id = "X26ABC1"\npassword = "{SECRET}"\nshared_key = "k"\nurl = "http://127.0.0.1:1"\n'
        "allow_plain_http = true\n"
    )
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nnode = "one"\n' + SHARED)
    return path


def test_what_is_a_machines_own_is_left_out() -> None:
    text = '[agent]\nledger = "postgresql://mesh:canary@db/mesh"\n[console.openid]\nissuer = "x"\n' + SHARED
    assert shared_part(text, "agent.toml").strip() == ("[defaults]" + SHARED.partition("[defaults]")[2]).strip()
    assert shared_part(SHARED, "agent.toml") == SHARED
    with pytest.raises(InvalidArgument, match="tables of their own"):
        shared_part('agent.node = "one"\n' + SHARED, "agent.toml")


def test_a_version_is_checked_as_a_file_is(machine: Path) -> None:
    assert check(machine.read_text(), machine, "new.toml") == "[defaults]" + SHARED.partition("[defaults]")[2]
    with pytest.raises(ConfigurationError) as caught:
        check("[agent]\nworkers = 2\n" + SHARED.replace("into", "inot"), machine, "new.toml")
    assert "new.toml, line 11" in str(caught.value)
    assert "into" in str(caught.value)
    with pytest.raises(ConfigurationError, match="no mailbox"):
        check('[agent]\nledger = "postgresql://mesh@db/mesh"\n', machine, "new.toml")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            SHARED.replace('settings = "alice.toml"\n', "").replace("[[", INLINE + "[[", 1),
            [
                "`mailboxes.X26ABC1.settings.password` in new.toml, line 9",
                "`mailboxes.X26ABC1.settings.shared_key` in new.toml, line 10",
            ],
        ),
        (
            SHARED + f'on_stored = {{ url = "https://me:{SECRET}@hooks.example.org/", secret_file = "s" }}\n',
            ["`mailboxes.X26ABC1.receive.on_stored.url` in new.toml, line 10"],
        ),
    ],
)
def test_a_secret_in_clear_is_refused_with_its_name(machine: Path, text: str, names: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(text, machine, "new.toml")
    assert [fault.source for fault in caught.value.faults] == names
    assert SECRET not in str(caught.value)


def test_versions_are_kept_in_order(ledger: Ledger) -> None:
    assert ledger.configurations.newest() is None
    first = ledger.configurations.add("a = 1\n", author="ann", reason="the first")
    second = ledger.configurations.add("a = 2\n", author="bob", reason="more")
    third = ledger.configurations.add(first.content, author="ann", reason="back", restores=first.number)
    assert first.number < second.number < third.number
    assert [one.number for one in ledger.configurations.all(2)] == [third.number, second.number]
    assert ledger.configurations.newest() == third
    assert ledger.configurations.newest_number() == third.number
    assert (third.sha256, third.restores) == (hashlib.sha256(b"a = 1\n").hexdigest(), first.number)
    assert [event.actor for event in ledger.search.events(kind="configuration pushed")] == ["ann", "bob", "ann"]
    with pytest.raises(InvalidArgument, match="no version 99"):
        ledger.configurations.get(99)


@pytest.fixture(params=["threads", "fleet"])
def site(mesh_sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    url = request.getfixturevalue("postgresql_url") if request.param == "fleet" else None
    site = Site(tmp_path, mesh_sandbox, url)
    yield site
    site.close()


def test_agents_take_the_newest_version_and_keep_the_last_good_one(site: Site, mesh_sandbox: Sandbox) -> None:
    """Pushed by command, refused with a fault that no check has seen, and rolled back."""
    into = "{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "
    site.write(f'{into}"first"\n')
    names = ("one", "two") if site.url else (None,)
    for name in names:
        site.start(name)
    config = site.node("one") if site.url else site.config

    def received(folder: str) -> bool:
        mesh_sandbox.deliver_message(BOB, b"x", file_name=f"{folder}.csv")
        until(lambda: (site.folder / folder / f"{folder}.csv").exists())
        return True

    def used(number: int) -> bool:
        with site.ledger() as ledger:
            return {node.configuration for node in ledger.nodes.all()} == {number}

    assert received("first")
    assert site.run("config", "diff", config=config)[0] == 2
    code, [pushed], _ = site.run("config", "push", "--reason", "the first", config=config)
    assert (code, pushed["reason"], pushed["is_new"]) == (0, "the first", True)
    assert site.run("config", "push", config=config)[1][0]["is_new"] is False
    until(lambda: used(pushed["number"]))

    new = site.folder / "new.toml"
    new.write_text(site.config.read_text().replace('"first"', '"second"'))
    code, changes, _ = site.run("config", "diff", str(new), config=config)
    assert (code, [change["name"] for change in changes]) == (14, ["mailboxes.X26ABC2.receive.1.into"])
    code, [second], _ = site.run("config", "push", str(new), config=config)
    until(lambda: used(second["number"]))
    assert received("second")

    with site.ledger() as ledger:
        broken = ledger.configurations.add('[mailboxes.X26ABC2]\nsettings = "gone.toml"\n', author="x", reason="x")
        until(lambda: len(list(ledger.search.events(kind="configuration refused"))) == len(names))
    assert used(second["number"])
    mesh_sandbox.deliver_message(BOB, b"x", file_name="still.csv")
    until(lambda: (site.folder / "second" / "still.csv").exists())

    code, _, said = site.run("config", "rollback", str(broken.number + 1), config=config)
    assert (code, "no version" in json.loads(said)["error"]["message"]) == (2, True)
    code, [third], _ = site.run("config", "rollback", str(pushed["number"]), config=config)
    assert (code, third["restores"], third["sha256"]) == (0, pushed["number"], pushed["sha256"])
    until(lambda: used(third["number"]))
    mesh_sandbox.deliver_message(BOB, b"x", file_name="again.csv")
    until(lambda: (site.folder / "first" / "again.csv").exists())
    code, history, _ = site.run("config", "history", config=config)
    assert [one["number"] for one in history] == [third["number"], broken.number, second["number"], pushed["number"]]
    assert len(history[0]["nodes"]) == len(names)
    code, steps, _ = site.run("check", config=config)
    assert f"by version {third['number']} in the ledger" in steps[0]["text"]


def test_an_agent_that_starts_works_by_the_newest_version_that_it_can(site: Site, mesh_sandbox: Sandbox) -> None:
    """In a fleet its own file need not name a mailbox."""
    site.write('{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n')
    config = site.node("one") if site.url else site.config
    assert site.run("config", "push", config=config)[0] == 0
    with site.ledger() as ledger:
        ledger.configurations.add('[mailboxes.X26ABC2]\nsettings = "gone.toml"\n', author="x", reason="x")
    if site.url:
        site.config.write_text("[agent]\n")
    process = site.start("one" if site.url else None)
    assert "gone.toml" in site.said(process)
    mesh_sandbox.deliver_message(BOB, b"x", file_name="a.csv")
    until(lambda: (site.folder / "in" / "a.csv").exists())
