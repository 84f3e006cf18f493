"""Who may do what: roles, as a table that is data."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Right(enum.StrEnum):
    """What a page or an action asks for."""

    LOOK = "look"
    """See pages and figures."""
    ACT = "act"
    """Act on messages and mailboxes, and send."""
    AUDIT = "audit"
    """See every event, and export them."""
    PEOPLE = "people"
    """See who may use the console."""
    MANAGE = "manage"
    """Disable people, end their sessions, see the settings."""
    CONTENT = "content"
    """See the content of messages. No role has it: it is given to a person."""


class Role(enum.StrEnum):
    """What a person is at the console."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.LOOK}),
    Role.OPERATOR: frozenset({Right.LOOK, Right.ACT}),
    Role.ADMINISTRATOR: frozenset({Right.LOOK, Right.ACT, Right.AUDIT, Right.PEOPLE, Right.MANAGE}),
    Role.AUDITOR: frozenset({Right.LOOK, Right.AUDIT, Right.PEOPLE}),
}
"""The rights of each role."""
