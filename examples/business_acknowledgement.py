"""Business acknowledgements: tells each sender, once, that its message was processed.

    python examples/business_acknowledgement.py appsettings.json PATH_RESULTS /var/lib/results

A message's status `acknowledged` says no more than that somebody took it from MESH. So for each message of a workflow,
this stores it, sends a message back to its sender under the same workflow id with `_ACK` at its end, and only then
acknowledges it to MESH. The local id is made from the id of the message that it answers, and the send has a record:
after an interruption at any point, the next run goes on, and no second answer is sent.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from nel_mesh import MeshClient, MeshError, MeshSettings, Message

logger = logging.getLogger("business_acknowledgement")


class Acknowledger:
    """Processes the messages of one workflow, and answers each."""

    def __init__(self, mesh: MeshClient, workflow_id: str, folder: Path) -> None:
        self._mesh = mesh
        self._workflow_id = workflow_id
        self._inbox = folder / "inbox"
        self._answers = folder / "answers"
        self._records = folder / "records"
        for needed in (self._answers, self._records):
            needed.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run(self) -> bool:
        """Goes through the inbox once; gives whether every message was processed and answered."""
        result = self._mesh.receive_messages(self._process, workflow_filter=self._workflow_id)
        for failed in result.failed:
            logger.error("message %s stays in the inbox: %s", failed.message_id, type(failed.error).__name__)
        return not result.failed

    def _process(self, message: Message) -> None:
        """When this returns, `receive_messages` acknowledges the message; when it raises, the message stays."""
        message_id = message.metadata.message_id
        message.save(self._inbox / f"{message_id}.dat")  # here your own processing goes; it must bear a second time
        if message.metadata.sender is None:
            raise ValueError("MESH does not say who sent it")
        self._answer(message_id, to=message.metadata.sender)

    def _answer(self, message_id: str, *, to: str) -> None:
        path = self._answers / f"{message_id}.json"
        # Written once: a send is gone on with only if its file is still the same.
        if not path.exists():
            part = path.with_suffix(".part")
            with part.open("w", encoding="utf-8") as file:
                json.dump({"message_id": message_id, "status": "processed"}, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        self._mesh.send_file(
            path,
            to=to,
            workflow_id=f"{self._workflow_id}_ACK",
            local_id=f"ack-{message_id}",
            resume=self._records,
        )


def main(arguments: list[str] | None = None) -> int:
    """Goes through the inbox once; run it every five minutes or more."""
    parser = argparse.ArgumentParser(description="Processes the messages of a workflow, and acknowledges each.")
    parser.add_argument("settings", type=Path, help="the mailbox's settings file")
    parser.add_argument("workflow_id", help="which messages to process")
    parser.add_argument("folder", type=Path, help="where messages, answers and records go")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        with MeshClient(MeshSettings.from_file(given.settings)) as mesh:
            is_well = Acknowledger(mesh, given.workflow_id, given.folder).run()
    except (MeshError, OSError) as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
