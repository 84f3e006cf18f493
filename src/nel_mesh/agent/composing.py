"""A message that a person gives to the agent by hand: its file is kept beside the ledger, and sent as any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

from nel_mesh import InvalidArgument
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.membership import place_of
from nel_mesh.agent.sending import COMPOSED
from nel_mesh.io.files import NewFile, make_folder, translate_storage_errors
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.outgoing import NewSend

_BLOCK_BYTES = 1 << 20


def composed_folder(configuration: AgentConfiguration) -> Path:
    """Return where the files of such messages are kept."""
    return configuration.data / "composed"


def compose(
    ledger: Ledger,
    configuration: AgentConfiguration,
    mailbox_id: str,
    content: BinaryIO,
    *,
    to: str,
    workflow_id: str,
    file_name: str,
    subject: str | None,
    compress: bool,
    actor: str,
) -> LedgerMessage:
    """Note a message to be sent. Its file is durable before the ledger knows of it.

    Args:
        ledger: the agent's.
        configuration: the agent's.
        mailbox_id: the mailbox that sends it.
        content: what is sent, from where it stands to its end.
        to: the recipient's mailbox id.
        workflow_id: the workflow id.
        file_name: what the recipient gets to see.
        subject: the subject.
        compress: gzip in transit.
        actor: who gave it.

    Returns:
        LedgerMessage: the message; the agent sends it within a second or two.

    Raises:
        InvalidArgument: the mailbox cannot send, there is no content, or no agent that could read the file. Nothing was
            noted.
        StorageError: the file could not be kept. Nothing was noted.
    """
    plan = configuration.mailboxes.get(mailbox_id)
    if plan is None:
        raise InvalidArgument(f"the configuration has no mailbox {mailbox_id}")
    if plan.options.shadow:
        raise InvalidArgument(f"{mailbox_id} is a shadow: it sends nothing")
    node = _node_of(ledger, configuration) if configuration.is_fleet else None
    key = ledger.clock.unique()
    folder = composed_folder(configuration) / key
    path = folder / "content"
    with translate_storage_errors(folder):
        make_folder(folder, 0o700)
    with NewFile(path) as file:
        length = 0
        while block := content.read(_BLOCK_BYTES):
            file.write(block)
            length += len(block)
        if length:
            file.commit()
    if not length:
        shutil.rmtree(folder, ignore_errors=True)
        raise InvalidArgument("the file is empty, and MESH takes no empty message")
    options = {"to": to, "workflow_id": workflow_id, "file_name": file_name, "subject": subject}
    send = NewSend(
        source=str(path),
        stamp=f"{COMPOSED}{key}",
        options={name: value for name, value in options.items() if value} | ({"compress": True} if compress else {}),
        route=None,
        file_name=file_name,
        length=length,
        node=node,
    )
    [message] = ledger.outgoing.add(mailbox_id, [send], actor=actor)
    return message


def _node_of(ledger: Ledger, configuration: AgentConfiguration) -> str:
    """Return the node of a fleet that can read this machine's files: the one with the same data folder."""
    here = place_of(configuration.data)
    for node in ledger.nodes.all():
        if node.place == here and node.ended_at is None:
            return node.name
    raise InvalidArgument("no agent of the fleet works here, with this data folder: put the file into a shared folder")


def remove_composed_before(configuration: AgentConfiguration, moment: float) -> None:
    """Remove the files of messages that were given before a time."""
    folder = composed_folder(configuration)
    for place in folder.iterdir() if folder.is_dir() else ():
        if place.stat().st_mtime < moment:
            shutil.rmtree(place, ignore_errors=True)
