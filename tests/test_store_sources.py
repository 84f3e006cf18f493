"""Messages out of S3 and Azure, on real servers (SeaweedFS, Azurite); faults come from a proxy before them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import FaultyProxy, store_error
from nel_mesh import InvalidArgument, MeshClient, Outcome, SourceError
from nel_mesh.io.content import Content, RemoteSource
from nel_mesh.sandbox import Sandbox
from nel_mesh.sources.azure import AzureSource
from nel_mesh.sources.s3 import S3Source
from nel_mesh.sources.urls import source_of
from stores import AZURE_ACCOUNT, S3, Azure, azure_environment, s3_environment
from variants import Connector

CONTENT = os.urandom(3_500_000)
KEY = "out/2026 #1?/results+.csv"
GET = r"GET /\S*/out/"


class Stored:
    """An object in a store.

    Attributes:
        url: its URL, as it is sent.
        place: what an error shows of it.
        server: the address of the store.
        environment: where its library finds a server and credentials.
        replace: replaces it by other content.
        remove: removes it.
        source: opens it through a server, by a client that tries again at once.
    """

    url: str
    place: str
    server: str
    environment: Callable[[str], dict[str, str]]

    def replace(self, content: bytes) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError

    def source(self, url: str) -> RemoteSource:
        raise NotImplementedError


class StoredInS3(Stored):
    environment = staticmethod(s3_environment)

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self.server, self.place = s3.url, f"s3://{s3.bucket}"
        self.url = f"{self.place}/{KEY}"
        self.replace(CONTENT)

    def replace(self, content: bytes) -> None:
        self._s3.client.put_object(Bucket=self._s3.bucket, Key=KEY, Body=content)

    def remove(self) -> None:
        self._s3.client.delete_object(Bucket=self._s3.bucket, Key=KEY)

    def source(self, url: str) -> RemoteSource:
        return S3Source(bucket=self._s3.bucket, key=KEY, client=self._s3.new_client(url))


class StoredInAzure(Stored):
    environment = staticmethod(azure_environment)

    def __init__(self, azure: Azure) -> None:
        self._azure = azure
        self.server, self.place = azure.url, azure.place
        self.url = f"{self.place}/{KEY.replace('#', '%23').replace('?', '%3F')}"
        self.replace(CONTENT)

    def replace(self, content: bytes) -> None:
        self._azure.client.upload_blob(KEY, content, overwrite=True)

    def remove(self) -> None:
        self._azure.client.delete_blob(KEY)

    def source(self, url: str) -> RemoteSource:
        return AzureSource(name=KEY, client=self._azure.new_client(url))


@pytest.fixture(params=["s3", "azure"])
def stored(request: pytest.FixtureRequest) -> Stored:
    if request.param == "s3":
        return StoredInS3(request.getfixturevalue("s3"))
    return StoredInAzure(request.getfixturevalue("azure"))


@pytest.fixture
def proxy(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with FaultyProxy(stored.server).running() as proxy:
        for name, value in stored.environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzipped"])
def test_an_object_is_sent_in_chunks(mesh_sandbox: Sandbox, connect: Connector, stored: Stored, compress: bool) -> None:
    alice = connect(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1))
    sent = alice.send_file(stored.url, to="X26ABC2", workflow_id="WF", compress=compress)
    assert (sent.bytes, sent.chunks) == (len(CONTENT), 4)
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    (message,) = mesh_sandbox.messages(recipient="X26ABC2")
    assert message.description.file_name == "results+.csv"


def test_the_object_is_read_once(mesh_sandbox: Sandbox, stored: Stored, proxy: FaultyProxy, tmp_path: Path) -> None:
    """One response for all chunks, with a record too; only a chunk that is sent again is read again."""
    mesh_sandbox.add_fault("send_chunk:2:respond=503")
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        sent = alice.send_file(stored.url, to="X26ABC2", workflow_id="WF", resume=tmp_path / "record.json")
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    assert proxy.count(GET) == 2


@pytest.mark.parametrize("how", ["cut", "cut-response", "lose-response"])
def test_a_lost_connection_is_made_again(stored: Stored, proxy: FaultyProxy, how: str) -> None:
    proxy.add(GET, how)
    content = stored.source(proxy.url).open()
    assert b"".join(content.blocks(0, content.length)) == CONTENT
    content.close()
    assert proxy.count(GET) == 2


def test_another_process_resumes(mesh_sandbox: Sandbox, stored: Stored, tmp_path: Path) -> None:
    """By the ETag: the chunks that MESH has are not read again."""
    for _ in range(5):
        mesh_sandbox.add_fault("send_chunk:2:respond=403")
    record = tmp_path / "record.json"
    for failing in (True, False):
        with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
            if failing:
                with pytest.raises(Exception, match="403"):
                    alice.send_file(stored.url, to="X26ABC2", workflow_id="WF", resume=record)
                mesh_sandbox.clear_faults()
            else:
                before = len(mesh_sandbox.requests("send_chunk"))
                sent = alice.send_file(stored.url, to="X26ABC2", workflow_id="WF", resume=record)
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    assert len(mesh_sandbox.requests("send_message")) == 1
    assert len(mesh_sandbox.requests("send_chunk")) - before == 2


def test_an_object_that_changed_is_not_resumed(mesh_sandbox: Sandbox, stored: Stored, tmp_path: Path) -> None:
    mesh_sandbox.add_fault("send_chunk:2:respond=403")
    record = tmp_path / "record.json"
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        with pytest.raises(Exception, match="403"):
            alice.send_file(stored.url, to="X26ABC2", workflow_id="WF", resume=record)
        stored.replace(CONTENT[::-1])
        with pytest.raises(SourceError, match="it has changed since this send began"):
            alice.send_file(stored.url, to="X26ABC2", workflow_id="WF", resume=record)
    assert mesh_sandbox.delivered("X26ABC2") == []


def opened(stored: Stored) -> Content:
    source = source_of(stored.url)
    assert source is not None
    return source.open()


def test_an_object_that_changes_while_it_is_read(stored: Stored) -> None:
    content = opened(stored)
    assert content.read(0, 1000) == CONTENT[:1000]
    stored.replace(CONTENT[::-1])
    with pytest.raises(SourceError, match="changed while it was being sent"):
        content.read(500, 1000)
    content.close()


def test_content_is_read_at_any_place_by_several_threads(stored: Stored) -> None:
    content = opened(stored)
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


@pytest.mark.parametrize("reason", ["content: there is no such (object|blob) in {place}; check", "may not do that"])
def test_an_object_that_cannot_be_read(mesh_sandbox: Sandbox, stored: Stored, proxy: FaultyProxy, reason: str) -> None:
    """The error does not repeat the key, which somebody else chose."""
    if "no such" in reason:
        stored.remove()
    else:
        proxy.add("", "respond", status=403, body=store_error("AccessDenied"), times=9)
    reason = reason.format(place=stored.place)
    with MeshClient(mesh_sandbox.settings("X26ABC1")) as alice, pytest.raises(SourceError, match=reason) as caught:
        alice.send_file(stored.url, to="X26ABC2", workflow_id="WF")
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "results+" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://results", "name the bucket and the object"),
        ("s3://results/", "name the bucket and the object"),
        ("s3:///key", "name the bucket and the object"),
        ("s3://results/folder/", "name the bucket and the object"),
        ("s3://key:secret@results/a", "a URL holds no credentials"),
        ("azure://account", "name account, container and blob"),
        ("azure://account/results", "name account, container and blob"),
        ("azure:///results/a", "name account, container and blob"),
        ("azure://account/results/folder/", "name account, container and blob"),
        ("azure://account:secret@host/results/a", "a URL holds no credentials"),
        ("azure://account/results/a?sv=1&sig=secret", "a URL holds no credentials"),
        ("azure://account/results/a?x=1", "write %3F for a question mark"),
        ("gs://results/a", "gs:// cannot be read from; known are azure://, s3://, sftp:// and files"),
    ],
)
def test_urls_that_are_refused(mesh_sandbox: Sandbox, url: str, reason: str) -> None:
    with MeshClient(mesh_sandbox.settings("X26ABC1")) as alice, pytest.raises(InvalidArgument, match=reason) as caught:
        alice.send_file(url, to="X26ABC2", workflow_id="WF")
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package", "reason"),
    [
        ("s3://results/a", "boto3", "S3 needs boto3; run pip install 'nel-mesh[s3]'"),
        (
            f"azure://{AZURE_ACCOUNT}/results/a",
            "azure.storage.blob",
            "Azure needs azure-storage-blob; run pip install 'nel-mesh[azure]'",
        ),
    ],
)
def test_without_the_packages(url: str, package: str, reason: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from nel_mesh import *
from nel_mesh.sources.urls import source_of
try:
    source_of({url!r}).open()
except InvalidArgument as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{reason}\n"


def test_the_container_is_named_once(azure: Azure) -> None:
    arguments: tuple[dict[str, Any], ...] = ({"name": "a"}, {"name": "a", "container": "c", "client": azure.client})
    for keywords in arguments:
        with pytest.raises(InvalidArgument, match="name account, container and blob"):
            AzureSource(**keywords)
