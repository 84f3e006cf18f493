"""Business acknowledgements: tell each sender, once, that its message was processed.

    python examples/business_acknowledgement.py appsettings.json PATH_RESULTS /var/lib/results

The status `acknowledged` only says that a recipient downloaded a message. So this stores each message of a workflow,
sends a reply under the same workflow id with `_ACK` appended, and only then acknowledges the message to MESH. The
reply's local id is made from the message id, and the send has a record: after an interruption at any point, the next
run resumes, and no duplicate reply is sent.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from nel_mesh import MeshClient, MeshError, MeshSettings, Message, Report

logger = logging.getLogger("business_acknowledgement")


class Acknowledger:
    """Processes the messages of one workflow and replies to each."""

    def __init__(self, mesh: MeshClient, workflow_id: str, folder: Path) -> None:
        self._mesh = mesh
        self._workflow_id = workflow_id
        self._inbox = folder / "inbox"
        self._replies = folder / "replies"
        self._records = folder / "records"
        for needed in (self._inbox, self._replies, self._records):
            needed.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run(self) -> bool:
        """Empty the inbox once; return whether every message was processed and replied to."""
        result = self._mesh.receive_messages(self._process, on_report=self._keep, workflow_filter=self._workflow_id)
        for failed in result.failed:
            logger.error("message %s stays in the inbox: %s", failed.message_id, failed.error)
        return not result.failed and result.error is None

    def _process(self, message: Message) -> None:
        """Process a message; `receive_messages` acknowledges it if this returns, and leaves it if this raises."""
        message_id = message.metadata.message_id
        message.save(self._inbox / f"{message_id}.dat")  # put your own processing here; make it idempotent
        if message.metadata.sender is None:
            raise ValueError("MESH does not say who sent it")
        self._reply(message_id, to=message.metadata.sender)

    def _keep(self, report: Report) -> None:
        write(self._inbox / f"report-{report.message_id}.json", report.model_dump_json(exclude_none=True))

    def _reply(self, message_id: str, *, to: str) -> None:
        path = self._replies / f"{message_id}.json"
        # Written once: a send resumes only if its file is unchanged.
        if not path.exists():
            write(path, json.dumps({"message_id": message_id, "status": "processed"}))
        self._mesh.send_file(
            path,
            to=to,
            workflow_id=f"{self._workflow_id}_ACK",
            local_id=f"ack-{message_id}",
            resume=self._records,
        )


def write(path: Path, text: str) -> None:
    """Write a file durably; it has its name only when it is complete."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Empty the inbox once; run it every five minutes."""
    parser = argparse.ArgumentParser(
        description="Process the messages of a workflow, and send a business acknowledgement for each."
    )
    parser.add_argument("settings", type=Path, help="the mailbox's settings file")
    parser.add_argument("workflow_id", help="which messages to process")
    parser.add_argument("folder", type=Path, help="folder for messages, replies and records")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        with MeshClient(MeshSettings.from_file(given.settings)) as mesh:
            succeeded = Acknowledger(mesh, given.workflow_id, given.folder).run()
    except (MeshError, OSError) as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
