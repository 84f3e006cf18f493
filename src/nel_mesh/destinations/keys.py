"""Keys of objects in a store: made from what MESH says of a message, never from what its sender chose to call it.

Two messages never share a key, as the message id is always in it. The same message always gets the same key, so a
second worker, or the same one after a restart, finds what the first has stored.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from nel_mesh.errors import InvalidArgument
from nel_mesh.models import MessageMetadata, Report

STATE_PREFIX = ".nel-mesh/"
"""Where a store keeps records and journal, below the part of the template that has no fields."""

_FIELDS = ("mailbox_id", "workflow_id", "sender", "date", "message_id", "type")
_MAX_TEMPLATE_CHARACTERS = 300
"""A key on S3 has at most 1,024 bytes; the fields need up to 600."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._+=@\-]+")
_DATE = re.compile(r"(20\d\d)([01]\d)([0-3]\d)")


class KeyTemplate:
    """The key of each message, such as `mesh/{workflow_id}/{date}/{message_id}`.

    Args:
        template: text with any of `{mailbox_id}`, `{workflow_id}`, `{sender}`, `{date}` (as in 2026-11-25: when MESH
            took the message, by its id), `{message_id}` and `{type}` (data or report). Without `{message_id}` it is
            added as the last part.

    Raises:
        InvalidArgument: there is no such field, a part of the template is empty, `.`, `..` or `.nel-mesh`, or it has
            more than 300 characters, or some that are not printable ASCII.
    """

    def __init__(self, template: str) -> None:
        text = template.strip("/")
        if len(text) > _MAX_TEMPLATE_CHARACTERS or not (text.isascii() and text.isprintable()):
            raise InvalidArgument(
                f"destination: a key is up to {_MAX_TEMPLATE_CHARACTERS} characters of printable ASCII"
            )
        if "message_id" not in _fields(text):
            text = f"{text}/{{message_id}}" if text else "{message_id}"
        if any(part in ("", ".", "..", STATE_PREFIX.strip("/")) for part in text.split("/")):
            raise InvalidArgument(f"destination: {template!r} has an empty part, or . or .. or {STATE_PREFIX}")
        self._template = text
        self.prefix = text.partition("{")[0].rpartition("/")[0]
        """The folders that all keys share."""

    def __str__(self) -> str:
        return self._template

    @property
    def state_prefix(self) -> str:
        """What the keys of records and journal begin with."""
        return f"{self.prefix}/{STATE_PREFIX}" if self.prefix else STATE_PREFIX

    def key(self, metadata: MessageMetadata) -> str:
        """Return the key of a message; that of a report ends in `.json`."""
        message_id = metadata.message_id
        date = _DATE.match(message_id)
        fields: Mapping[str, str | None] = {
            "mailbox_id": metadata.recipient,
            "workflow_id": metadata.workflow_id,
            "sender": metadata.sender,
            "date": "-".join(date.groups()) if date else None,
            "message_id": message_id,
            "type": metadata.message_type.lower(),
        }
        key = self._template.format_map({name: _safe(value) for name, value in fields.items()})
        return f"{key}.json" if isinstance(metadata, Report) else key


def _fields(template: str) -> set[str]:
    """Return the names of a template's fields."""
    known = ", ".join(f"{{{field}}}" for field in _FIELDS)
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidArgument(f"destination: {template!r} is not a template: {error}") from None
    for literal, name, form, conversion in parsed:
        # A form such as {message_id:.8} would give two messages the same key.
        if "{" in literal or "}" in literal or form or conversion or (name is not None and name not in _FIELDS):
            raise InvalidArgument(f"destination: {template!r}: in braces is one of {known}, and nothing else")
    return {name for _, name, _, _ in parsed if name is not None}


def _safe(value: str | None) -> str:
    """Return a value as one part of a key; what may not be in one becomes an underscore."""
    return _UNSAFE.sub("_", value or "").strip(".") or "none"
