"""pytest fixtures: a MESH server for each test, without having to start one for each test.

    def test_sends(mesh_sandbox):
        with MeshClient(mesh_sandbox.settings("X26ABC1")) as client: ...

Override `mesh_sandbox_configuration` (session scope) for other mailboxes, workflows or limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nel_mesh.sandbox.configuration import SandboxConfiguration
    from nel_mesh.sandbox.server import Sandbox

# Every import of the sandbox waits for a fixture: pytest loads this module in every run, wanted or not.


@pytest.fixture(scope="session")
def mesh_sandbox_configuration() -> SandboxConfiguration:
    """What the session's sandbox is made of; override it to change that."""
    from nel_mesh.sandbox.configuration import SandboxConfiguration

    return SandboxConfiguration()


@pytest.fixture(scope="session")
def mesh_sandbox_server(mesh_sandbox_configuration: SandboxConfiguration) -> Iterator[Sandbox]:
    """The one server of this session; use `mesh_sandbox`, which empties it first."""
    import nel_mesh.sandbox

    with nel_mesh.sandbox.Sandbox(mesh_sandbox_configuration) as server:
        yield server


@pytest.fixture
def mesh_sandbox(mesh_sandbox_server: Sandbox) -> Sandbox:
    """A MESH server with empty mailboxes: `mesh_sandbox.settings("X26ABC1")` is ready for a client."""
    mesh_sandbox_server.reset()
    return mesh_sandbox_server
