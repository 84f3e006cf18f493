"""Messages into a folder of OpenSSH's sshd."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import InvalidArgument, MeshClient, SftpDestination, StorageError, open_destination
from nel_mesh.models import MessageMetadata
from nel_mesh.sandbox import Sandbox
from sshd import SftpAccount
from variants import Connector

CHUNKS = [hashlib.shake_128(str(length).encode()).digest(length) for length in (3_000_000, 100, 2_500_000)]
CONTENT = b"".join(CHUNKS)


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as client:
        yield client


def deliver(mesh: Sandbox, content: bytes | list[bytes], **options: Any) -> str:
    checksum = hashlib.sha256(content if isinstance(content, bytes) else b"".join(content)).hexdigest()
    more = {"workflow_id": "PATH V2", "subject": "Jane Doe", "file_name": "../jane.csv", "checksum": checksum}
    return mesh.deliver_message("X26ABC2", content, **{**more, **options})


@pytest.mark.parametrize("content", [b"small", CHUNKS], ids=["small", "chunked"])
def test_messages_are_files(
    mesh_sandbox: Sandbox, connect: Connector, sftp: SftpAccount, content: bytes | list[bytes]
) -> None:
    message_id = deliver(mesh_sandbox, content)
    client = connect(mesh_sandbox.settings("X26ABC2"))
    result = client.receive_messages(sftp.url("in?prefix={workflow_id}/{message_id}"))
    result.raise_for_failed()
    name = f"in/PATH_V2/{message_id}"
    assert [file.location for file in result.files] == [sftp.url(name)]
    assert [file.verified for file in result.files] == [True]
    assert sftp.files() == {name: content if isinstance(content, bytes) else CONTENT}
    assert (sftp.folder / name).stat().st_mode & 0o777 == 0o600
    state = [path.name for path in (sftp.folder / "in/.nel-mesh").rglob("*") if path.is_file()]
    assert state == [f"{message_id}.json"], "the journal's entry, and no record"
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "acknowledged"


def test_what_was_delivered_is_only_acknowledged_again(
    mesh_sandbox: Sandbox, bob: MeshClient, sftp: SftpAccount
) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    bob.receive_messages(sftp.url("in"), acknowledge=False).raise_for_failed()
    assert bob.receive_messages(sftp.url("in")).already_delivered == [message_id]


def test_a_report_and_a_sidecar(mesh_sandbox: Sandbox, bob: MeshClient, sftp: SftpAccount) -> None:
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    message_id = deliver(mesh_sandbox, b"content")
    destination = SftpDestination(host="127.0.0.1", port=sftp.port, folder=str(sftp.folder), key="in", sidecar=True)
    bob.receive_messages(destination).raise_for_failed()
    destination.close()
    files = sftp.files()
    assert set(files) == {
        f"in/{name}" for name in (message_id, f"{message_id}.json", f"{report}.json", f"{report}.json.json")
    }
    assert json.loads(files[f"in/{message_id}.json"])["subject"] == "Jane Doe"
    assert json.loads(files[f"in/{report}.json"])["linked_message_id"] == "M0"


def test_a_name_that_is_taken_is_kept(mesh_sandbox: Sandbox, bob: MeshClient, sftp: SftpAccount) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    (sftp.folder / "in").mkdir()
    (sftp.folder / "in" / message_id).write_bytes(b"of others")
    (failed,) = bob.receive_messages(sftp.url("in")).failed
    assert isinstance(failed.error, StorageError)
    assert (sftp.folder / "in" / message_id).read_bytes() == b"of others"
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"


METADATA = MessageMetadata(message_id="M1", message_type="DATA", checksum=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def destination(sftp: SftpAccount) -> Iterator[SftpDestination]:
    destination = SftpDestination(host="127.0.0.1", port=sftp.port, folder=str(sftp.folder), key="in")
    yield destination
    destination.close()


def test_another_machine_continues(destination: SftpDestination, sftp: SftpAccount) -> None:
    """With more in the file than the record says, from a chunk that was not finished."""
    first = destination.upload("M1")
    first.start(METADATA)
    first.write([CHUNKS[0]])
    checkpoint = first.checkpoint()
    first.write([b"x" * 5_000_000])
    assert first.checkpoint() == checkpoint, "a disk is not waited for at each chunk"
    first.finish()
    first.close()
    second = destination.upload("M1")
    assert second.resume(checkpoint.state, METADATA) == 8_000_000
    second.truncate(checkpoint.length)
    for chunk in CHUNKS[1:]:
        second.write([chunk])
        second.checkpoint()
    assert second.finish().length == len(CONTENT)
    assert second.digest("sha256", len(CONTENT)) == hashlib.sha256(CONTENT).hexdigest()
    assert second.publish("in/M1")
    second.remove()
    assert sftp.files() == {"in/M1": CONTENT}


def test_a_kill_between_the_name_and_the_end(destination: SftpDestination, sftp: SftpAccount) -> None:
    first = destination.upload("M1")
    first.start(METADATA)
    first.write([CONTENT])
    state = first.finish().state
    (partial,) = (sftp.folder / "in/.incoming").iterdir()
    (sftp.folder / "in/M1").hardlink_to(partial)
    second = destination.upload("M1")
    assert second.resume(state, METADATA) == len(CONTENT)
    assert second.is_published("in/M1", len(CONTENT))
    first.close()
    second.remove()
    assert sftp.files() == {"in/M1": CONTENT}
    third = destination.upload("M1")
    assert third.resume(state, METADATA) is None
    assert third.is_published("in/M1", len(CONTENT))


def test_two_machines_at_once(destination: SftpDestination, sftp: SftpAccount) -> None:
    one, other = destination.upload("M1"), destination.upload("M1")
    for upload in (one, other):
        upload.start(METADATA)
        upload.write([CHUNKS[0]])
    for upload in (one, other):
        upload.write(CHUNKS[1:])
        upload.finish()
        assert upload.publish("in/M1")
    for upload in (one, other):
        upload.remove()
    assert sftp.files() == {"in/M1": CONTENT}


def test_an_unknown_and_a_changed_host_key(
    sftp: SftpAccount, tmp_path: Path, bob: MeshClient, mesh_sandbox: Sandbox
) -> None:
    deliver(mesh_sandbox, b"content")
    _, name = sftp.known_hosts.read_text().split()[1:3], tmp_path / "known_hosts"
    name.write_text("")
    for reason in ("is not known: nothing was sent", "is not the one that is known"):
        destination = SftpDestination(host="127.0.0.1", port=sftp.port, folder=str(sftp.folder), known_hosts=name)
        with pytest.raises(StorageError, match=f"{reason}.*ssh-keyscan -p {sftp.port} 127.0.0.1"):
            bob.receive_messages(destination)
        destination.close()
        accepted = (sftp.home / ".ssh/id_ed25519.pub").read_text()
        name.write_text(f"[127.0.0.1]:{sftp.port} {accepted}")
    assert sftp.files() == {}


def test_an_account_that_is_refused(sftp: SftpAccount, bob: MeshClient, mesh_sandbox: Sandbox) -> None:
    destination = SftpDestination(
        host="127.0.0.1", port=sftp.port, username="nobody", folder=str(sftp.folder), timeout_seconds=30
    )
    with pytest.raises(StorageError, match="refused the login of nobody"):
        bob.receive_messages(destination)
    destination.close()


def test_no_server(bob: MeshClient, sftp: SftpAccount) -> None:
    with pytest.raises(StorageError, match="sftp://127.0.0.1:1: no connection"):
        bob.receive_messages("sftp://127.0.0.1:1/in")


@pytest.mark.parametrize("name", ["in/../M1", "/etc/M1", "in/.nel-mesh/x", "in/.incoming/M1", "in//M1", "other/M1"])
def test_names_that_are_not_ours(name: str) -> None:
    destination = open_destination("sftp://host/in")
    assert destination.is_name("in/M1")
    assert not destination.is_name(name)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sftp://", "name the host"),
        ("sftp:///in", "name the host"),
        ("sftp://user:secret@host/in", "a URL holds no password"),
        ("sftp://host/in?key=x", "has no option key"),
        ("sftp://host/in#x", "a URL ends before its #"),
        ("sftp://host:x/in", "the port of a URL"),
        ("sftp://host/{nhs_number}", "in braces is one of"),
        ("sftp://host/../in", "has an empty part"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^destination: .*{reason}") as caught:
        open_destination(url)
    assert "secret" not in str(caught.value)
