"""Failures of a store that its caller can do something about."""

from __future__ import annotations

NO_CONNECTION, CONNECTION_LOST = "no connection", "connection lost"
"""Besides the codes of a store, for what kept its response from arriving."""


class Expected(Exception):
    """An error code that the caller can do something about; it is the argument."""

    @property
    def code(self) -> str:
        """The code."""
        return str(self.args[0])
