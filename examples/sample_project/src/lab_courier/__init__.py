"""Pathology results from a laboratory to a GP practice, over MESH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nel_mesh import AsyncMeshClient, MeshClient, Report, SendReceipt

WORKFLOW_ID = "PATH_RESULTS"


def send_results(mesh: MeshClient, path: Path, *, practice: str) -> SendReceipt:
    """Send a file of results to a practice's mailbox."""
    return mesh.send_file(path, to=practice, workflow_id=WORKFLOW_ID)


def undelivered_results(mesh: MeshClient) -> Iterator[str]:
    """Yield the id of each message that no practice has collected; acknowledge its report after the loop body."""
    for message_id in mesh.iter_message_ids(workflow_filter=WORKFLOW_ID):
        report = mesh.message_metadata(message_id)
        if isinstance(report, Report) and report.linked_message_id:
            yield report.linked_message_id
            mesh.acknowledge_message(message_id)


async def collect_results(mesh: AsyncMeshClient, folder: Path) -> list[Path]:
    """Empty a practice's inbox into a folder; return the new files."""
    result = await mesh.receive_messages(folder, workflow_filter=WORKFLOW_ID)
    result.raise_for_failed()
    return [file.path for file in result.files]
