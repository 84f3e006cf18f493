"""`nel-mesh token`."""

from __future__ import annotations

import typer

from nel_mesh.cli.session import session_of

_WHAT = (
    "This is a secret: with it, anyone can make one request as mailbox {mailbox_id}. It is good for one request, and"
    " for two hours at most. Do not put it into a ticket, a chat or a log."
)


def token(ctx: typer.Context) -> None:
    """Prints one Authorization header, for debugging with curl; on stderr it says what that is.

    The header is a secret: it is good for one request of this mailbox within two hours. With --json: one object with
    mailbox_id and authorization.

    \b
    Example:
      curl --cacert root.pem --cert mesh.pem --key mesh.key -H "$(nel-mesh token)" \\
        https://msg.intspineservices.nhs.uk/messageexchange/X26ABC1/inbox
    """
    from nel_mesh.io.clock import Clock
    from nel_mesh.protocol.token import authorization

    session = session_of(ctx)
    settings, clock = session.load_settings(), Clock()
    value = authorization(
        mailbox_id=settings.mailbox_id,
        password=settings.password.get_secret_value(),
        shared_key=settings.shared_key.get_secret_value(),
        nonce=clock.unique(),
        now=clock.now(),
    )
    header = f"Authorization: {value}"
    session.out.note(_WHAT.format(mailbox_id=settings.mailbox_id))
    session.out.result({"mailbox_id": settings.mailbox_id, "authorization": value}, header, brief=header)
