"""Messages into S3, on a real server (SeaweedFS); its faults come from a proxy before it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from faulty_proxy import FaultyProxy, store_error
from nel_mesh import InvalidArgument, MeshClient, S3Destination, StorageError, open_destination
from nel_mesh.sandbox import Sandbox
from store_messages import CHUNKS, CONTENT, deliver
from stores import S3, S3_SECRET
from variants import Connector

COMPLETE = r"POST /\S*uploadId="
PART = r"PUT /\S*partNumber="


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as client:
        yield client


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.url).running() as proxy:
        yield proxy


def through(proxy: FaultyProxy, s3: S3, **options: Any) -> S3Destination:
    client = s3.new_client(proxy.url)
    return S3Destination(bucket=s3.bucket, key="in/{message_id}", client=client, **options)


@pytest.mark.parametrize("content", [b"", b"small", CHUNKS], ids=["empty", "small", "chunked"])
def test_messages_are_objects(mesh_sandbox: Sandbox, connect: Connector, s3: S3, content: bytes | list[bytes]) -> None:
    message_id = deliver(mesh_sandbox, content or b"x" * (content == b""))
    whole = mesh_sandbox.content(message_id)
    client = connect(mesh_sandbox.settings("X26ABC2"))
    result = client.receive_messages(f"s3://{s3.bucket}/mesh?prefix={{workflow_id}}/{{message_id}}")
    result.raise_for_failed()
    key = f"mesh/PATH_V2/{message_id}"
    assert [file.location for file in result.files] == [f"s3://{s3.bucket}/{key}"]
    assert [file.verified for file in result.files] == [True]
    assert s3.messages() == [key]
    assert s3.content(key) == whole
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "acknowledged"
    assert s3.uploads() == []
    assert s3.keys("mesh/.nel-mesh/") == [f"mesh/.nel-mesh/received/X26ABC2/{message_id}.json"]
    head = s3.client.head_object(Bucket=s3.bucket, Key=key)
    assert head["Metadata"] == {
        "mesh-message-id": message_id, "mesh-workflow-id": "PATH V2", "mesh-sender": "X26ABC1", "mesh-type": "DATA",
    }  # fmt: skip


def test_a_report_is_an_object(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3) -> None:
    message_id = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    assert len(bob.receive_messages(f"s3://{s3.bucket}/{{type}}").reports) == 1
    (key,) = s3.messages()
    assert key == f"report/{message_id}.json"
    assert json.loads(s3.content(key))["linked_message_id"] == "M0"


def test_what_was_delivered_is_only_acknowledged_again(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    place = f"s3://{s3.bucket}/in"
    bob.receive_messages(place, acknowledge=False).raise_for_failed()
    (entry,) = open_destination(place).journal().entries()
    assert (entry.message_id, entry.location, entry.bytes) == (message_id, f"s3://{s3.bucket}/in/{message_id}", 7)
    assert bob.receive_messages(place).already_delivered == [message_id]


def test_the_sidecar_has_all_the_metadata(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    destination = S3Destination(bucket=s3.bucket, key="in", sidecar=True)
    bob.receive_messages(destination).raise_for_failed()
    destination.close()
    assert s3.messages() == [f"in/{message_id}", f"in/{message_id}.json"]
    assert json.loads(s3.content(f"in/{message_id}.json"))["subject"] == "Jane Doe"


def test_a_store_without_newer_checksums(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy) -> None:
    client = s3.new_client(proxy.url, request_checksum_calculation="when_required")
    destination = S3Destination(bucket=s3.bucket, key="in", client=client, request_checksum_calculation="when_required")
    deliver(mesh_sandbox, CHUNKS)
    deliver(mesh_sandbox, b"small")
    result = bob.receive_messages(destination)
    result.raise_for_failed()
    assert sorted(file.bytes for file in result.files) == [5, len(CONTENT)]
    large = max(result.files, key=lambda file: file.bytes)
    assert s3.content(large.location.split("/", 3)[3]) == CONTENT


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        (PART, "cut"),
        (PART, "lose-response"),
        (r"POST /\S*\?uploads", "cut"),
        (COMPLETE, "cut"),
        (COMPLETE, "lose-response"),
        (r"PUT /\S*/transfers/", "lose-response"),
        (r"PUT /\S*/received/", "lose-response"),
        ("HEAD", "lose-response"),
        ("GET", "cut-response"),
        ("DELETE", "lose-response"),
        (PART, "respond", 503, "SlowDown"),
        (COMPLETE, "respond", 503, "SlowDown"),
        (COMPLETE, "respond", 200, "InternalError"),
        ("HEAD", "respond", 500, "InternalError"),
    ],
    ids=str,
)
def test_one_fault_is_not_seen(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy, fault: tuple[Any, ...]
) -> None:
    pattern, how, *answer = fault
    proxy.add(pattern, how, **({"status": answer[0], "body": store_error(answer[1])} if answer else {}))
    message_id = deliver(mesh_sandbox, CHUNKS)
    destination = through(proxy, s3)
    bob.receive_messages(destination).raise_for_failed()
    assert [one.times for one in proxy.breaks] == [0], "the fault found nothing to strike at"
    assert s3.messages() == [f"in/{message_id}"]
    assert s3.content(f"in/{message_id}") == CONTENT
    assert s3.uploads() == []


@pytest.mark.parametrize("chunks", [[b"small"], CHUNKS], ids=["small", "chunked"])
@pytest.mark.parametrize("pattern", [COMPLETE, r"PUT /\S*/in/[^.?]*(\?x-id=PutObject)? "], ids=["complete", "put"])
def test_every_response_to_the_last_step_is_lost(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy, chunks: list[bytes], pattern: str
) -> None:
    """The object is looked for, and is ours."""
    proxy.add(pattern, "lose-response", times=10)
    message_id = deliver(mesh_sandbox, chunks)
    bob.receive_messages(through(proxy, s3)).raise_for_failed()
    assert s3.content(f"in/{message_id}") == b"".join(chunks)
    assert s3.uploads() == []


@pytest.mark.parametrize("chunks", [[b"small"], CHUNKS], ids=["small", "chunked"])
def test_a_key_that_is_taken_is_kept(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, chunks: list[bytes]) -> None:
    message_id = deliver(mesh_sandbox, chunks)
    s3.client.put_object(Bucket=s3.bucket, Key=f"in/{message_id}", Body=b"of others")
    (failed,) = bob.receive_messages(f"s3://{s3.bucket}/in").failed
    assert isinstance(failed.error, StorageError)
    assert f"s3://{s3.bucket}/in/{message_id}: something else is there" in str(failed.error)
    assert s3.content(f"in/{message_id}") == b"of others"
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"


@pytest.mark.parametrize("chunks", [[b"small"], CHUNKS], ids=["small", "chunked"])
def test_another_worker_was_faster(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy, chunks: list[bytes]
) -> None:
    """It completes the same message just before this one, cut into other parts: 412, and it is stored."""
    message_id = deliver(mesh_sandbox, chunks)

    def other() -> None:
        s3.client.put_object(
            Bucket=s3.bucket, Key=f"in/{message_id}", Body=b"".join(chunks), Metadata={"mesh-message-id": message_id}
        )

    proxy.add(rf"{COMPLETE}|PUT /\S*/in/{message_id}(\?x-id=PutObject)? ", "call", before=other)
    bob.receive_messages(through(proxy, s3)).raise_for_failed()
    assert [one.times for one in proxy.breaks] == [0]
    assert s3.content(f"in/{message_id}") == b"".join(chunks)
    assert s3.uploads() == []


def test_a_conflict_begins_the_upload_anew(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy) -> None:
    proxy.add(COMPLETE, "respond", status=409, body=store_error("ConditionalRequestConflict"))
    message_id = deliver(mesh_sandbox, CHUNKS)
    destination = through(proxy, s3)
    (failed,) = bob.receive_messages(destination).failed
    assert "ConditionalRequestConflict" in str(failed.error)
    assert s3.messages() == s3.uploads() == []
    bob.receive_messages(destination).raise_for_failed()
    assert proxy.count(r"POST /\S*\?uploads") == 2
    assert s3.content(f"in/{message_id}") == CONTENT


def test_a_conflict_of_a_small_object_is_tried_again(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy
) -> None:
    message_id = deliver(mesh_sandbox, b"small")
    proxy.add(rf"PUT /\S*/in/{message_id}", "respond", status=409, body=store_error("ConditionalRequestConflict"))
    bob.receive_messages(through(proxy, s3)).raise_for_failed()
    assert s3.content(f"in/{message_id}") == b"small"


def test_an_upload_that_is_gone_begins_anew(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy) -> None:
    """A lifecycle rule of the bucket has removed it between two runs."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    proxy.add(PART + "2", "respond", status=403, body=store_error("AccessDenied"), times=10)
    destination = through(proxy, s3)
    (failed,) = bob.receive_messages(destination).failed
    assert "AccessDenied" in str(failed.error)
    proxy.breaks.clear()
    (upload,) = s3.client.list_multipart_uploads(Bucket=s3.bucket)["Uploads"]
    s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    bob.receive_messages(destination).raise_for_failed()
    assert s3.content(f"in/{message_id}") == CONTENT
    assert s3.uploads() == []


def test_a_message_whose_first_chunks_are_stored_is_continued(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy
) -> None:
    """The sender's checksum is compared by reading the object back, before the message is acknowledged."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    proxy.add(PART + "2", "respond", status=403, body=store_error("AccessDenied"), times=10)
    destination = through(proxy, s3)
    assert len(bob.receive_messages(destination).failed) == 1
    proxy.breaks.clear()
    before = len(mesh_sandbox.requests("retrieve_chunk"))
    result = bob.receive_messages(destination)
    result.raise_for_failed()
    assert [file.verified for file in result.files] == [True]
    numbers = [request.path.rsplit("/", 1)[1] for request in mesh_sandbox.requests("retrieve_chunk")[before:]]
    assert sorted(set(numbers)) == ["2", "3", "4"]
    assert proxy.count(r"POST /\S*\?uploads") == 1
    assert proxy.count(rf"GET /\S*/in/{message_id}(?!\?uploadId)") == 1
    assert s3.content(f"in/{message_id}") == CONTENT


def test_another_checksum_than_the_senders_is_found_after_a_resume(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy
) -> None:
    deliver(mesh_sandbox, CHUNKS, checksum=f"sha256 {'0' * 64}")
    proxy.add(PART + "2", "respond", status=403, body=store_error("AccessDenied"), times=10)
    destination = through(proxy, s3)
    assert len(bob.receive_messages(destination).failed) == 1
    proxy.breaks.clear()
    (failed,) = bob.receive_messages(destination).failed
    assert type(failed.error).__name__ == "IntegrityError"
    assert s3.messages() == s3.uploads() == []
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, "ExpiredToken", "the AWS credentials have expired: renew them"),
        (403, "InvalidAccessKeyId", "check the AWS credentials"),
        (403, "AccessDenied", "these AWS credentials may not do that"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (403, "RequestTimeTooSkewed", "correct the clock"),
        (501, "NotImplemented", "request_checksum_calculation='when_required'"),
    ],
)
def test_a_refusal_says_what_to_do(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, proxy: FaultyProxy, status: int, code: str, advice: str
) -> None:
    """Before any message is fetched."""
    deliver(mesh_sandbox, b"content")
    proxy.add("", "respond", status=status, body=store_error(code), times=10)
    with pytest.raises(StorageError, match=code) as caught:
        bob.receive_messages(through(proxy, s3))
    assert advice in str(caught.value)
    assert S3_SECRET not in str(caught.value)
    assert mesh_sandbox.requests("retrieve_message") == []


def test_no_credentials(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no AWS credentials were found"):
        bob.receive_messages(f"s3://{s3.bucket}/in")


def test_no_connection(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3) -> None:
    client = s3.new_client("http://127.0.0.1:9")
    with pytest.raises(StorageError, match="no connection; check the region"):
        bob.receive_messages(S3Destination(bucket=s3.bucket, client=client))


def test_logs_of_boto3_at_their_most_talkative(
    mesh_sandbox: Sandbox, bob: MeshClient, s3: S3, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither secrets nor signatures, nor what a message says or holds."""
    caplog.set_level(logging.DEBUG)
    deliver(mesh_sandbox, b"canary-content", subject="canary-subject", file_name="canary-name")
    bob.receive_messages(S3Destination(bucket=s3.bucket, sidecar=True)).raise_for_failed()
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-session-token")
    with pytest.raises(StorageError):
        bob.receive_messages(f"s3://{s3.bucket}/in")
    said = "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
    assert "botocore" in {record.name.partition(".")[0] for record in caplog.records}
    for private in (S3_SECRET, "canary-session-token", "canary-content", "canary-subject", "canary-name", "Signature"):
        assert private not in said, private


# URLs


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("s3://results", "s3://results/{message_id}"),
        ("s3://results/mesh", "s3://results/mesh/{message_id}"),
        ("s3://results/{workflow_id}/{message_id}", "s3://results/{workflow_id}/{message_id}"),
        ("s3://results/mesh?prefix={date}/{message_id}", "s3://results/mesh/{date}/{message_id}"),
        ("s3://results/mesh/?prefix=/{date}", "s3://results/mesh/{date}/{message_id}"),
        ("s3://results/a%20b", "s3://results/a b/{message_id}"),
    ],
)
def test_urls(url: str, location: str, s3: S3) -> None:
    assert repr(open_destination(url)) == f"S3Destination({location!r})"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://", "name the bucket"),
        ("s3:///key", "name the bucket"),
        ("s3://key:secret@results/mesh", "a URL holds no credentials"),
        ("s3://results/mesh?region=eu-west-2", "has no option region"),
        ("s3://results/mesh#x", "a URL ends before its #"),
        ("s3://results/{nhs_number}", "in braces is one of"),
        ("s4://results/mesh", "s4:// is no kind of destination"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^destination: .*{reason}") as caught:
        open_destination(url)
    assert "secret" not in str(caught.value)


def test_without_boto3() -> None:
    """The extra is named when a destination is made, and not when the package is imported."""
    program = """
import sys
sys.modules["boto3"] = None
from nel_mesh import *
for make in (lambda: open_destination("s3://results"), lambda: S3Destination(bucket="results")):
    try:
        make()
    except InvalidArgument as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "S3 needs boto3; run pip install 'nel-mesh[s3]'\n" * 2
