"""`nel-mesh handshake`."""

from __future__ import annotations

import typer

from nel_mesh.cli.session import session_of


def handshake(ctx: typer.Context) -> None:
    """Validates access to the mailbox, and tells MESH that it is in use; due once every 24 hours.

    \b
    Example:
      nel-mesh handshake
    """
    session = session_of(ctx)
    with session.client() as client:
        client.handshake()
    session.out.result({"mailbox_id": client.mailbox_id, "ok": True}, f"{client.mailbox_id}: the handshake succeeded.")
