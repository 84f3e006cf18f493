"""A page to look into the mailboxes of a sandbox, for a browser on this machine. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from starlette.responses import HTMLResponse

from nel_mesh.sandbox.configuration import SandboxMailbox
from nel_mesh.sandbox.request import RequestSeen
from nel_mesh.sandbox.store import MessageStatus, StoredMessage

MOST_ROWS: Final = 200
_STYLE: Final = """
body { font: 1rem/1.5 Arial, sans-serif; margin: 2rem; color-scheme: light dark }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid; overflow-wrap: anywhere }
"""
_HEADERS: Final = {
    # Texts come from clients of the sandbox: they are escaped, and no script runs even if one were not.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}


def page(
    mailboxes: Iterable[SandboxMailbox], messages: Sequence[StoredMessage], requests: Sequence[RequestSeen]
) -> HTMLResponse:
    """Return the page.

    Args:
        mailboxes: the mailboxes.
        messages: all messages, oldest first; the newest are shown.
        requests: the last requests, oldest first; the newest are shown.
    """
    waiting = [message.recipient for message in messages if message.status == MessageStatus.ACCEPTED]
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>MESH sandbox</title><style>{_STYLE}</style>'
        '</head><body><h1>MESH sandbox</h1><p><a href="">Look again</a></p>',
        _table(
            "Mailboxes",
            ("mailbox", "name", "ODS code", "waiting"),
            [(box.mailbox_id, box.name, box.ods_code, waiting.count(box.mailbox_id)) for box in mailboxes],
        ),
        _table(
            f"Messages: {len(messages):,}",
            ("message id", "from", "to", "workflow", "file name", "chunks", "bytes on the wire", "status"),
            [
                (
                    one.message_id,
                    one.sender,
                    one.recipient,
                    one.description.workflow_id,
                    one.description.file_name,
                    len(one.sizes),
                    sum(one.sizes),
                    one.status,
                )
                for one in reversed(messages[-MOST_ROWS:])
            ],
        ),
        _table(
            "Requests",
            ("method", "path", "operation", "mailbox", "status", "reason"),
            [
                (one.method, one.path, one.operation, one.mailbox_id, one.status, one.reason)
                for one in reversed(requests[-MOST_ROWS:])
            ],
        ),
        "</body></html>\n",
    ]
    return HTMLResponse("".join(parts), headers=_HEADERS)


def _table(title: str, heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return escape("" if value is None else str(value))
