"""Pathology results from a laboratory to a GP practice, over MESH."""

from __future__ import annotations

from pathlib import Path

from nel_mesh import AsyncMeshClient, MeshClient, Report, SendReceipt

WORKFLOW_ID = "PATH_RESULTS"


def send_results(mesh: MeshClient, path: Path, *, practice: str) -> SendReceipt:
    """Sends a file of results to a practice's mailbox."""
    return mesh.send_file(path, to=practice, workflow_id=WORKFLOW_ID)


def undelivered_results(mesh: MeshClient) -> list[str]:
    """The ids of messages that no practice has collected; each is told once."""
    message_ids = []
    for message_id in mesh.iter_message_ids(workflow_filter=WORKFLOW_ID):
        report = mesh.message_metadata(message_id)
        if isinstance(report, Report) and report.linked_message_id:
            message_ids.append(report.linked_message_id)
            mesh.acknowledge_message(message_id)
    return message_ids


async def collect_results(mesh: AsyncMeshClient, folder: Path) -> list[Path]:
    """Empties a practice's inbox into a folder; gives the new files."""
    collection = await mesh.receive_messages(folder, workflow_filter=WORKFLOW_ID)
    return [file.path for file in collection.files]
