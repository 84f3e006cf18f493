"""pytest fixtures: a MESH server for each test, clients for its mailboxes, and faults.

    def test_results_arrive(mesh_sandbox, mesh_client, mesh_fault):
        mesh_fault("send_message:respond=503")  # the first attempt
        sent = mesh_client("X26ABC1").send_message(b"results", to="X26ABC2", workflow_id="PATH_RESULTS")
        assert mesh_sandbox.content(sent.message_id) == b"results"

Override `mesh_sandbox_configuration` (session scope) for other mailboxes, workflows or limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nel_mesh.sandbox import AsyncClientFactory, ClientFactory, Fault, PlanFault, Sandbox, SandboxConfiguration

# The fixtures import the sandbox: pytest loads this module in every run, used or not.


@pytest.fixture(scope="session")
def mesh_sandbox_configuration() -> SandboxConfiguration:
    """The configuration of the session's MESH server; override it for other mailboxes, workflows or limits."""
    from nel_mesh.sandbox import SandboxConfiguration

    return SandboxConfiguration()


@pytest.fixture(scope="session")
def mesh_sandbox_server(mesh_sandbox_configuration: SandboxConfiguration) -> Iterator[Sandbox]:
    """The MESH server of this session; `mesh_sandbox` empties it for each test."""
    try:
        from nel_mesh.sandbox import Sandbox
    except ImportError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    with Sandbox(mesh_sandbox_configuration) as server:
        yield server


@pytest.fixture
def mesh_sandbox(mesh_sandbox_server: Sandbox) -> Sandbox:
    """A MESH server with empty mailboxes; `mesh_sandbox.settings("X26ABC1")` gives the settings for a client."""
    mesh_sandbox_server.reset()
    return mesh_sandbox_server


@pytest.fixture
def mesh_client(mesh_sandbox: Sandbox) -> Iterator[ClientFactory]:
    """Make a client for a mailbox: `mesh_client("X26ABC1")`. Its delays take no time, and it is closed for you.

    Further settings are keywords: `mesh_client("X26ABC1", max_chunk_size_in_megabytes=0.001)`.
    """
    from nel_mesh.sandbox import ClientFactory

    with ClientFactory(mesh_sandbox) as factory:
        yield factory


@pytest.fixture
def async_mesh_client(mesh_sandbox: Sandbox) -> AsyncClientFactory:
    """Make an async client: `async with async_mesh_client("X26ABC1") as mesh:`, with asyncio or trio."""
    from nel_mesh.sandbox import AsyncClientFactory

    return AsyncClientFactory(mesh_sandbox)


@pytest.fixture
def mesh_fault(mesh_sandbox: Sandbox) -> Iterator[PlanFault]:
    """Plan a fault: `mesh_fault("send_message:respond=503")`. The test fails if it was never injected.

    Takes a text or a `nel_mesh.sandbox.Fault`. For a fault that need not happen use `mesh_sandbox.add_fault`.
    """
    planned: list[Fault] = []

    def plan(fault: Fault | str) -> Fault:
        planned.append(mesh_sandbox.add_fault(fault))
        return planned[-1]

    yield plan
    waiting = [str(fault) for fault in mesh_sandbox.pending_faults if any(fault is other for other in planned)]
    if waiting:
        never = "mesh_fault: these faults were never injected: "
        pytest.fail(never + ", ".join(waiting), pytrace=False)
