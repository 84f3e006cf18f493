"""Messages out of S3, on a real server (SeaweedFS); faults come from a proxy before it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty_proxy import FaultyProxy, store_error
from nel_mesh import InvalidArgument, MeshClient, Outcome, SourceError
from nel_mesh.io.content import Content
from nel_mesh.sandbox import Sandbox
from nel_mesh.sources.s3 import S3Source
from nel_mesh.sources.urls import source_of
from stores import S3, s3_environment
from variants import Connector

CONTENT = os.urandom(3_500_000)
KEY = "out/2026 #1?/results+.csv"
GET = r"GET /\S*/out/"


@pytest.fixture
def stored(s3: S3) -> str:
    """The URL of an object."""
    s3.client.put_object(Bucket=s3.bucket, Key=KEY, Body=CONTENT)
    return f"s3://{s3.bucket}/{KEY}"


@pytest.fixture
def proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.url).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzipped"])
def test_an_object_is_sent_in_chunks(mesh_sandbox: Sandbox, connect: Connector, stored: str, compress: bool) -> None:
    alice = connect(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1))
    sent = alice.send_file(stored, to="X26ABC2", workflow_id="WF", compress=compress)
    assert (sent.bytes, sent.chunks) == (len(CONTENT), 4)
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    (message,) = mesh_sandbox.messages(recipient="X26ABC2")
    assert message.description.file_name == "results+.csv"


def test_the_object_is_read_once(mesh_sandbox: Sandbox, stored: str, proxy: FaultyProxy, tmp_path: Path) -> None:
    """One response for all chunks, with a record too; only a chunk that is sent again is read again."""
    mesh_sandbox.add_fault("send_chunk:2:respond=503")
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        sent = alice.send_file(stored, to="X26ABC2", workflow_id="WF", resume=tmp_path / "record.json")
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    assert proxy.count(GET) == 2


@pytest.mark.parametrize("how", ["cut", "cut-response", "lose-response"])
def test_a_lost_connection_is_made_again(mesh_sandbox: Sandbox, stored: str, proxy: FaultyProxy, how: str) -> None:
    proxy.add(GET, how)
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        sent = alice.send_file(stored, to="X26ABC2", workflow_id="WF")
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    assert proxy.count(GET) == 2


def test_another_process_resumes(mesh_sandbox: Sandbox, s3: S3, stored: str, tmp_path: Path) -> None:
    """By the ETag: the chunks that MESH has are not read again."""
    for _ in range(5):
        mesh_sandbox.add_fault("send_chunk:2:respond=403")
    record = tmp_path / "record.json"
    for failing in (True, False):
        with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
            if failing:
                with pytest.raises(Exception, match="403"):
                    alice.send_file(stored, to="X26ABC2", workflow_id="WF", resume=record)
                mesh_sandbox.clear_faults()
            else:
                before = len(mesh_sandbox.requests("send_chunk"))
                sent = alice.send_file(stored, to="X26ABC2", workflow_id="WF", resume=record)
    assert mesh_sandbox.content(sent.message_id) == CONTENT
    assert len(mesh_sandbox.requests("send_message")) == 1
    assert len(mesh_sandbox.requests("send_chunk")) - before == 2


def test_an_object_that_changed_is_not_resumed(mesh_sandbox: Sandbox, s3: S3, stored: str, tmp_path: Path) -> None:
    mesh_sandbox.add_fault("send_chunk:2:respond=403")
    record = tmp_path / "record.json"
    with MeshClient(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=1)) as alice:
        with pytest.raises(Exception, match="403"):
            alice.send_file(stored, to="X26ABC2", workflow_id="WF", resume=record)
        s3.client.put_object(Bucket=s3.bucket, Key=KEY, Body=CONTENT[::-1])
        with pytest.raises(SourceError, match="it has changed since this send began"):
            alice.send_file(stored, to="X26ABC2", workflow_id="WF", resume=record)
    assert mesh_sandbox.delivered("X26ABC2") == []


def opened(stored: str) -> Content:
    source = source_of(stored)
    assert source is not None
    return source.open()


def test_an_object_that_changes_while_it_is_read(s3: S3, stored: str) -> None:
    content = opened(stored)
    assert content.read(0, 1000) == CONTENT[:1000]
    s3.client.put_object(Bucket=s3.bucket, Key=KEY, Body=CONTENT[::-1])
    with pytest.raises(SourceError, match="changed while it was being sent"):
        content.read(500, 1000)
    content.close()


def test_content_is_read_at_any_place_by_several_threads(stored: str) -> None:
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


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, "NoSuchKey"), "there is no such object in s3://test-results"),
        ((403, "AccessDenied"), "these AWS credentials may not do that"),
    ],
)
def test_an_object_that_cannot_be_read(
    mesh_sandbox: Sandbox, stored: str, proxy: FaultyProxy, answer: tuple[int, str], reason: str
) -> None:
    """The error does not repeat the key, which somebody else chose."""
    proxy.add("", "respond", status=answer[0], body=store_error(answer[1]), times=9)
    with MeshClient(mesh_sandbox.settings("X26ABC1")) as alice, pytest.raises(SourceError, match=reason) as caught:
        alice.send_file(stored, to="X26ABC2", workflow_id="WF")
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
        ("gs://results/a", "gs:// cannot be read from; known are"),
    ],
)
def test_urls_that_are_refused(mesh_sandbox: Sandbox, url: str, reason: str) -> None:
    with MeshClient(mesh_sandbox.settings("X26ABC1")) as alice, pytest.raises(InvalidArgument, match=reason) as caught:
        alice.send_file(url, to="X26ABC2", workflow_id="WF")
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "secret" not in str(caught.value)


def test_a_source_with_a_client_of_its_own(s3: S3, stored: str) -> None:
    content = S3Source(bucket=s3.bucket, key=KEY, client=s3.new_client()).open()
    assert b"".join(content.blocks(0, content.length)) == CONTENT
    content.close()
    assert s3_environment(s3.url)["AWS_ENDPOINT_URL"] == s3.url
