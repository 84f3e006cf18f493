"""A user's program, as strict type checkers see it: never run, but checked against the package as it is installed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import assert_type

import nel_mesh
from nel_mesh import (
    AsyncMeshClient,
    AsyncMessage,
    FolderDestination,
    InboxPage,
    Mailbox,
    MeshClient,
    MeshError,
    MeshSettings,
    Message,
    MessageMetadata,
    Outcome,
    OutcomeUnknown,
    ReceivedFile,
    ReceiveResult,
    ResponseError,
    SendProgress,
    SendReceipt,
    SqliteJournal,
    Tracking,
)


def settings() -> MeshSettings:
    """Both ways to them."""
    read = MeshSettings.from_file("appsettings.Development.json", read_timeout_in_seconds=30)
    made = MeshSettings(mailbox_id="X26ABC1", password="p", shared_key="k", url="https://mesh.example")
    assert_type(read, MeshSettings)
    return made if read.mailbox_id else read


def told(progress: SendProgress) -> None:
    """What a program does with progress."""
    print(progress)


def blocks() -> Iterator[bytes]:
    """Content from anywhere."""
    yield b"id,value\n"


async def async_blocks() -> AsyncIterator[bytes]:
    """The same, in the other variant."""
    yield b"id,value\n"


def sync_program(folder: Path) -> str:
    """Everything, with the sync client."""
    on_progress: Callable[[SendProgress], object] = told
    with MeshClient(settings()) as mesh:
        assert_type(mesh, MeshClient)
        mesh.handshake()
        sent = mesh.send_message(b"content", to="X26ABC2", workflow_id="W", subject="s", compress=True)
        assert_type(sent, SendReceipt)
        mesh.send_message("text", to="X26ABC2", workflow_id="W")
        mesh.send_message(blocks(), to="X26ABC2", workflow_id="W")
        with (folder / "results.csv").open("rb") as file:
            mesh.send_message(file, to="X26ABC2", workflow_id="W", progress=on_progress)
        mesh.send_file(folder / "results.csv", to="X26ABC2", workflow_id="W", resume=folder / "record.json")
        tracking = mesh.track_message(sent.message_id)
        assert_type(tracking, Tracking)
        assert_type(mesh.count_messages(), int)
        assert_type(mesh.list_messages(), InboxPage)
        assert_type(mesh.search_workflow("W"), list[Mailbox])
        assert_type(mesh.resolve_send("local-1"), Tracking | None)
        assert_type(mesh.message_metadata(sent.message_id), MessageMetadata)
        for message_id in mesh.iter_message_ids():
            assert_type(message_id, str)
            with mesh.retrieve_message(message_id) as message:
                assert_type(message, Message)
                assert_type(message.read(1000), bytes)
                for block in message:
                    assert_type(block, bytes)
                assert_type(message.save(folder / message_id), int)
            mesh.acknowledge_message(message_id)
        # A31: a generator, so that `closing` takes it.
        with contextlib.closing(mesh.iter_messages()) as messages:
            for message in messages:
                assert_type(message, Message)
        result = mesh.receive_messages(FolderDestination(folder), message_ids=[sent.message_id], acknowledge=False)
        assert_type(result, ReceiveResult)
        result.raise_for_failed()
        mesh.receive_messages(lambda message: message.read(), journal=SqliteJournal(folder / "journal"))
        assert_type(mesh.receive_file(sent.message_id, folder), ReceivedFile)
        return sent.message_id


async def async_program(folder: Path) -> str:
    """Everything, with the async client."""
    async with AsyncMeshClient(settings()) as mesh:
        assert_type(mesh, AsyncMeshClient)
        await mesh.handshake()
        sent = await mesh.send_message(async_blocks(), to="X26ABC2", workflow_id="W")
        assert_type(sent, SendReceipt)
        assert_type(await mesh.track_message(sent.message_id), Tracking)
        assert_type(await mesh.list_messages(), InboxPage)
        async for message_id in mesh.iter_message_ids():
            assert_type(message_id, str)
            async with mesh.retrieve_message(message_id) as message:
                assert_type(message, AsyncMessage)
                assert_type(await message.read(), bytes)
                async for block in message:
                    assert_type(block, bytes)
                assert_type(await message.save(folder / message_id), int)
            await mesh.acknowledge_message(message_id)
        async with contextlib.aclosing(mesh.iter_messages()) as messages:
            async for message in messages:
                assert_type(message, AsyncMessage)
        assert_type(await mesh.receive_messages(folder), ReceiveResult)
        assert_type(await mesh.receive_file(sent.message_id, folder), ReceivedFile)
        return sent.message_id


def what_became_of_it(error: MeshError) -> str:
    """Errors, told apart."""
    assert_type(error.outcome, Outcome)
    if isinstance(error, OutcomeUnknown):
        return error.local_id or "?"
    if isinstance(error, ResponseError):
        assert_type(error.status, int | None)
    return nel_mesh.__version__
