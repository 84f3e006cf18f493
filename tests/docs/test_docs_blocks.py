"""Every block of code in the documentation is run; what cannot be says why, in a comment before it."""

from __future__ import annotations

import ast
import builtins
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_commands import first_command
from pages import PAGES, Page
from running import Needs, Reader, commands, compare

import nel_mesh
import nel_mesh.sandbox
from certificates import root as authority
from java_client import write_configuration
from nel_mesh.sandbox import Sandbox
from sshd import SftpAccount
from stores import S3, azure_environment, azurite, s3_environment, skipped_if_missing, temporary_seaweedfs

pytest_plugins = ["ledger_fixtures"]

CSV = b"specimen,taken,test,unit,value\n" + b"000000001,2026-01-31,HbA1c,mmol/mol,48\n" * 5_000


def mail(server: Sandbox) -> None:
    """Put three messages and a report into the inbox of X26ABC1."""
    for number in range(3):
        server.deliver_message(
            "X26ABC1", CSV, sender="X26ABC2", workflow_id="PATH_RESULTS", file_name=f"results-{number}.csv"
        )
    failed = f"20260101120000000000_{len(server.messages()):06X}"
    server.deliver_report("X26ABC1", linked_message_id=failed, workflow_id="PATH_RESULTS")


def certificates(_: Sandbox, folder: Path) -> None:
    """What NHS England sends."""
    root = authority("RootCA")
    sub = root.issue("SubCA", authority=True)
    for name, pair in {"RootCA": root, "SubCA": sub, "mesh": sub.issue("SERVER001")}.items():
        (folder / "certificates").mkdir(exist_ok=True)
        (folder / f"certificates/{name}.pem").write_text(pair.pem, encoding="utf-8")


def every_public_name(server: Sandbox) -> dict[str, Any]:
    """For examples in docstrings."""
    public = {name: getattr(module, name) for module in (nel_mesh, nel_mesh.sandbox) for name in module.__all__}
    settings = {"settings_of_first": server.settings("X26ABC1"), "settings_of_second": server.settings("X26ABC2")}
    return {**public, **settings, "mesh": server}


def clinic(_: Sandbox, folder: Path) -> None:
    """Write a settings file with two profiles."""
    outside = (folder / "mesh.toml").read_text(encoding="utf-8")
    profiles = '[profiles.lab]\nmailbox_id = "X26ABC1"\n[profiles.referrals]\nmailbox_id = "X26ABC2"\n'
    (folder / "clinic.toml").write_text(f"{outside}{profiles}", encoding="utf-8")


def java_client(server: Sandbox, folder: Path) -> None:
    """Write the configuration of a Java client, and the folders of its mailbox."""
    write_configuration(folder, server, folder / "home" / "given", ["X26ABC1"])
    (folder / "X26ABC1/OUT").mkdir(parents=True)


def a_waiting_message(server: Sandbox, _: Path) -> None:
    """Put a message into the inbox of X26ABC1."""
    server.deliver_message("X26ABC1", CSV)


ALICE = {"mesh.toml": "X26ABC1"}
AGENT = '[agent]\n[mailboxes.X26ABC1]\nsettings = "mesh.toml"\n[[mailboxes.X26ABC1.receive]]\ninto = "in"\n'

NEEDS = {
    "README.md": Needs(settings={"appsettings.Development.json": "X26ABC1"}, files={"results.csv": CSV}, mail=mail),
    "docs/api.md": Needs(names=every_public_name),
    "docs/agent.md": Needs(settings={"x26abc1.toml": "X26ABC1"}),
    "docs/authorities.md": Needs(settings=ALICE),
    "docs/clients.md": Needs(settings=ALICE, prepare=clinic),
    "docs/console.md": Needs(settings={"x26abc1.toml": "X26ABC1"}),
    "docs/fleet.md": Needs(settings={"x26abc1.toml": "X26ABC1", **ALICE}),
    "docs/commands.md": Needs(settings=ALICE),
    "docs/destinations.md": Needs(settings=ALICE, mail=lambda server: server.deliver_message("X26ABC1", CSV)),
    "docs/errors.md": Needs(settings=ALICE),
    "docs/from-java-client.md": Needs(prepare=java_client),
    "docs/from-mesh-client.md": Needs(settings=ALICE, mail=mail),
    "docs/from-nel-mesh.md": Needs(
        settings={"appsettings.Development.json": "X26ABC1"}, files={"results.csv": CSV}, mail=mail
    ),
    "docs/going-live.md": Needs(
        prepare=certificates, environment={"MESH_PASSWORD": "invented", "MESH_SHARED_KEY": "invented"}
    ),
    "docs/large-files.md": Needs(settings=ALICE, files={"extract.csv": (2 * CSV)[:250_000]}, mail=mail),
    "docs/receiving.md": Needs(settings=ALICE, mail=mail),
    "docs/sending.md": Needs(settings=ALICE, files={"results.csv": CSV}),
    "docs/telemetry.md": Needs(settings=ALICE, mail=mail),
    "docs/settings.md": Needs(settings=ALICE, prepare=clinic),
    "docs/assurance.md": Needs(settings=ALICE),
    "docs/hazards.md": Needs(settings=ALICE),
    "docs/operations.md": Needs(settings=ALICE, files={"agent.toml": AGENT.encode()}),
    "docs/promises.md": Needs(settings=ALICE, prepare=a_waiting_message),
    "docs/security.md": Needs(settings=ALICE),
    "docs/versions.md": Needs(settings=ALICE),
    "docs/windows.md": Needs(settings=ALICE),
    "CHANGELOG.md": Needs(settings=ALICE),
}
"""What each page needs; one that is not here needs nothing."""


@pytest.fixture
def stores_of_the_page(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, sftp: SftpAccount
) -> Iterator[None]:
    """The buckets, the storage account and the server of SFTP that the page on destinations names."""
    from azure.storage.blob import BlobServiceClient

    with (
        skipped_if_missing(),
        temporary_seaweedfs() as url,
        azurite(tmp_path_factory.mktemp("azurite"), "account") as azure_url,
    ):
        client = S3(url).client
        for bucket in ("results", "extracts"):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket="extracts", Key="results.csv", Body=CSV)
        for name, value in {**s3_environment(url), **azure_environment(azure_url, "account")}.items():
            monkeypatch.setenv(name, value)
        account = BlobServiceClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
        account.create_container("results")
        account.create_container("extracts").upload_blob("results.csv", CSV)
        (sftp.folder / "out").mkdir()
        (sftp.folder / "out/results.csv").write_bytes(CSV)
        configuration = sftp.home / ".ssh/config"
        configuration.write_text(f"Host files.example\n  HostName 127.0.0.1\n  Port {sftp.port}\n")
        yield
        configuration.unlink()


# The blocks are written for a POSIX shell, with its quotes and pipes; Windows has none to run them in.
@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```" in page.text or "`nel-mesh " in page.text], ids=lambda page: page.name
)
def test_blocks_run(
    page: Page,
    mesh_sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    needs = NEEDS.get(page.name, Needs())
    monkeypatch.chdir(tmp_path)
    for name, value in needs.environment.items():
        monkeypatch.setenv(name, value)
    if page.name == "docs/destinations.md":
        request.getfixturevalue("stores_of_the_page")
    if page.name == "docs/fleet.md":
        url = request.getfixturevalue("postgresql_url")
        (tmp_path / "agent.toml").write_text(AGENT.replace("[agent]", f'[agent]\nledger = "{url}"'), encoding="utf-8")
    reader = Reader(tmp_path, mesh_sandbox, needs)
    try:
        reader.follow(page)
        # A page without a block of commands has some within its lines: the first of them is run.
        command = first_command(page) if "```sh" not in page.text else None
        if command is not None:
            reader.run(command, page.name)
        reader.test()
        if needs.mail is mail:
            lost = [one for one in unread_reports(mesh_sandbox, tmp_path) if one not in reader.printed]
            assert lost == [], "acknowledged, and neither stored nor shown (R4)"
            assert [path for path in (tmp_path / "inbox").glob("[!.]*") if not path.stat().st_size] == []
    finally:
        reader.close()


def unread_reports(server: Sandbox, folder: Path) -> list[str]:
    """Return the ids of the messages that acknowledged reports are about, but for reports that are stored."""
    return [
        report.failure.linked_message_id
        for report in server.messages(status="acknowledged")
        if report.failure and not (folder / f"inbox/report-{report.message_id}.json").exists()
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "docs/api.md"], ids=lambda page: page.name)
def test_a_block_can_be_copied_alone(page: Page) -> None:
    """A33: a block names all that it uses, but for what the page's first block makes: the client and its receipt."""
    for block in page.blocks:
        if block.language == "python":
            used = undefined(block.text)
            assert used <= {"mesh", "sent"}, f"{block}: not defined in this block"


def undefined(source: str) -> set[str]:
    """Return the names that a program uses and nothing in it defines."""
    tree = ast.parse(source)
    names = {node for node in ast.walk(tree) if isinstance(node, ast.Name)}
    defined = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            defined.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            defined.add(node.name)
    return {node.id for node in names} - defined


def test_an_undefined_name_is_found() -> None:
    assert undefined("from a import b\nb(c)\n") == {"c"}


MOST_NOT_RUN = 3


def test_what_is_not_run_is_little() -> None:
    left = [f"{block}: {block.reason}" for page in PAGES for block in page.blocks if block.reason]
    print("\n".join(left))
    assert len(left) <= MOST_NOT_RUN, left


def test_commands_are_found() -> None:
    assert commands("one \\\n    --more\n\ntwo\n") == ["one --more", "two"]


def test_output_is_compared() -> None:
    said = "first\nsent 20260101120000000000_0A1B2C in 3 s\nlast\n"
    compare("here", ["sent 20250101120000000000_FFFFFF in 14 s", "..."], said)
    with pytest.raises(AssertionError, match="it did not say: first"):
        compare("here", ["last", "first"], said)
