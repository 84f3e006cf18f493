from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lab_courier import collect_results, send_results, undelivered_results
from nel_mesh import MeshClient, OutcomeUnknown
from nel_mesh.sandbox import AsyncClientFactory, PlanFault, Sandbox


def test_results_reach_the_practice(mesh_sandbox: Sandbox, laboratory: MeshClient, results: Path) -> None:
    sent = send_results(laboratory, results, practice="A81001GP")
    assert mesh_sandbox.content(sent.message_id) == results.read_bytes()
    assert [message.message_id for message in mesh_sandbox.delivered("A81001GP")] == [sent.message_id]


def test_a_send_to_a_busy_mesh_is_retried(
    mesh_sandbox: Sandbox, laboratory: MeshClient, mesh_fault: PlanFault, results: Path
) -> None:
    mesh_fault("send_message:respond=503,retry-after=60")  # the next send; the client does not really wait a minute
    send_results(laboratory, results, practice="A81001GP")
    assert len(mesh_sandbox.delivered("A81001GP")) == 1


def test_a_connection_that_breaks_in_the_middle_of_chunk_2(
    mesh_sandbox: Sandbox, laboratory: MeshClient, mesh_fault: PlanFault, results: Path
) -> None:
    mesh_fault("send_chunk:cut-during-body,chunk=2")
    sent = send_results(laboratory, results, practice="A81001GP")
    assert sent.chunks == 3
    assert mesh_sandbox.content(sent.message_id) == results.read_bytes()


def test_a_send_with_an_unknown_outcome(
    mesh_sandbox: Sandbox, mesh_fault: PlanFault, laboratory: MeshClient, tmp_path: Path
) -> None:
    small = tmp_path / "small.csv"
    small.write_text("specimen,test,value\n")
    mesh_fault("send_message:respond=504")
    with pytest.raises(OutcomeUnknown):
        send_results(laboratory, small, practice="A81001GP")
    assert len(mesh_sandbox.requests("send_message")) == 1  # never a blind repeat


def test_results_that_nobody_collects_are_reported(
    mesh_sandbox: Sandbox, laboratory: MeshClient, results: Path
) -> None:
    sent = send_results(laboratory, results, practice="A81001GP")
    mesh_sandbox.advance(timedelta(days=5))
    assert list(undelivered_results(laboratory)) == [sent.message_id]
    assert list(undelivered_results(laboratory)) == []


@pytest.mark.anyio
async def test_a_practice_collects_its_results(
    mesh_sandbox: Sandbox, async_mesh_client: AsyncClientFactory, tmp_path: Path
) -> None:
    mesh_sandbox.deliver_message("A81001GP", b"results", workflow_id="PATH_RESULTS", file_name="results.csv")
    async with async_mesh_client("A81001GP") as practice:
        (path,) = await collect_results(practice, tmp_path / "inbox")
        assert await collect_results(practice, tmp_path / "inbox") == []
    assert path.read_bytes() == b"results"


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests by anyio's pytest plugin, which is installed with nel-mesh; pytest-asyncio works as well."""
    return "asyncio"
