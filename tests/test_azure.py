"""Messages into Azure Blob Storage, on a real server (Azurite); its faults come from a proxy before it."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from faulty_proxy import FaultyProxy, store_error
from nel_mesh import AzureDestination, InvalidArgument, MeshClient, StorageError, open_destination
from nel_mesh.sandbox import Sandbox
from store_messages import CHUNKS, CONTENT, deliver
from stores import AZURE_ACCOUNT, AZURE_KEY, Azure, azure_environment
from variants import Connector

BLOCK = r"PUT /\S*comp=block&"
LIST = r"PUT /\S*comp=blocklist"
BLOB = r"PUT /\S*/in/[^.?/]* "


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as client:
        yield client


@pytest.fixture
def proxy(azure: Azure) -> Iterator[FaultyProxy]:
    with FaultyProxy(azure.url).running() as proxy:
        yield proxy


def through(proxy: FaultyProxy, azure: Azure, **options: Any) -> AzureDestination:
    return AzureDestination(client=azure.new_client(proxy.url), key="in/{message_id}", **options)


def refuse_blocks_after_the_first_chunk(proxy: FaultyProxy) -> None:
    """A run fails, with two blocks and their record in the container."""
    proxy.add(f"{BLOCK}.*{block_number(3)}", "respond", status=403, body=store_error("AuthorizationFailure"), times=10)


def block_number(number: int) -> str:
    """The end of a block's id in a request line: base64 of a dash and five digits, then percent-encoded."""
    # 32 digits and the dash are 33 bytes, so the number begins a group of four.
    return quote(base64.b64encode(f"{number:05}".encode()).decode(), safe="")


@pytest.mark.parametrize("content", [b"x", b"small", CHUNKS], ids=["byte", "small", "chunked"])
def test_messages_are_blobs(
    mesh_sandbox: Sandbox, connect: Connector, azure: Azure, content: bytes | list[bytes]
) -> None:
    message_id = deliver(mesh_sandbox, content)
    client = connect(mesh_sandbox.settings("X26ABC2"))
    result = client.receive_messages(f"{azure.place}/mesh?prefix={{workflow_id}}/{{message_id}}")
    result.raise_for_failed()
    key = f"mesh/PATH_V2/{message_id}"
    assert [file.location for file in result.files] == [f"{azure.place}/{key}"]
    assert [file.verified for file in result.files] == [True]
    assert azure.messages() == [key]
    assert azure.content(key) == mesh_sandbox.content(message_id)
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "acknowledged"
    assert azure.blocks(key) == []
    assert azure.keys("mesh/.nel-mesh/") == [f"mesh/.nel-mesh/received/X26ABC2/{message_id}.json"]
    labels = azure.client.get_blob_client(key).get_blob_properties().metadata
    assert labels.pop("mesh_sha256")
    assert labels == {
        "mesh_message_id": message_id, "mesh_workflow_id": "PATH V2", "mesh_sender": "X26ABC1", "mesh_type": "DATA",
    }  # fmt: skip


def test_a_report_is_a_blob(mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure) -> None:
    message_id = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    assert len(bob.receive_messages(f"{azure.place}/{{type}}").reports) == 1
    (key,) = azure.messages()
    assert key == f"report/{message_id}.json"
    assert json.loads(azure.content(key))["linked_message_id"] == "M0"


def test_what_was_delivered_is_only_acknowledged_again(mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    place = f"{azure.place}/in"
    bob.receive_messages(place, acknowledge=False).raise_for_failed()
    # So an account with a hierarchical namespace lists its folders.
    azure.client.upload_blob("in/.nel-mesh/received/X26ABC2", b"", metadata={"hdi_isfolder": "true"})
    (entry,) = open_destination(place).journal().entries()
    assert (entry.message_id, entry.location, entry.bytes) == (message_id, f"{place}/{message_id}", 7)
    assert bob.receive_messages(place).already_delivered == [message_id]


def test_the_sidecar_has_all_the_metadata(mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure) -> None:
    message_id = deliver(mesh_sandbox, b"content")
    connection_string = azure_environment(azure.url)["AZURE_STORAGE_CONNECTION_STRING"]
    destination = AzureDestination(
        container=azure.container, connection_string=connection_string, key="in", sidecar=True
    )
    bob.receive_messages(destination).raise_for_failed()
    destination.close()
    assert azure.messages() == [f"in/{message_id}", f"in/{message_id}.json"]
    assert json.loads(azure.content(f"in/{message_id}.json"))["subject"] == "Jane Doe"


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        (BLOCK, "cut"),
        (BLOCK, "lose-response"),
        (LIST, "cut"),
        (LIST, "lose-response"),
        (r"PUT /\S*/transfers/", "lose-response"),
        (r"PUT /\S*/received/", "lose-response"),
        ("HEAD", "lose-response"),
        ("GET", "cut-response"),
        ("DELETE", "lose-response"),
        (BLOCK, "respond", 503, "ServerBusy"),
        (LIST, "respond", 503, "ServerBusy"),
        (LIST, "respond", 500, "OperationTimedOut"),
        ("HEAD", "respond", 500, "InternalError"),
    ],
    ids=str,
)
def test_one_fault_is_not_seen(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy, fault: tuple[Any, ...]
) -> None:
    pattern, how, *answer = fault
    proxy.add(pattern, how, **({"status": answer[0], "body": store_error(answer[1])} if answer else {}))
    message_id = deliver(mesh_sandbox, CHUNKS)
    bob.receive_messages(through(proxy, azure)).raise_for_failed()
    assert [one.times for one in proxy.breaks] == [0], "the fault found nothing to strike at"
    assert azure.messages() == [f"in/{message_id}"]
    assert azure.content(f"in/{message_id}") == CONTENT


@pytest.mark.parametrize(("chunks", "pattern"), [([b"small"], BLOB), (CHUNKS, LIST)], ids=["small", "chunked"])
def test_every_response_to_the_last_step_is_lost(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy, chunks: list[bytes], pattern: str
) -> None:
    """The blob is looked for, and is ours."""
    proxy.add(pattern, "lose-response", times=10)
    message_id = deliver(mesh_sandbox, chunks)
    bob.receive_messages(through(proxy, azure)).raise_for_failed()
    assert [one.times for one in proxy.breaks] != [10]
    assert azure.content(f"in/{message_id}") == b"".join(chunks)


@pytest.mark.parametrize(("chunks", "pattern"), [([b"small"], BLOB), (CHUNKS, LIST)], ids=["small", "chunked"])
def test_the_last_step_is_cut_each_time(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy, chunks: list[bytes], pattern: str
) -> None:
    """Nothing is there, nothing is acknowledged, and the next run sends only what is missing."""
    proxy.add(pattern, "cut", times=2)
    message_id = deliver(mesh_sandbox, chunks)
    destination = through(proxy, azure)
    (failed,) = bob.receive_messages(destination).failed
    assert "connection lost; run it again" in str(failed.error)
    assert azure.messages() == []
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"
    blocks = proxy.count(BLOCK)
    bob.receive_messages(destination).raise_for_failed()
    assert proxy.count(BLOCK) == blocks
    assert azure.content(f"in/{message_id}") == b"".join(chunks)


@pytest.mark.parametrize("chunks", [[b"small"], CHUNKS], ids=["small", "chunked"])
def test_a_name_that_is_taken_is_kept(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, chunks: list[bytes]
) -> None:
    message_id = deliver(mesh_sandbox, chunks)
    azure.client.upload_blob(f"in/{message_id}", b"of others")
    (failed,) = bob.receive_messages(f"{azure.place}/in").failed
    assert isinstance(failed.error, StorageError)
    assert f"{azure.place}/in/{message_id}: something else is there" in str(failed.error)
    assert azure.content(f"in/{message_id}") == b"of others"
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"


@pytest.mark.parametrize(("chunks", "pattern"), [([b"small"], BLOB), (CHUNKS, LIST)], ids=["small", "chunked"])
def test_another_worker_was_faster(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy, chunks: list[bytes], pattern: str
) -> None:
    """It completes the same message just before this one: 409, and it is stored."""
    message_id = deliver(mesh_sandbox, chunks)

    def other() -> None:
        labels = {"mesh_message_id": message_id}
        azure.client.upload_blob(f"in/{message_id}", b"".join(chunks), metadata=labels, overwrite=True)

    proxy.add(pattern, "call", before=other)
    bob.receive_messages(through(proxy, azure)).raise_for_failed()
    assert [one.times for one in proxy.breaks] == [0]
    assert azure.content(f"in/{message_id}") == b"".join(chunks)


@pytest.fixture
def worker(mesh_sandbox: Sandbox, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts `nel-mesh receive --into`, in a home of its own, with nothing but the store."""
    _, settings, _ = mesh_sandbox.write_settings(tmp_path / "settings")

    def start(url: str, *arguments: str) -> subprocess.Popen[bytes]:
        home = tempfile.mkdtemp(dir=tmp_path)
        command = [sys.executable, "-m", "nel_mesh", "--settings", str(settings), "receive", *arguments]
        homes = {"HOME": home, "XDG_STATE_HOME": home, "XDG_CONFIG_HOME": home}
        return subprocess.Popen(
            command, env={**os.environ, **homes, **azure_environment(url)}, stderr=subprocess.PIPE, cwd=home
        )

    return start


@pytest.mark.parametrize("strikes", [f"{BLOCK}.*{block_number(3)}", LIST], ids=["within", "at the end"])
def test_two_workers_on_one_message(
    mesh_sandbox: Sandbox,
    bob: MeshClient,
    azure: Azure,
    proxy: FaultyProxy,
    worker: Callable[..., subprocess.Popen[bytes]],
    strikes: str,
) -> None:
    """Another process completes it while this one still sends blocks, which vanish with that; both succeed."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    codes = []

    def other() -> None:
        with worker(azure.url, message_id, "--into", f"{azure.place}/in") as process:
            codes.append((process.wait(30), azure.messages(), azure.blocks(f"in/{message_id}")))

    proxy.add(strikes, "call", before=other)
    result = bob.receive_messages(through(proxy, azure))
    result.raise_for_failed()
    assert codes == [(0, [f"in/{message_id}"], [])]
    assert [file.location for file in result.files] == [f"{azure.place}/in/{message_id}"]
    assert azure.content(f"in/{message_id}") == CONTENT


def test_another_process_continues_after_a_kill(
    mesh_sandbox: Sandbox, azure: Azure, proxy: FaultyProxy, worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """With nothing but the store, at the chunk; the blob is not seen before."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    killed = worker(proxy.url, "--into", f"{azure.place}/in")
    proxy.add(f"{BLOCK}.*{block_number(6)}", "call", before=killed.kill)
    with killed:
        assert killed.wait(30) == -signal.SIGKILL
    assert azure.messages() == []
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"
    before = len(mesh_sandbox.requests("retrieve_chunk"))
    with worker(azure.url, "--into", f"{azure.place}/in") as process:
        assert process.wait(30) == 0
    numbers = [request.path.rsplit("/", 1)[1] for request in mesh_sandbox.requests("retrieve_chunk")[before:]]
    assert "2" not in numbers
    assert azure.content(f"in/{message_id}") == CONTENT
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "acknowledged"
    assert azure.keys("in/.nel-mesh/transfers/") == []


def test_blocks_that_vanished_are_sent_anew(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy
) -> None:
    """Azure drops them after 7 days; a commit under the same name does so too, and that blob may be gone again."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    refuse_blocks_after_the_first_chunk(proxy)
    destination = through(proxy, azure)
    (failed,) = bob.receive_messages(destination).failed
    assert "AuthorizationFailure" in str(failed.error)
    proxy.breaks.clear()
    assert len(azure.blocks(f"in/{message_id}")) == 2
    azure.drop_blocks(f"in/{message_id}")
    bob.receive_messages(destination).raise_for_failed()
    assert azure.content(f"in/{message_id}") == CONTENT


def test_blocks_that_vanish_before_the_end(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy
) -> None:
    """Nothing is completed without them, and the next run begins anew."""
    message_id = deliver(mesh_sandbox, CHUNKS)

    proxy.add(LIST, "call", before=lambda: azure.drop_blocks(f"in/{message_id}"))
    destination = through(proxy, azure)
    (failed,) = bob.receive_messages(destination).failed
    assert "InvalidBlockList" in str(failed.error)
    assert azure.messages() == []
    bob.receive_messages(destination).raise_for_failed()
    assert azure.content(f"in/{message_id}") == CONTENT


def test_a_message_whose_first_chunks_are_stored_is_continued(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy
) -> None:
    """The sender's checksum is compared by reading the blob back, before the message is acknowledged."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    refuse_blocks_after_the_first_chunk(proxy)
    destination = through(proxy, azure)
    assert len(bob.receive_messages(destination).failed) == 1
    proxy.breaks.clear()
    before = len(mesh_sandbox.requests("retrieve_chunk"))
    result = bob.receive_messages(destination)
    result.raise_for_failed()
    assert [file.verified for file in result.files] == [True]
    numbers = [request.path.rsplit("/", 1)[1] for request in mesh_sandbox.requests("retrieve_chunk")[before:]]
    assert sorted(set(numbers)) == ["2", "3", "4"]
    assert proxy.count(rf"GET /\S*/in/{message_id} ") > 1
    assert azure.content(f"in/{message_id}") == CONTENT


def test_another_checksum_than_the_senders_is_found_after_a_resume(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy
) -> None:
    deliver(mesh_sandbox, CHUNKS, checksum=f"sha256 {'0' * 64}")
    refuse_blocks_after_the_first_chunk(proxy)
    destination = through(proxy, azure)
    assert len(bob.receive_messages(destination).failed) == 1
    proxy.breaks.clear()
    (failed,) = bob.receive_messages(destination).failed
    assert type(failed.error).__name__ == "IntegrityError"
    assert azure.messages() == []
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "accepted"


def test_the_store_compares_checksums(azure: Azure) -> None:
    """Content that is damaged on its way is refused: this is what `validate_content` is for."""
    from azure.core.exceptions import HttpResponseError

    blob = azure.client.get_blob_client("damaged")
    with pytest.raises(HttpResponseError, match="Md5Mismatch"):
        blob.stage_block("id", b"content", headers={"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AuthenticationFailed", "the credentials are wrong or have expired"),
        (401, "InvalidAuthenticationInfo", "the credentials are wrong or have expired"),
        (403, "AuthorizationPermissionMismatch", "these credentials may not do that"),
        (403, "AuthorizationFailure", "or the firewall of the storage account"),
        (403, "KeyBasedAuthenticationNotPermitted", "the account takes no keys"),
        (404, "ContainerNotFound", "there is no such container"),
        (503, "ServerBusy", "run it again in a few minutes"),
        (403, "SomethingNew", "these credentials may not do that"),
    ],
)
def test_a_refusal_says_what_to_do(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy, status: int, code: str, advice: str
) -> None:
    """Before any message is fetched."""
    deliver(mesh_sandbox, b"content")
    proxy.add("", "respond", status=status, body=store_error(code), times=10)
    with pytest.raises(StorageError, match=code) as caught:
        bob.receive_messages(through(proxy, azure))
    assert advice in str(caught.value)
    assert mesh_sandbox.requests("retrieve_message") == []


def test_refusals_of_the_server(mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure) -> None:
    connection_string = azure_environment(azure.url)["AZURE_STORAGE_CONNECTION_STRING"]
    deliver(mesh_sandbox, b"content")
    for container, text, reason in (
        ("no-such-container", connection_string, "ContainerNotFound"),
        (azure.container, connection_string.replace(AZURE_KEY, "b3RoZXI="), "AuthorizationFailure"),
        (azure.container, connection_string.replace(AZURE_KEY, "not base64"), "no Azure credentials that can be used"),
        ("No_Container", connection_string, "check the name of the container"),
    ):
        destination = AzureDestination(container=container, connection_string=text)
        with pytest.raises(StorageError, match=reason) as caught:
            bob.receive_messages(destination)
        destination.close()
        assert AZURE_KEY not in str(caught.value)
    assert mesh_sandbox.requests("retrieve_message") == []


def test_no_connection(bob: MeshClient, azure: Azure) -> None:
    with pytest.raises(StorageError, match="no connection; check the name of the storage account"):
        bob.receive_messages(AzureDestination(client=azure.new_client("http://127.0.0.1:9")))


def test_no_credentials(bob: MeshClient, azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    """DefaultAzureCredential may look into the environment only, which has none."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    with pytest.raises(StorageError, match="no Azure credentials that can be used; check AZURE_STORAGE_CONNECTION"):
        bob.receive_messages(f"{azure.place}/in")


def test_a_busy_store_is_asked_again(
    mesh_sandbox: Sandbox, bob: MeshClient, azure: Azure, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the client that is made of a URL, with the retries that it has."""
    for name, value in azure_environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    deliver(mesh_sandbox, b"content")
    proxy.add("GET", "respond", status=503, body=store_error("ServerBusy"))
    bob.receive_messages(f"{azure.place}/in").raise_for_failed()
    assert len(azure.messages()) == 1


def test_logs_of_the_sdk_at_their_most_talkative(
    mesh_sandbox: Sandbox,
    bob: MeshClient,
    azure: Azure,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither keys nor signatures, nor what a message says or holds."""
    caplog.set_level(logging.DEBUG)
    deliver(mesh_sandbox, b"canary-content", subject="canary-subject", file_name="canary-name")
    connection_string = azure_environment(azure.url)["AZURE_STORAGE_CONNECTION_STRING"]
    bob.receive_messages(AzureDestination(container=azure.container, sidecar=True)).raise_for_failed()
    sas = connection_string.replace(f"AccountKey={AZURE_KEY}", "SharedAccessSignature=sv=2024-01-01&sig=canary-sig")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", sas)
    with pytest.raises(StorageError) as caught:
        bob.receive_messages(f"{azure.place}/in")
    assert "canary" not in str(caught.value)
    assert {"azure", "urllib3"} <= {record.name.partition(".")[0] for record in caplog.records}
    said = "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
    for private in (AZURE_KEY, "canary-sig", "canary-content", "canary-subject", "canary-name", "SharedKey "):
        assert private not in said, private


# URLs


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("azure://{account}/results", "azure://{account}/results/{{message_id}}"),
        ("azure://{account}/results/mesh", "azure://{account}/results/mesh/{{message_id}}"),
        ("azure://{account}/results/mesh?prefix={{date}}", "azure://{account}/results/mesh/{{date}}/{{message_id}}"),
        ("azure://{account}.blob.core.windows.net/results", "azure://{account}/results/{{message_id}}"),
    ],
)
def test_urls(url: str, location: str, azure: Azure) -> None:
    shown = repr(open_destination(url.format(account=AZURE_ACCOUNT)))
    assert shown == f"AzureDestination({location.format(account=AZURE_ACCOUNT)!r})"


def test_the_account_of_a_url_without_a_connection_string(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    for url in ("azure://account/results", "azure://account.blob.core.chinacloudapi.cn/results"):
        assert repr(open_destination(url)) == "AzureDestination('azure://account/results/{message_id}')"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("azure://", "name account and container"),
        ("azure://account", "name account and container"),
        ("azure://account:secret@host/results", "a URL holds no credentials"),
        ("azure://account/results?sv=2024-01-01&sig=secret", "a URL holds no credentials"),
        ("azure://account/results?tier=cool", "has no option tier"),
        ("azure://account/results#x", "a URL ends before its #"),
        ("azure://account/results", "is for the storage account devstoreaccount1, and not for https://account.blob"),
        (f"azure://{AZURE_ACCOUNT}/results/{{nhs_number}}", "in braces is one of"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str, azure: Azure) -> None:
    with pytest.raises(InvalidArgument, match=reason) as caught:
        open_destination(url)
    assert "secret" not in str(caught.value)


def test_arguments_that_are_refused(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "Mistyped")
    arguments: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "name the container"),
        ({"container": "results", "client": azure.client}, "or give a client"),
        ({"container": "results"}, "give account_url or connection_string, or set AZURE_STORAGE_CONNECTION_STRING"),
        ({"container": "results", "connection_string": "secret"}, "the connection string cannot be used"),
        ({"container": "results", "account_url": "https://a.blob.core.windows.net/?sig=secret"}, "no credentials"),
        ({"container": "results", "account_url": "http://a.blob.core.windows.net"}, "is such as https://account"),
        ({"container": "results", "account_url": "https://a.blob.core.windows.net"}, "check AZURE_TOKEN_CREDENTIALS"),
    )
    for keywords, reason in arguments:
        with pytest.raises(InvalidArgument, match=reason) as caught:
            AzureDestination(**keywords)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("azure.core", "Azure needs azure-storage-blob; run pip install 'nel-mesh[azure]'\n"),
        ("azure.storage.blob", "Azure needs azure-storage-blob; run pip install 'nel-mesh[azure]'\n"),
        ("azure.identity", "Azure: no credentials; set AZURE_STORAGE_CONNECTION_STRING, or run `pip install azure-"),
    ],
)
def test_without_the_packages(missing: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named when a destination is made, and not when the package is imported."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    program = f"""
import sys
sys.modules[{missing!r}] = None
from nel_mesh import *
try:
    open_destination("azure://account/results")
except InvalidArgument as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(text)
