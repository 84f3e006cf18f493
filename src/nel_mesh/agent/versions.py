"""The configuration in the ledger: what of a file goes there, and how a machine works by it.

A version has all of a file but the tables `[agent]` and `[console]`: they are each machine's own and stay in its file,
which also says where the ledger is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nel_mesh import ConfigurationError, InvalidArgument, SettingFault
from nel_mesh.agent.configuration import AgentConfiguration, Lines, document_of, parse, read_text
from nel_mesh.agent.open_ledger import open_ledger
from nel_mesh.check.effective import AS_TEXT, HIDDEN, shown
from nel_mesh.ledger.configurations import LedgerConfiguration
from nel_mesh.ledger.ledger import FILE_NAME, Ledger
from nel_mesh.settings import MeshSettings

Place = tuple[str | int, ...]
"""A setting, by the names and numbers from the top."""

OWN_TABLES = ("agent", "console")
"""What is each machine's own."""

_HEADER = re.compile(r"^\s*\[\[?\s*([^\]\s.]+)")
_BEFORE = 20
"""How many versions are tried by an agent that starts and cannot work by the newest."""


def check_kind(path: Path) -> None:
    """Raise InvalidArgument if a file is the Java client's, of which there are no versions."""
    if path.suffix.casefold() == ".cfg":
        raise InvalidArgument(f"{path}: `agent import-java` turns it into a configuration that can have versions")


def shared_part(text: str, where: str) -> str:
    """Return the text of a configuration without what is each machine's own: its lines are empty.

    Raises:
        ConfigurationError: it is not TOML.
        InvalidArgument: its tables cannot be told apart by their headers.
    """
    document = document_of(text, where)
    kept = []
    is_own = False
    for line in text.splitlines():
        if header := _HEADER.match(line):
            is_own = header[1].strip("\"'") in OWN_TABLES
        kept.append("" if is_own else line)
    shared = "\n".join(kept).rstrip() + "\n"
    wanted = {name: table for name, table in document.items() if name not in OWN_TABLES}
    try:
        is_same = document_of(shared, where) == wanted
    except ConfigurationError:
        is_same = False
    if not is_same:
        raise InvalidArgument(f"{where}: write `[agent]` and `[console]` as tables of their own, each with its header")
    return shared


def in_use(path: Path, version: LedgerConfiguration) -> AgentConfiguration:
    """Return a version as this machine works by it: with the machine's own tables.

    Args:
        path: the machine's file.
        version: the version.

    Raises:
        ConfigurationError: one of them has faults.
    """
    return parse_shared(version.content, path, f"version {version.number}")


def parse_shared(text: str, path: Path, label: str) -> AgentConfiguration:
    """Check the shared part of a configuration, with the own tables of a machine's file. Raises ConfigurationError."""
    own = document_of(read_text(path), str(path))
    return parse(text, path, label=label, own={name: own[name] for name in OWN_TABLES if name in own})


def newest_good(path: Path, ledger: Ledger) -> tuple[AgentConfiguration, LedgerConfiguration, str | None] | None:
    """Return the newest version by which this machine can work; None if there are no versions.

    Returns:
        The configuration, its version, and why the newest one was not taken.

    Raises:
        ConfigurationError: there are versions, and this machine can work by none of them.
    """
    refused: ConfigurationError | None = None
    for version in ledger.configurations.all(_BEFORE):
        try:
            return in_use(path, version), version, str(refused) if refused is not None else None
        except ConfigurationError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return None


def chosen(configuration: AgentConfiguration) -> tuple[AgentConfiguration, int | None]:
    """Return what an agent with this file would work by: the newest version in its ledger, or the file.

    Raises:
        ConfigurationError: as `newest_good`.
        StorageError: the ledger cannot be used.
    """
    has_ledger = configuration.is_fleet or (configuration.data / FILE_NAME).exists()
    if configuration.path.suffix.casefold() == ".cfg" or not has_ledger:
        return configuration, None
    with open_ledger(configuration) as ledger:
        found = newest_good(configuration.path, ledger)
    return (configuration, None) if found is None else (found[0], found[1].number)


def check(text: str, path: Path, label: str) -> str:
    """Return the shared part of a configuration, once it has no fault and no secret.

    Args:
        text: the whole text.
        path: the file of the machine that checks it.
        label: what faults call the text.

    Raises:
        ConfigurationError: it has faults, or a secret in clear; each is listed.
        InvalidArgument: as `shared_part`.
    """
    shared = shared_part(text, label)
    configuration = parse_shared(shared, path, label)
    secrets = [*_secret_settings(configuration), *_passwords(document_of(shared, label), ())]
    if secrets:
        lines = Lines(label, shared)
        message = "a secret in clear, which the ledger would keep; name a file on each machine instead"
        raise ConfigurationError.of([SettingFault(None, lines.at(place), "invalid", message) for place in secrets])
    return f"{shared.strip()}\n"


def _secret_settings(configuration: AgentConfiguration) -> Iterator[Place]:
    for mailbox_id, plan in configuration.mailboxes.items():
        if isinstance(plan.options.settings, Path):
            continue
        for name in plan.options.settings:
            if name not in MeshSettings.model_fields:
                continue
            value = shown(name, getattr(plan.settings, name))
            values = value if isinstance(value, list) else [value]
            if any(one in (HIDDEN, AS_TEXT) or (isinstance(one, str) and one.endswith(HIDDEN)) for one in values):
                yield ("mailboxes", mailbox_id, "settings", name)


def _passwords(value: Any, place: Place) -> Iterator[Place]:
    """Name the web addresses that have a password in them."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _passwords(one, (*place, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _passwords(one, (*place, number))
    elif isinstance(value, str) and "://" in value:
        try:
            has_password = urlsplit(value).password is not None
        except ValueError:
            has_password = False
        if has_password:
            yield place
