"""Which route a message takes: pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

from nel_mesh.models import MessageMetadata, Report


class Conditions(Protocol):
    """What a route asks of a message."""

    @property
    def workflow_id(self) -> str:
        """A pattern, in which `*` stands for anything."""

    @property
    def sender(self) -> str:
        """Likewise."""

    @property
    def recipient(self) -> str:
        """Likewise."""

    @property
    def type(self) -> str | None:
        """Data or report; None for both."""


Route = TypeVar("Route", bound=Conditions)


def first_that_fits(routes: Sequence[Route], metadata: MessageMetadata) -> Route | None:
    """Return the first route that takes a message; None if none does."""
    return next((route for route in routes if _fits(route, metadata)), None)


def _fits(route: Conditions, metadata: MessageMetadata) -> bool:
    kind = "report" if isinstance(metadata, Report) else "data"
    return (
        route.type in (None, kind)
        and _matches(route.workflow_id, metadata.workflow_id)
        and _matches(route.sender, metadata.sender)
        and _matches(route.recipient, metadata.recipient)
    )


def _matches(pattern: str, value: str | None) -> bool:
    """Compare without regard to case, as MESH does with mailbox ids. What a message does not say fits `*` only."""
    if pattern == "*":
        return True
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    return value is not None and re.fullmatch(expression, value, re.IGNORECASE | re.DOTALL) is not None
