"""Try what a configuration names, before the agent relies on it: folders, destinations, and each mailbox."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from nel_mesh import MeshClient, MeshError, StorageError
from nel_mesh.agent.configuration import AgentConfiguration, MailboxPlan
from nel_mesh.agent.destinations import Destinations
from nel_mesh.agent.tables import received_into
from nel_mesh.agent.versions import chosen
from nel_mesh.io.files import make_folder, translate_storage_errors, write_file


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedStep:
    """Something that was tried.

    Attributes:
        name: what.
        is_good: whether it works.
        text: why not, or what was found.
    """

    name: str
    is_good: bool
    text: str = ""


def steps(configuration: AgentConfiguration) -> Iterator[CheckedStep]:
    """Try everything that the configuration names, one after another."""
    version = None
    try:
        configuration, version = chosen(configuration)
    except MeshError as error:
        yield CheckedStep("ledger", is_good=False, text=str(error))
    count = len(configuration.mailboxes)
    text = f"{count} mailbox{'' if count == 1 else 'es'}"
    if version is not None:
        text += f", by version {version} in the ledger"
    yield CheckedStep("configuration", is_good=True, text=text)
    yield _tried("data folder", partial(_writable, configuration.data, 0o700))
    destinations = Destinations(configuration.agent.disk_reserve_in_megabytes)
    try:
        for plan in configuration.mailboxes.values():
            yield from _mailbox(plan, destinations)
    finally:
        destinations.close()


def _mailbox(plan: MailboxPlan, destinations: Destinations) -> Iterator[CheckedStep]:
    name = plan.mailbox_id
    for place in dict.fromkeys(place for route in plan.options.receive for place in route.into):
        yield _tried(f"{name}: receive into {place}", partial(_destination, destinations, place))
    for route in plan.options.send:
        yield _tried(f"{name}: send from {route.folder}", partial(_folder, route.folder))
        for other in (route.archive_folder, route.failed_folder):
            yield _tried(f"{name}: folder {other}", partial(_writable, other))
    yield _tried(f"{name}: handshake", partial(_handshake, plan))


def _tried(name: str, work: Callable[[], object]) -> CheckedStep:
    try:
        work()
    except MeshError as error:
        return CheckedStep(name, is_good=False, text=str(error))
    return CheckedStep(name, is_good=True)


def _destination(destinations: Destinations, place: str) -> None:
    destination = destinations.open(place)
    folder = received_into(place)
    if folder is not None:
        _writable(folder)
        return
    # Reads the records that a store keeps, so it must be there and let us in.
    next(iter(destination.records.keys()), None)


def _folder(folder: Path) -> None:
    if not folder.is_dir():
        raise StorageError(f"{folder}: there is no such folder; make it")
    with translate_storage_errors(folder):
        os.listdir(folder)  # noqa: PTH208  it must be allowed, and that is all


def _writable(folder: Path, mode: int = 0o777) -> None:
    with translate_storage_errors(folder):
        make_folder(folder, mode)
        probe = folder / f".nel-mesh-check-{os.getpid()}"
        write_file(probe, b"")
        probe.unlink()


def _handshake(plan: MailboxPlan) -> None:
    with MeshClient(plan.settings) as client:
        client.handshake()
