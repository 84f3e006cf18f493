"""Our client, in either colour."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
from measure import Measured, job, measured, report

from nel_mesh import AsyncMeshClient, MeshClient, MeshSettings


def main() -> None:
    """Does the job."""
    asked = job()
    for name, value in asked.get("constants", {}).items():
        change(name, value)
    settings = MeshSettings(
        url=asked["url"],
        mailbox_id=asked["mailbox"],
        password=asked["password"],
        shared_key=asked["shared_key"],
        tls_root_certificates=[asked["authority"]],
        client_signing_certificate=asked["client"],
        proxy="none",
        **asked.get("settings", {}),
    )
    if asked["colour"] == "sync":
        with MeshClient(settings) as mesh, measured(asked) as result:
            JOBS[asked["operation"]](mesh, asked)
    else:
        result = anyio.run(run_async, settings, asked, backend=asked["colour"])
    report(result)


def change(name: str, value: int) -> None:
    """Gives one of the client's numbers another value, wherever it has been imported to: to try what is best.

    The number is a module's, or a class's: `Contents.SEND_BLOCK`.
    """
    modules = [module for full, module in sys.modules.items() if full.startswith("nel_mesh.")]
    *kind, last = name.split(".")
    holders = [getattr(module, kind[0], None) for module in modules] if kind else modules
    found = [holder for holder in holders if hasattr(holder, last)]
    if not found:
        sys.exit(f"the client has no {name}")
    for holder in found:
        setattr(holder, last, value)


async def run_async(settings: MeshSettings, asked: dict[str, Any]) -> Measured:
    """Does the job in an event loop."""
    async with AsyncMeshClient(settings) as mesh:
        with measured(asked) as result:
            await ASYNC_JOBS[asked["operation"]](mesh, asked)
    return result


def send(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Sends one file."""
    mesh.send_file(asked["path"], to="X26ABC2", workflow_id="BENCH", compress=bool(asked.get("compress")))


def receive(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Receives one message into a file."""
    mesh.receive_file(asked["message_id"], asked["folder"], verify_checksum=asked.get("verify_checksum", True))


def send_many(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Sends small messages, several at once, from threads of the caller's."""
    content = Path(asked["path"]).read_bytes()

    def one(_: int) -> None:
        mesh.send_message(content, to="X26ABC2", workflow_id="BENCH")

    with ThreadPoolExecutor(asked["at_once"]) as pool:
        list(pool.map(one, range(asked["count"])))


def send_in_turn(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Sends small messages, one after another."""
    content = Path(asked["path"]).read_bytes()
    for _ in range(asked["count"]):
        mesh.send_message(content, to="X26ABC2", workflow_id="BENCH")


def empty_inbox(mesh: MeshClient, asked: dict[str, Any]) -> None:
    """Lists, gets and acknowledges everything."""
    done = mesh.receive_messages(asked["folder"], concurrency=asked["at_once"])
    _check(len(done.delivered), asked)


async def async_send(mesh: AsyncMeshClient, asked: dict[str, Any]) -> None:
    """As `send`."""
    await mesh.send_file(asked["path"], to="X26ABC2", workflow_id="BENCH", compress=bool(asked.get("compress")))


async def async_receive(mesh: AsyncMeshClient, asked: dict[str, Any]) -> None:
    """As `receive`."""
    await mesh.receive_file(asked["message_id"], asked["folder"], verify_checksum=asked.get("verify_checksum", True))


async def async_send_many(mesh: AsyncMeshClient, asked: dict[str, Any]) -> None:
    """As `send_many`, from tasks."""
    content = await anyio.Path(asked["path"]).read_bytes()
    numbers = iter(range(asked["count"]))

    async def hand() -> None:
        for _ in numbers:
            await mesh.send_message(content, to="X26ABC2", workflow_id="BENCH")

    async with anyio.create_task_group() as group:
        for _ in range(asked["at_once"]):
            group.start_soon(hand)


async def async_send_in_turn(mesh: AsyncMeshClient, asked: dict[str, Any]) -> None:
    """As `send_in_turn`."""
    content = await anyio.Path(asked["path"]).read_bytes()
    for _ in range(asked["count"]):
        await mesh.send_message(content, to="X26ABC2", workflow_id="BENCH")


async def async_empty_inbox(mesh: AsyncMeshClient, asked: dict[str, Any]) -> None:
    """As `empty_inbox`."""
    done = await mesh.receive_messages(asked["folder"], concurrency=asked["at_once"])
    _check(len(done.delivered), asked)


def _check(done: int, asked: dict[str, Any]) -> None:
    if done != asked["count"]:
        sys.exit(f"{done} of {asked['count']} messages were received")


JOBS = {
    "send": send,
    "receive": receive,
    "send_many": send_many,
    "send_in_turn": send_in_turn,
    "empty_inbox": empty_inbox,
}
ASYNC_JOBS = {
    "send": async_send,
    "receive": async_receive,
    "send_many": async_send_many,
    "send_in_turn": async_send_in_turn,
    "empty_inbox": async_empty_inbox,
}

if __name__ == "__main__":
    main()
