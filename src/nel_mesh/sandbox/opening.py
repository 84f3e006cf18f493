"""A sandbox in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import nel_mesh.sandbox
from nel_mesh.protocol.chunks import MAX_REQUEST_BYTES
from nel_mesh.sandbox.configuration import (
    DEFAULT_MAILBOXES,
    INBOX_LIFE,
    Mailbox,
    SandboxConfiguration,
    Workflow,
    utc_now,
)
from nel_mesh.sandbox.faults import Fault, as_faults

if TYPE_CHECKING:
    from nel_mesh.sandbox.server import Sandbox


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
    # By way of the package, which says what to install.
    return nel_mesh.sandbox.Sandbox(
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
