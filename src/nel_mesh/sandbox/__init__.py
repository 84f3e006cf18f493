"""A strict MESH server to develop and test against, on a real socket with mutual TLS.

    from nel_mesh.sandbox import sandbox

    with sandbox() as mesh:
        client = MeshClient(mesh.settings("X26ABC1"))

It needs the extra `sandbox`: `pip install "nel-mesh[sandbox]"`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nel_mesh.protocol.chunks import MAX_REQUEST_BYTES
from nel_mesh.sandbox.configuration import (
    DEFAULT_MAILBOXES,
    INBOX_LIFE,
    Mailbox,
    SandboxConfiguration,
    Workflow,
    utc_now,
)
from nel_mesh.sandbox.faults import Effect, Fault, as_faults

if TYPE_CHECKING:
    from nel_mesh.sandbox.server import Sandbox

__all__ = ["DEFAULT_MAILBOXES", "Effect", "Fault", "Mailbox", "Sandbox", "SandboxConfiguration", "Workflow", "sandbox"]

_EXTRA = 'the sandbox needs its extra: pip install "nel-mesh[sandbox]"'


def sandbox(
    *,
    mailboxes: Iterable[Mailbox] = DEFAULT_MAILBOXES,
    shared_key: str = "TestKey",
    workflows: Iterable[Workflow] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    tls: bool = True,
    data_folder: Path | str | None = None,
    clock: Callable[[], datetime] = utc_now,
    inbox_life: timedelta = INBOX_LIFE,
    compress_downloads: bool = False,
    max_request_bytes: int = MAX_REQUEST_BYTES,
    faults: Iterable[Fault | str] = (),
) -> Sandbox:
    """A sandbox that has yet to be started: `with sandbox() as mesh:`. The arguments are SandboxConfiguration's.

    A fault may be given in its text form. Raises ValueError for a text that is none, and ImportError, naming the
    extra, where the server's packages are not installed.
    """
    kind = __getattr__("Sandbox")
    made: Sandbox = kind(
        SandboxConfiguration(
            mailboxes=tuple(mailboxes),
            shared_key=shared_key,
            workflows=tuple(workflows),
            host=host,
            port=port,
            tls=tls,
            data_folder=None if data_folder is None else Path(data_folder),
            clock=clock,
            inbox_life=inbox_life,
            compress_downloads=compress_downloads,
            max_request_bytes=max_request_bytes,
            faults=as_faults(faults),
        )
    )
    return made


def __getattr__(name: str) -> Any:
    # The pytest plugin imports this package in every test run, also where the extra is not installed.
    if name != "Sandbox":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from nel_mesh.sandbox.server import Sandbox
    except ModuleNotFoundError as error:
        raise ImportError(_EXTRA) from error
    return Sandbox
