"""The official client, used as its documentation says: one call after another."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from measure import job, measured, report
from mesh_client import MeshClient

COPY = 64 * 1024
"""How much is read of a message at a time: what `shutil.copyfileobj` takes by itself."""


def main() -> None:
    """Does the job."""
    asked = job()
    # It says so of each process that it is told to use; nothing to do with the work.
    warnings.simplefilter("ignore")
    with (
        MeshClient(
            asked["url"],
            asked["mailbox"],
            asked["password"],
            shared_key=asked["shared_key"].encode(),
            cert=(asked["client"], asked["client"]),
            verify=asked["authority"],
            max_chunk_size=asked["chunk"],
            transparent_compress=bool(asked.get("compress")),
        ) as mesh,
        measured() as result,
    ):
        JOBS[asked["operation"]](mesh, asked)
    report(result)


def send(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Sends one file."""
    with Path(asked["path"]).open("rb") as file:
        mesh.send_message("X26ABC2", file, workflow_id="BENCH")


def receive(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Receives one message into a file."""
    message = mesh.retrieve_message(asked["message_id"])
    with (Path(asked["folder"]) / "official.dat").open("wb") as file:
        shutil.copyfileobj(message, file, COPY)
    message.close()  # type: ignore[no-untyped-call]


def send_many(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Sends small messages."""
    content = Path(asked["path"]).read_bytes()
    for _ in range(asked["count"]):
        mesh.send_message("X26ABC2", content, workflow_id="BENCH")


def empty_inbox(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Lists, gets and acknowledges everything."""
    folder = Path(asked["folder"])
    for message in mesh.iterate_messages():
        with message, (folder / f"{message.id()}.dat").open("wb") as file:
            shutil.copyfileobj(message, file)


JOBS = {"send": send, "receive": receive, "send_many": send_many, "empty_inbox": empty_inbox}

if __name__ == "__main__":
    main()
