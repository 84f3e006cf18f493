from __future__ import annotations

from pathlib import Path

import pytest

from nel_mesh import MeshClient
from nel_mesh.sandbox import ClientFactory, SandboxConfiguration, SandboxMailbox


@pytest.fixture(scope="session")
def mesh_sandbox_configuration() -> SandboxConfiguration:
    """Name the mailboxes of this project."""
    return SandboxConfiguration(mailboxes=[SandboxMailbox(mailbox_id="RJ1LAB"), SandboxMailbox(mailbox_id="A81001GP")])


@pytest.fixture
def laboratory(mesh_client: ClientFactory) -> MeshClient:
    """Return a client of the laboratory's mailbox; content over 1,000 bytes is sent in chunks."""
    return mesh_client("RJ1LAB", max_chunk_size_in_megabytes=0.001)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a file of invented results."""
    path = tmp_path / "results.csv"
    path.write_text("specimen,test,value\n" + "000000001,Sodium,140\n" * 120)
    return path
