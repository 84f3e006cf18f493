"""What only S3 has, on a real server (SeaweedFS); `test_object_stores.py` has what it shares with Azure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from faulty_proxy import store_error
from nel_mesh import InvalidArgument, MeshClient, S3Destination, open_destination
from nel_mesh.sandbox import Sandbox
from object_stores import S3Store
from store_messages import CHUNKS, CONTENT, deliver
from stores import S3


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as client:
        yield client


def test_a_store_without_newer_checksums(mesh_sandbox: Sandbox, bob: MeshClient, s3: S3) -> None:
    client = s3.new_client(request_checksum_calculation="when_required")
    destination = S3Destination(bucket=s3.bucket, key="in", client=client, request_checksum_calculation="when_required")
    deliver(mesh_sandbox, CHUNKS)
    deliver(mesh_sandbox, b"small")
    result = bob.receive_messages(destination)
    result.raise_for_failed()
    assert sorted(file.bytes for file in result.files) == [5, len(CONTENT)]
    large = max(result.files, key=lambda file: file.bytes)
    assert s3.content(large.location.split("/", 3)[3]) == CONTENT


def test_a_conflict_begins_the_upload_anew(mesh_sandbox: Sandbox, bob: MeshClient, s3_store: S3Store) -> None:
    conflict = store_error("ConditionalRequestConflict")
    s3_store.proxy.add(s3_store.COMPLETE, "respond", status=409, body=conflict)
    message_id = deliver(mesh_sandbox, CHUNKS)
    destination = s3_store.destination()
    (failed,) = bob.receive_messages(destination).failed
    assert "ConditionalRequestConflict" in str(failed.error)
    assert s3_store.messages() == s3_store.unfinished() == []
    bob.receive_messages(destination).raise_for_failed()
    assert s3_store.proxy.count(r"POST /\S*\?uploads") == 2
    assert s3_store.content(f"in/{message_id}") == CONTENT


def test_a_conflict_of_a_small_object_is_tried_again(mesh_sandbox: Sandbox, bob: MeshClient, s3_store: S3Store) -> None:
    message_id = deliver(mesh_sandbox, b"small")
    conflict = store_error("ConditionalRequestConflict")
    s3_store.proxy.add(rf"PUT /\S*/in/{message_id}", "respond", status=409, body=conflict)
    bob.receive_messages(s3_store.destination()).raise_for_failed()
    assert s3_store.content(f"in/{message_id}") == b"small"


def test_an_upload_that_is_gone_begins_anew(mesh_sandbox: Sandbox, bob: MeshClient, s3_store: S3Store) -> None:
    """A lifecycle rule of the bucket has removed it between two runs."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    s3_store.refuse_second_chunk()
    destination = s3_store.destination()
    (failed,) = bob.receive_messages(destination).failed
    assert "AccessDenied" in str(failed.error)
    s3_store.proxy.breaks.clear()
    s3 = s3_store.server
    (upload,) = s3.client.list_multipart_uploads(Bucket=s3.bucket)["Uploads"]
    s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    bob.receive_messages(destination).raise_for_failed()
    assert s3_store.content(f"in/{message_id}") == CONTENT
    assert s3_store.unfinished() == []


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
