"""Files sent out of OpenSSH's sshd; faults are those of a server in this process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nel_mesh import InvalidArgument, MeshClient, Outcome, SourceError
from nel_mesh.io.content import Content
from nel_mesh.sandbox import Sandbox
from nel_mesh.sources.sftp import SftpSource
from nel_mesh.sources.urls import source_of
from sftp_server import PERMISSION_DENIED, FaultyServer
from sshd import SftpAccount
from variants import Connector

CONTENT = os.urandom(3_500_000)
NAME = "out/2026 1?/results+.csv"
URL_NAME = "out/2026 1%3F/results+.csv"


def stored(account: SftpAccount, content: bytes = CONTENT) -> str:
    """The URL of a file with that content."""
    path = account.folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return account.url(URL_NAME)


def replace(account: SftpAccount) -> None:
    """By another file of the same length."""
    path = account.folder / NAME
    path.with_suffix(".new").write_bytes(CONTENT[::-1])
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzipped"])
def test_a_file_is_sent_in_chunks(mesh_sandbox: Sandbox, connect: Connector, sftp: SftpAccount, compress: bool) -> None:
    alice = connect(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1))
    sent = alice.send_file(stored(sftp), to="X26ABC2", workflow_id="WF", compress=compress)
    assert (sent.bytes, sent.chunks) == (len(CONTENT), 4)
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    (message,) = mesh_sandbox.messages(recipient="X26ABC2")
    assert message.description.file_name == "results+.csv"


def test_a_file_is_read_once(mesh_sandbox: Sandbox, faulty_sftp: FaultyServer, tmp_path: Path) -> None:
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        alice.send_file(stored(faulty_sftp), to="X26ABC2", workflow_id="WF", resume=tmp_path / "record.json")
    assert faulty_sftp.count("^open ") == 1
    # Four blocks of a mebibyte, or what is left, and one read that finds the end.
    assert faulty_sftp.count("^read") <= 6


@pytest.mark.parametrize("how", ["cut", "lose-response", "refuse"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_lost_connection_is_made_again(
    mesh_sandbox: Sandbox, faulty_sftp: FaultyServer, how: str, after: int
) -> None:
    faulty_sftp.add("^read", how, after=after)
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        sent = alice.send_file(stored(faulty_sftp), to="X26ABC2", workflow_id="WF")
    assert mesh_sandbox.content(sent.message_id) == CONTENT


def test_another_process_resumes(mesh_sandbox: Sandbox, faulty_sftp: FaultyServer, tmp_path: Path) -> None:
    """By length and date: what MESH has is not read again."""
    record, url = tmp_path / "record.json", stored(faulty_sftp)
    mesh_sandbox.add_fault("send_chunk:3:respond=403")
    for failing in (True, False):
        with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
            if failing:
                with pytest.raises(Exception, match="403"):
                    alice.send_file(url, to="X26ABC2", workflow_id="WF", resume=record)
                faulty_sftp.seen.clear()
            else:
                sent = alice.send_file(url, to="X26ABC2", workflow_id="WF", resume=record)
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    assert len(mesh_sandbox.requests("send_message")) == 1
    # Two blocks, and one read that finds the end.
    assert faulty_sftp.count("^read") <= 3


def test_a_file_that_changed_is_not_resumed(mesh_sandbox: Sandbox, sftp: SftpAccount, tmp_path: Path) -> None:
    record, url = tmp_path / "record.json", stored(sftp)
    mesh_sandbox.add_fault("send_chunk:2:respond=403")
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        with pytest.raises(Exception, match="403"):
            alice.send_file(url, to="X26ABC2", workflow_id="WF", resume=record)
        replace(sftp)
        with pytest.raises(SourceError, match="it has changed since this send began"):
            alice.send_file(url, to="X26ABC2", workflow_id="WF", resume=record)
    assert mesh_sandbox.delivered("X26ABC2") == []


def opened(url: str) -> Content:
    source = source_of(url)
    assert source is not None
    return source.open()


def test_a_file_that_is_written_to_while_it_is_read(sftp: SftpAccount) -> None:
    content = opened(stored(sftp))
    assert content.read(0, 1000) == CONTENT[:1000]
    (sftp.folder / NAME).write_bytes(CONTENT[::-1])
    with pytest.raises(SourceError, match="changed while it was being sent"):
        content.read(2_000_000, 1000)
    content.close()


def test_a_file_that_is_replaced_while_it_is_read(faulty_sftp: FaultyServer) -> None:
    """The one that was opened is read to its end; on a new connection it is no longer there."""
    content = opened(stored(faulty_sftp))
    assert content.read(0, 1000) == CONTENT[:1000]
    replace(faulty_sftp)
    assert content.read(2_000_000, 1000) == CONTENT[2_000_000:2_001_000]
    faulty_sftp.add("^read", "cut")
    with pytest.raises(SourceError, match="changed while it was being sent"):
        content.read(500, 1000)
    content.close()


def test_content_is_read_at_any_place_by_several_threads(sftp: SftpAccount) -> None:
    content = opened(stored(sftp))
    wrong: list[int] = []

    def read(start: int) -> None:
        places = range(start, len(CONTENT) - 50_000, 400_000)
        wrong.extend(one for one in places if content.read(one, 50_000) != CONTENT[one : one + 50_000])

    threads = [threading.Thread(target=read, args=(start * 50_000,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert content.length == len(CONTENT)
    content.close()
    with pytest.raises(SourceError, match="the send has ended"):
        content.read(0, 1)


def test_an_unknown_host_key(mesh_sandbox: Sandbox, sftp: SftpAccount, tmp_path: Path) -> None:
    """The error does not repeat the path, which somebody else chose."""
    stored(sftp)
    (tmp_path / "known_hosts").write_text("")
    source = SftpSource(
        host="127.0.0.1", port=sftp.port, path=f"{sftp.folder}/{NAME}", known_hosts=tmp_path / "known_hosts"
    )
    with pytest.raises(SourceError, match="the host key of the server is not known: nothing was sent") as caught:
        source.open()
    assert "results+" not in str(caught.value)


@pytest.mark.parametrize("reason", ["there is no such file on sftp://127.0.0.1", "the account may not do that"])
def test_a_file_that_cannot_be_read(mesh_sandbox: Sandbox, faulty_sftp: FaultyServer, reason: str) -> None:
    url = stored(faulty_sftp)
    if "no such file" in reason:
        (faulty_sftp.folder / NAME).unlink()
    else:
        faulty_sftp.add("^open", "refuse", code=PERMISSION_DENIED)
    with MeshClient(mesh_sandbox.settings("X26ABC1")) as alice, pytest.raises(SourceError, match=reason) as caught:
        alice.send_file(url, to="X26ABC2", workflow_id="WF")
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "results+" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sftp://host", "name the host and the file"),
        ("sftp:///a.csv", "name the host and the file"),
        ("sftp://host/folder/", "name the host and the file"),
        ("sftp://host/folder/..", "name the host and the file"),
        ("sftp://alice:secret@host/a.csv", "a URL holds no password"),
        ("sftp://host/a.csv?x=1", "write %3F for a question mark"),
        ("sftp://host/a.csv#1", "write %23 for one in a name"),
        ("sftp://host:x/a.csv", "the port of a URL"),
    ],
)
def test_urls_that_are_refused(mesh_sandbox: Sandbox, url: str, reason: str) -> None:
    with MeshClient(mesh_sandbox.settings("X26ABC1")) as alice, pytest.raises(InvalidArgument, match=reason) as caught:
        alice.send_file(url, to="X26ABC2", workflow_id="WF")
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "secret" not in str(caught.value)


def test_without_asyncssh() -> None:
    program = """
import sys
sys.modules["asyncssh"] = None
from nel_mesh import *
from nel_mesh.sources.urls import source_of
for make in (source_of, open_destination):
    try:
        make("sftp://host/a.csv")
    except InvalidArgument as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "SFTP needs asyncssh; run pip install 'nel-mesh[sftp]'\n" * 2
