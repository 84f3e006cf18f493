"""pytest fixtures: a MESH server for each test, clients for its mailboxes, and what is to go wrong.

    def test_results_arrive(mesh_sandbox, mesh_client, mesh_fault):
        mesh_fault("send_message:answer=503")  # the first attempt
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

# Every import of the sandbox waits for a fixture: pytest loads this module in every run, wanted or not.


@pytest.fixture(scope="session")
def mesh_sandbox_configuration() -> SandboxConfiguration:
    """What the session's MESH server is made of: mailboxes, workflows, limits; override it to change that."""
    from nel_mesh.sandbox import SandboxConfiguration

    return SandboxConfiguration()


@pytest.fixture(scope="session")
def mesh_sandbox_server(mesh_sandbox_configuration: SandboxConfiguration) -> Iterator[Sandbox]:
    """The one MESH server of this session; use `mesh_sandbox`, which empties it first."""
    try:
        from nel_mesh.sandbox import Sandbox
    except ImportError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    with Sandbox(mesh_sandbox_configuration) as server:
        yield server


@pytest.fixture
def mesh_sandbox(mesh_sandbox_server: Sandbox) -> Sandbox:
    """A MESH server with empty mailboxes: `mesh_sandbox.settings("X26ABC1")` is ready for a client of your own."""
    mesh_sandbox_server.reset()
    return mesh_sandbox_server


@pytest.fixture
def mesh_client(mesh_sandbox: Sandbox) -> Iterator[ClientFactory]:
    """A client for a mailbox: `mesh_client("X26ABC1")`; it never waits between attempts, and is closed for you.

    Further settings are keywords: `mesh_client("X26ABC1", max_chunk_size_in_megabytes=0.001)`.
    """
    from nel_mesh.sandbox import ClientFactory

    with ClientFactory(mesh_sandbox) as factory:
        yield factory


@pytest.fixture
def async_mesh_client(mesh_sandbox: Sandbox) -> AsyncClientFactory:
    """The same for the async client: `async with async_mesh_client("X26ABC1") as mesh:`, under asyncio and trio."""
    from nel_mesh.sandbox import AsyncClientFactory

    return AsyncClientFactory(mesh_sandbox)


@pytest.fixture
def mesh_fault(mesh_sandbox: Sandbox) -> Iterator[PlanFault]:
    """Says what is to go wrong: `mesh_fault("send_message:answer=503")`; the test fails if it never happened.

    A text, or a `nel_mesh.sandbox.Fault`. What need not happen goes to `mesh_sandbox.add_fault`.
    """
    planned: list[Fault] = []

    def plan(fault: Fault | str) -> Fault:
        planned.append(mesh_sandbox.add_fault(fault))
        return planned[-1]

    yield plan
    waiting = [str(fault) for fault in mesh_sandbox.pending_faults if any(fault is other for other in planned)]
    if waiting:
        never = "mesh_fault: the test has ended, and no request came to suffer this: "
        pytest.fail(never + ", ".join(waiting), pytrace=False)
