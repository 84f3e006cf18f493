"""A token for a request made by hand."""

from __future__ import annotations

from nel_mesh.io.clock import Clock
from nel_mesh.protocol.token import authorization
from nel_mesh.settings import MeshSettings


def authorization_of(settings: MeshSettings) -> str:
    """Make the value of one Authorization header. It is a secret, valid for one request."""
    clock = Clock()
    return authorization(
        mailbox_id=settings.mailbox_id,
        password=settings.password.get_secret_value(),
        shared_key=settings.shared_key.get_secret_value(),
        nonce=clock.unique(),
        now=clock.now(),
    )
