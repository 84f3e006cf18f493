"""Our clients, sync and async."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
from measure import Measured, job, measured, report

from nel_mesh import AsyncMeshClient, MeshClient, MeshSettings

TO: dict[str, Any] = {"to": "X26ABC2", "workflow_id": "BENCH"}


def main() -> None:
    """Do the job."""
    asked = job()
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
    if "place" in asked:
        # Imports the library of the store.
        import_module(f"nel_mesh.destinations.{asked['place'].partition(':')[0]}")
    result = anyio.run(use_async, settings, asked) if asked["is_async"] else use_sync(settings, asked)
    report(result)


def call(asked: dict[str, Any]) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """The method of either client that does the job, and its arguments."""
    if asked["operation"] == "send":
        return "send_file", (asked["path"],), {**TO, "compress": bool(asked.get("compress"))}
    if asked["operation"] == "receive":
        options = {"verify_checksum": asked.get("verify_checksum", True)}
        return "receive_file", (asked["message_id"], asked.get("place", asked["folder"])), options
    return "receive_messages", (asked["folder"],), {"concurrency": asked["at_once"]}


def use_sync(settings: MeshSettings, asked: dict[str, Any]) -> Measured:
    """Do the job with the sync client; small messages one after another, or from threads of the caller's."""
    with MeshClient(settings) as mesh, measured() as result:
        if asked["operation"] != "send_many":
            name, arguments, options = call(asked)
            check(getattr(mesh, name)(*arguments, **options), asked)
            return result
        content, numbers = Path(asked["path"]).read_bytes(), range(asked["count"])
        if asked["at_once"] == 1:
            for _ in numbers:
                mesh.send_message(content, **TO)
        else:
            with ThreadPoolExecutor(asked["at_once"]) as pool:
                list(pool.map(lambda _: mesh.send_message(content, **TO), numbers))
    return result


async def use_async(settings: MeshSettings, asked: dict[str, Any]) -> Measured:
    """Do the job with the async client; small messages from tasks."""
    async with AsyncMeshClient(settings) as mesh:
        with measured() as result:
            if asked["operation"] != "send_many":
                name, arguments, options = call(asked)
                check(await getattr(mesh, name)(*arguments, **options), asked)
                return result
            content, numbers = await anyio.Path(asked["path"]).read_bytes(), iter(range(asked["count"]))

            async def work() -> None:
                for _ in numbers:
                    await mesh.send_message(content, **TO)

            async with anyio.create_task_group() as group:
                for _ in range(asked["at_once"]):
                    group.start_soon(work)
    return result


def check(done: Any, asked: dict[str, Any]) -> None:
    """Refuse an inbox that was not emptied."""
    if asked["operation"] == "empty_inbox" and len(done.delivered) != asked["count"]:
        sys.exit(f"{len(done.delivered)} of {asked['count']} messages were received")


if __name__ == "__main__":
    main()
