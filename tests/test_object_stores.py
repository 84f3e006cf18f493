"""Messages into S3 and Azure Blob Storage, on real servers (SeaweedFS, Azurite); their faults come from a proxy."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from faulty_proxy import store_error
from nel_mesh import MeshClient, StorageError, open_destination
from nel_mesh.sandbox import Sandbox
from object_stores import AzureStore, ObjectStore, S3Store
from store_messages import CHUNKS, CONTENT, deliver
from variants import Connector

SMALL = [b"small"]
LAST_STEPS = pytest.mark.parametrize(
    ("chunks", "step"), [(SMALL, "PUT"), (CHUNKS, "COMPLETE")], ids=["small", "chunked"]
)
"""The request that makes a message of either size visible."""


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as client:
        yield client


@pytest.fixture(params=["s3", "azure"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    found: ObjectStore = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.mark.parametrize("content", [b"x", b"small", CHUNKS], ids=["byte", "small", "chunked"])
def test_messages_are_objects(
    mesh_sandbox: Sandbox, connect: Connector, store: ObjectStore, content: bytes | list[bytes]
) -> None:
    message_id = deliver(mesh_sandbox, content)
    client = connect(mesh_sandbox.settings("X26ABC2"))
    result = client.receive_messages(f"{store.place}/mesh?prefix={{workflow_id}}/{{message_id}}")
    result.raise_for_failed()
    key = f"mesh/PATH_V2/{message_id}"
    assert [file.location for file in result.files] == [f"{store.place}/{key}"]
    assert [file.verified for file in result.files] == [True]
    assert store.messages() == [key]
    assert store.content(key) == mesh_sandbox.content(message_id)
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "acknowledged"
    assert store.unfinished() == []
    assert store.server.keys("mesh/.nel-mesh/") == [f"mesh/.nel-mesh/received/X26ABC2/{message_id}.json"]
    labels = {"message_id": message_id, "workflow_id": "PATH V2", "sender": "X26ABC1", "type": "DATA"}
    assert store.labels(key) == {f"mesh_{name}".replace("_", store.SEPARATOR): value for name, value in labels.items()}


def test_a_report_is_an_object(mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore) -> None:
    message_id = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    assert len(bob.receive_messages(f"{store.place}/{{type}}").reports) == 1
    (key,) = store.messages()
    assert key == f"report/{message_id}.json"
    assert json.loads(store.content(key))["linked_message_id"] == "M0"


def test_what_was_delivered_is_only_acknowledged_again(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore
) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    place = f"{store.place}/in"
    bob.receive_messages(place, acknowledge=False).raise_for_failed()
    store.add_folder("in/.nel-mesh/received/X26ABC2")
    (entry,) = open_destination(place).journal().entries()
    assert (entry.message_id, entry.location, entry.bytes) == (message_id, f"{place}/{message_id}", 7)
    assert bob.receive_messages(place).already_delivered == [message_id]


def test_the_sidecar_has_all_the_metadata(mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    destination = store.own_client(key="in", sidecar=True)
    bob.receive_messages(destination).raise_for_failed()
    destination.close()
    assert store.messages() == [f"in/{message_id}", f"in/{message_id}.json"]
    assert json.loads(store.content(f"in/{message_id}.json"))["subject"] == "Jane Doe"


def faults(store: type[ObjectStore], *own: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The faults of every store, and a store's own: a pattern, what is done, and the response where that is one."""
    return [
        (store.PART, "cut"),
        (store.PART, "lose-response"),
        (store.COMPLETE, "cut"),
        (store.COMPLETE, "lose-response"),
        (r"PUT /\S*/transfers/", "lose-response"),
        (r"PUT /\S*/received/", "lose-response"),
        ("HEAD", "lose-response"),
        ("GET", "cut-response"),
        ("DELETE", "lose-response"),
        ("HEAD", "respond", 500, "InternalError"),
        *own,
    ]


FAULTS = {
    "s3": faults(
        S3Store,
        (r"POST /\S*\?uploads", "cut"),
        (S3Store.PART, "respond", 503, "SlowDown"),
        (S3Store.COMPLETE, "respond", 503, "SlowDown"),
        (S3Store.COMPLETE, "respond", 200, "InternalError"),
    ),
    "azure": faults(
        AzureStore,
        (AzureStore.PART, "respond", 503, "ServerBusy"),
        (AzureStore.COMPLETE, "respond", 503, "ServerBusy"),
        (AzureStore.COMPLETE, "respond", 500, "OperationTimedOut"),
    ),
}


@pytest.mark.parametrize(
    ("store", "fault"),
    [pytest.param(store, fault, id=f"{store} {fault}") for store, found in FAULTS.items() for fault in found],
    indirect=["store"],
)
def test_one_fault_is_not_seen(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore, fault: tuple[Any, ...]
) -> None:
    pattern, how, *answer = fault
    store.proxy.add(pattern, how, **({"status": answer[0], "body": store_error(answer[1])} if answer else {}))
    message_id = deliver(mesh_sandbox, CHUNKS)
    bob.receive_messages(store.destination()).raise_for_failed()
    assert [one.times for one in store.proxy.breaks] == [0], "the fault found nothing to strike at"
    assert store.messages() == [f"in/{message_id}"]
    assert store.content(f"in/{message_id}") == CONTENT
    assert store.unfinished() == []


@LAST_STEPS
def test_every_response_to_the_last_step_is_lost(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore, chunks: list[bytes], step: str
) -> None:
    """The object is looked for, and is ours."""
    store.proxy.add(getattr(store, step), "lose-response", times=10)
    message_id = deliver(mesh_sandbox, chunks)
    bob.receive_messages(store.destination()).raise_for_failed()
    assert [one.times for one in store.proxy.breaks] != [10]
    assert store.content(f"in/{message_id}") == b"".join(chunks)
    assert store.unfinished() == []


@LAST_STEPS
def test_the_last_step_is_cut_each_time(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore, chunks: list[bytes], step: str
) -> None:
    """Nothing is there, nothing is acknowledged, and the next run sends only what is missing."""
    store.proxy.add(getattr(store, step), "cut", times=2)
    message_id = deliver(mesh_sandbox, chunks)
    destination = store.destination()
    (failed,) = bob.receive_messages(destination).failed
    assert [one.times for one in store.proxy.breaks] == [0]
    assert "; run it again" in str(failed.error)
    assert store.messages() == []
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"
    parts = store.proxy.count(store.PART)
    bob.receive_messages(destination).raise_for_failed()
    assert store.proxy.count(store.PART) == parts
    assert store.content(f"in/{message_id}") == b"".join(chunks)


@pytest.mark.parametrize("chunks", [SMALL, CHUNKS], ids=["small", "chunked"])
def test_a_name_that_is_taken_is_kept(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore, chunks: list[bytes]
) -> None:
    message_id = deliver(mesh_sandbox, chunks)
    store.put(f"in/{message_id}", b"of others")
    (failed,) = bob.receive_messages(f"{store.place}/in").failed
    assert isinstance(failed.error, StorageError)
    assert f"{store.place}/in/{message_id}: something else is there" in str(failed.error)
    assert store.content(f"in/{message_id}") == b"of others"
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"


@LAST_STEPS
def test_another_worker_was_faster(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore, chunks: list[bytes], step: str
) -> None:
    """It completes the same message just before this one, cut into other parts: 412 or 409, and it is stored."""
    message_id = deliver(mesh_sandbox, chunks)
    content = b"".join(chunks)
    store.proxy.add(getattr(store, step), "call", before=lambda: store.put(f"in/{message_id}", content, message_id))
    bob.receive_messages(store.destination()).raise_for_failed()
    assert [one.times for one in store.proxy.breaks] == [0]
    assert store.content(f"in/{message_id}") == content
    if isinstance(store, S3Store):
        # Blocks under a blob's name are dropped by Azure, and not by Azurite where the blob came in one request.
        assert store.unfinished() == []


def test_a_message_whose_first_chunks_are_stored_is_continued(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore
) -> None:
    """The sender's checksum is compared by reading the object back, before the message is acknowledged."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    store.refuse_second_chunk()
    destination = store.destination()
    assert len(bob.receive_messages(destination).failed) == 1
    store.proxy.breaks.clear()
    before, begun = len(mesh_sandbox.requests("retrieve_chunk")), store.proxy.count(r"POST /\S*\?uploads")
    reads = rf"GET /\S*/in/{message_id}(\?x-id=GetObject)? "
    assert store.proxy.count(reads) == 0
    result = bob.receive_messages(destination)
    result.raise_for_failed()
    assert [file.verified for file in result.files] == [True]
    numbers = [request.path.rsplit("/", 1)[1] for request in mesh_sandbox.requests("retrieve_chunk")[before:]]
    assert sorted(set(numbers)) == ["2", "3", "4"]
    assert store.proxy.count(reads) > 0
    assert store.proxy.count(r"POST /\S*\?uploads") == begun
    assert store.content(f"in/{message_id}") == CONTENT


def test_another_checksum_than_the_senders_is_found_after_a_resume(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore
) -> None:
    deliver(mesh_sandbox, CHUNKS, checksum=f"sha256 {'0' * 64}")
    store.refuse_second_chunk()
    destination = store.destination()
    assert len(bob.receive_messages(destination).failed) == 1
    store.proxy.breaks.clear()
    (failed,) = bob.receive_messages(destination).failed
    assert type(failed.error).__name__ == "IntegrityError"
    assert store.messages() == store.unfinished() == []
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"


@pytest.mark.parametrize(
    ("store", "status", "code", "advice"),
    [
        ("s3", 400, "ExpiredToken", "the AWS credentials have expired: renew them"),
        ("s3", 403, "InvalidAccessKeyId", "check the AWS credentials"),
        ("s3", 403, "AccessDenied", "these AWS credentials may not do that"),
        ("s3", 404, "NoSuchBucket", "there is no such bucket"),
        ("s3", 403, "RequestTimeTooSkewed", "correct the clock"),
        ("s3", 501, "NotImplemented", "request_checksum_calculation='when_required'"),
        ("azure", 403, "AuthenticationFailed", "the credentials are wrong or have expired"),
        ("azure", 401, "InvalidAuthenticationInfo", "the credentials are wrong or have expired"),
        ("azure", 403, "AuthorizationPermissionMismatch", "these credentials may not do that"),
        ("azure", 403, "AuthorizationFailure", "or the firewall of the storage account"),
        ("azure", 403, "KeyBasedAuthenticationNotPermitted", "the account takes no keys"),
        ("azure", 404, "ContainerNotFound", "there is no such container"),
        ("azure", 503, "ServerBusy", "run it again in a few minutes"),
        ("azure", 403, "SomethingNew", "these credentials may not do that"),
    ],
    indirect=["store"],
)
def test_a_refusal_says_what_to_do(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore, status: int, code: str, advice: str
) -> None:
    """Before any message is fetched."""
    deliver(mesh_sandbox, b"content")
    store.proxy.add("", "respond", status=status, body=store_error(code), times=10)
    with pytest.raises(StorageError, match=code) as caught:
        bob.receive_messages(store.destination())
    assert advice in str(caught.value)
    assert store.SECRETS[0] not in str(caught.value)
    assert mesh_sandbox.requests("retrieve_message") == []


def test_no_credentials(
    mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in store.CREDENTIALS:
        monkeypatch.delenv(name)
    with pytest.raises(StorageError, match=store.NO_CREDENTIALS):
        bob.receive_messages(f"{store.place}/in")


def test_no_connection(mesh_sandbox: Sandbox, bob: MeshClient, store: ObjectStore) -> None:
    with pytest.raises(StorageError, match=store.NO_CONNECTION):
        bob.receive_messages(store.destination("http://127.0.0.1:9"))


def test_logs_of_the_library_at_their_most_talkative(
    mesh_sandbox: Sandbox,
    bob: MeshClient,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither secrets nor signatures, nor what a message says or holds."""
    caplog.set_level(logging.DEBUG)
    deliver(mesh_sandbox, b"canary-content", subject="canary-subject", file_name="canary-name")
    bob.receive_messages(store.own_client(sidecar=True)).raise_for_failed()
    store.spoil_credentials(monkeypatch)
    with pytest.raises(StorageError) as caught:
        bob.receive_messages(f"{store.place}/in")
    assert "canary" not in str(caught.value)
    assert {record.name.partition(".")[0] for record in caplog.records} >= store.LOGGERS
    said = "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
    for private in (*store.SECRETS, "canary-content", "canary-subject", "canary-name"):
        assert private not in said, private
