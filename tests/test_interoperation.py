"""What we send the official Python client reads, and the reverse; on the official sandbox, and on ours over TLS."""

from __future__ import annotations

import gzip
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Server
from nel_mesh.sandbox import Sandbox
from variants import Connector

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    mesh_client = pytest.importorskip("mesh_client", reason="mesh-client is not made for this Python")

pytestmark = pytest.mark.filterwarnings("ignore::Warning:mesh_client", "ignore::ResourceWarning")

CONTENT = b"id,value\n" + random.Random(3).randbytes(2_500_000)
CHUNK = 1_000_000
SHAPES = [("plain", False, 20.0), ("gzipped", True, 20.0), ("chunked", False, 1.0), ("chunked and gzipped", True, 1.0)]

Official = Callable[..., Any]


@pytest.fixture
def official(server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Official]:
    """Makes official clients for the same server."""
    made: list[Any] = []

    def make(mailbox_id: str, **keywords: Any) -> Any:
        trust: dict[str, Any] = {}
        if server.name == "ours":
            ours: Sandbox = request.getfixturevalue("mesh_sandbox")
            (tmp_path / "ca.pem").write_text(ours.root_certificate or "")
            (tmp_path / "client.pem").write_text(ours.client_certificate or "")
            trust = {"verify": str(tmp_path / "ca.pem"), "cert": (str(tmp_path / "client.pem"),) * 2}
        url = server.settings(mailbox_id).url
        made.append(
            mesh_client.MeshClient(url, mailbox_id, "password", shared_key=b"TestKey", timeout=30, **trust, **keywords)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize(("shape", "compress", "megabytes"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_the_official_client_reads_what_we_send(
    server: Server, connect: Connector, official: Official, shape: str, compress: bool, megabytes: float
) -> None:
    alice = connect(server.settings("X26ABC1", max_chunk_size_in_megabytes=megabytes))
    sent = alice.send_message(
        CONTENT, to="X26ABC2", workflow_id="WF", compress=compress, subject="subject", file_name="a.csv"
    )
    bob = official("X26ABC2")
    assert bob.list_messages() == [sent.message_id]
    message = bob.retrieve_message(sent.message_id)
    assert message.read() == CONTENT
    assert (message.workflow_id, message.subject, message.filename) == ("WF", "subject", "a.csv")
    message.acknowledge()
    assert alice.track_message(sent.message_id).status == "acknowledged"


@pytest.mark.parametrize(("shape", "compress", "megabytes"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_we_read_what_the_official_client_sends(
    server: Server, connect: Connector, official: Official, shape: str, compress: bool, megabytes: float
) -> None:
    alice = official("X26ABC1", max_chunk_size=int(megabytes * CHUNK))
    message_id = alice.send_message("X26ABC2", CONTENT, workflow_id="WF", compress=compress, subject="subject")
    bob = connect(server.settings("X26ABC2"))
    assert list(bob.iter_message_ids()) == [message_id]
    with bob.retrieve_message(message_id) as message:
        assert message.read() == CONTENT
        assert (message.metadata.workflow_id, message.metadata.subject) == ("WF", "subject")
    bob.acknowledge_message(message_id)
    assert alice.track_message(message_id)["status"] == "acknowledged"


def test_content_gzipped_beforehand_is_left_alone_by_both(
    server: Server, connect: Connector, official: Official
) -> None:
    packed = gzip.compress(CONTENT)
    alice = connect(server.settings("X26ABC1"))
    sent = alice.send_message(packed, to="X26ABC2", workflow_id="WF", compressed=True)
    bob = connect(server.settings("X26ABC2"))
    with bob.retrieve_message(sent.message_id) as message:
        assert message.read() == packed
        # A2: the official one gzips in transit as well, and then the sender's word cannot be told from its own.
        assert message.metadata.compressed is (True if server.name == "ours" else None)
