from __future__ import annotations

from pathlib import Path

import pytest

from nel_mesh import MeshClient
from nel_mesh.sandbox import ClientFactory, Mailbox, SandboxConfiguration


@pytest.fixture(scope="session")
def mesh_sandbox_configuration() -> SandboxConfiguration:
    """The mailboxes that this project knows."""
    return SandboxConfiguration(mailboxes=(Mailbox(mailbox_id="RJ1LAB"), Mailbox(mailbox_id="A81001GP")))


@pytest.fixture
def laboratory(mesh_client: ClientFactory) -> MeshClient:
    """The laboratory's mailbox; what is longer than 1,000 bytes goes in several chunks."""
    return mesh_client("RJ1LAB", max_chunk_size_in_megabytes=0.001)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A file of results that nobody ever had."""
    path = tmp_path / "results.csv"
    path.write_text("specimen,test,value\n" + "000000001,Sodium,140\n" * 120)
    return path
