"""The configuration that an agent works by, kept where another process can compare it with the file.

The agent writes it into its data folder when it starts, and each time it loads the file again. No secret is in it: of a
file with secrets, or a certificate, it only says which version of the file was loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nel_mesh import InvalidArgument, StorageError
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.check.effective import AS_TEXT, CERTIFICATES, HIDDEN, shown
from nel_mesh.io.files import write_file
from nel_mesh.io.locks import FileLock
from nel_mesh.settings import MeshSettings

FILE_NAME = "running.json"

_UNKEPT = frozenset({"settings", "ledger", "alive_url", "url", "command"})
"""Fields that can hold a secret: of these only the file's version tells."""

_PRIVATE = frozenset({"to", "subject", "partner_id", "recipient"})

_NEED_RESTART = ("agent.data", "agent.ledger", "agent.health", "agent.console", "agent.workers", "agent.stop_within")


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A difference between the configuration in use and the file.

    Attributes:
        name: the setting, or the file that settings or certificates are in.
        before: its value in use; None if there is none.
        after: its value in the file; None if there is none.
        is_private: whether the values may be about a person, and are not to be shown.
        needs_restart: whether the agent only takes it when it is started again.
    """

    name: str
    before: Any = dataclasses.field(repr=False)
    after: Any = dataclasses.field(repr=False)
    is_private: bool = False
    needs_restart: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What would change.

    Attributes:
        changes: each difference.
        loaded_at: when the configuration in use was loaded.
        is_running: whether an agent works by it now; if not, it is that of the last one.
    """

    changes: list[Change]
    loaded_at: datetime
    is_running: bool


def keep(configuration: AgentConfiguration, now: datetime) -> None:
    """Write down that the agent works by a configuration from now on. Raises StorageError."""
    described = {"loaded_at": now.isoformat(), "values": _values(configuration), "files": _files(configuration)}
    write_file(configuration.data / FILE_NAME, json.dumps(described, indent=1).encode())


def compare(configuration: AgentConfiguration) -> Comparison:
    """Compare the configuration in use with one that was just read.

    Raises:
        InvalidArgument: no agent has run with this data folder.
        StorageError: what the agent wrote down cannot be read.
    """
    path = configuration.data / FILE_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise InvalidArgument(
            f"{path} is not there: no agent has run with this data folder, so all of the file is new"
        ) from None
    except OSError as error:
        raise StorageError(f"{path}: it cannot be read: {error.strerror}") from None
    try:
        kept = json.loads(text)
        loaded_at = datetime.fromisoformat(kept["loaded_at"])
        values, files = dict(kept["values"]), dict(kept["files"])
    except (ValueError, TypeError, KeyError):
        raise StorageError(f"{path}: it is not what an agent wrote; restart the agent, which writes it again") from None
    changes = [*_changes(values, _values(configuration)), *_changes(files, _files(configuration))]
    return Comparison(changes, loaded_at, _is_running(configuration))


def differences(before: AgentConfiguration, after: AgentConfiguration) -> list[Change]:
    """Compare two configurations of one machine. Secrets are left aside."""
    return list(_changes(_values(before), _values(after)))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in [*before, *(name for name in after if name not in before)]:
        one, other = before.get(name), after.get(name)
        if one != other:
            is_private = name.rpartition(".")[2] in _PRIVATE
            yield Change(name, one, other, is_private, name.startswith(_NEED_RESTART))


def _is_running(configuration: AgentConfiguration) -> bool:
    lock = FileLock(configuration.locks[0])
    if lock.acquire():
        lock.release()
        return False
    return True


def _values(configuration: AgentConfiguration) -> dict[str, Any]:
    """Return each setting by its name, as JSON, without secrets."""
    found: dict[str, Any] = {}
    _flatten("agent", configuration.agent, found)
    _flatten("defaults", configuration.defaults, found)
    for mailbox_id, plan in configuration.mailboxes.items():
        _flatten(f"mailboxes.{mailbox_id}", plan.options, found)
        for name in MeshSettings.model_fields:
            value = shown(name, getattr(plan.settings, name))
            if value not in (None, HIDDEN, []):
                found[f"mailboxes.{mailbox_id}.settings.{name}"] = value
    return found


def _flatten(name: str, table: BaseModel, found: dict[str, Any]) -> None:
    for field, info in type(table).model_fields.items():
        value, own = getattr(table, field), f"{name}.{info.alias or field}"
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for number, one in enumerate(value, 1):
                _flatten(f"{own}.{number}", one, found)
        elif value not in (None, ()) and field not in _UNKEPT:
            found[own] = _json(value)


def _json(value: object) -> Any:
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _files(configuration: AgentConfiguration) -> dict[str, str]:
    """Return which version of each file is in use: when it was changed, and its length."""
    paths = {configuration.path}
    for plan in configuration.mailboxes.values():
        if isinstance(plan.options.settings, Path):
            paths.add(configuration.path.parent / plan.options.settings)
        for name in CERTIFICATES:
            value = shown(name, getattr(plan.settings, name))
            named = value if isinstance(value, list) else [value]
            paths.update(Path(one) for one in named if isinstance(one, str) and one != AS_TEXT)
    found = {}
    for path in sorted(paths):
        with contextlib.suppress(OSError):
            status = path.stat()
            changed = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(sep=" ")
            found[f"file {path}"] = f"{status.st_size:,} bytes of {changed}"
    return found
