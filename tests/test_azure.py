"""What only Azure Blob Storage has, on a real server (Azurite); `test_object_stores.py` has what it shares with S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import store_error
from nel_mesh import AzureDestination, InvalidArgument, MeshClient, StorageError, open_destination
from nel_mesh.sandbox import Sandbox
from object_stores import AzureStore, block_number
from store_messages import CHUNKS, CONTENT, deliver
from stores import AZURE_ACCOUNT, AZURE_KEY, Azure, azure_environment

BLOCK, LIST = AzureStore.PART, AzureStore.COMPLETE


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as client:
        yield client


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


@pytest.mark.parametrize("strikes", [f"{BLOCK}.*{block_number(2)}", LIST], ids=["within", "at the end"])
def test_two_workers_on_one_message(
    mesh_sandbox: Sandbox,
    bob: MeshClient,
    azure_store: AzureStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    strikes: str,
) -> None:
    """Another process completes it while this one still sends blocks, which vanish with that; both succeed."""
    azure, message_id = azure_store.server, deliver(mesh_sandbox, CHUNKS)
    codes = []

    def other() -> None:
        with worker(azure.url, message_id, "--into", f"{azure.place}/in") as process:
            codes.append((process.wait(30), azure.messages(), azure.blocks(f"in/{message_id}")))

    azure_store.proxy.add(strikes, "call", before=other)
    result = bob.receive_messages(azure_store.destination())
    result.raise_for_failed()
    assert codes == [(0, [f"in/{message_id}"], [])]
    assert [file.location for file in result.files] == [f"{azure.place}/in/{message_id}"]
    assert azure.content(f"in/{message_id}") == CONTENT


def test_another_process_continues_after_a_kill(
    mesh_sandbox: Sandbox, azure_store: AzureStore, worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """With nothing but the store, at the chunk; the blob is not seen before."""
    azure, message_id = azure_store.server, deliver(mesh_sandbox, CHUNKS)
    killed = worker(azure_store.proxy.url, "--into", f"{azure.place}/in")
    azure_store.proxy.add(f"{BLOCK}.*{block_number(4)}", "call", before=killed.kill)
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


def test_blocks_that_vanished_are_sent_again(mesh_sandbox: Sandbox, bob: MeshClient, azure_store: AzureStore) -> None:
    """Azure drops them after 7 days; a commit under the same name does so too, and that blob may be gone again."""
    azure, message_id = azure_store.server, deliver(mesh_sandbox, CHUNKS)
    azure_store.refuse_second_chunk()
    destination = azure_store.destination()
    (failed,) = bob.receive_messages(destination).failed
    assert "AuthorizationFailure" in str(failed.error)
    azure_store.proxy.breaks.clear()
    assert len(azure.blocks(f"in/{message_id}")) == 1
    azure.drop_blocks(f"in/{message_id}")
    bob.receive_messages(destination).raise_for_failed()
    assert azure.content(f"in/{message_id}") == CONTENT


def test_blocks_that_vanish_before_the_end(mesh_sandbox: Sandbox, bob: MeshClient, azure_store: AzureStore) -> None:
    """Nothing is completed without them, and the next run begins again."""
    azure, message_id = azure_store.server, deliver(mesh_sandbox, CHUNKS)
    azure_store.proxy.add(LIST, "call", before=lambda: azure.drop_blocks(f"in/{message_id}"))
    destination = azure_store.destination()
    (failed,) = bob.receive_messages(destination).failed
    assert "InvalidBlockList" in str(failed.error)
    assert azure.messages() == []
    bob.receive_messages(destination).raise_for_failed()
    assert azure.content(f"in/{message_id}") == CONTENT


def test_the_store_compares_checksums(azure: Azure) -> None:
    """Content that is damaged on its way is refused: this is what `validate_content` is for."""
    from azure.core.exceptions import HttpResponseError

    blob = azure.client.get_blob_client("damaged")
    with pytest.raises(HttpResponseError, match="Md5Mismatch"):
        blob.stage_block("id", b"content", headers={"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})


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


def test_a_busy_store_is_asked_again(
    mesh_sandbox: Sandbox, bob: MeshClient, azure_store: AzureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the client that is made of a URL, with the retries that it has."""
    for name, value in azure_environment(azure_store.proxy.url).items():
        monkeypatch.setenv(name, value)
    deliver(mesh_sandbox, b"content")
    azure_store.proxy.add("GET", "respond", status=503, body=store_error("ServerBusy"))
    bob.receive_messages(f"{azure_store.place}/in").raise_for_failed()
    assert len(azure_store.messages()) == 1


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
