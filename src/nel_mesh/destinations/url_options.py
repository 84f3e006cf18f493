"""What follows the question mark in a destination's URL."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

from nel_mesh.errors import InvalidArgument

_FLAGS = {"true": True, "false": False}


class UrlOptions(NamedTuple):
    """The options of a destination's URL.

    Attributes:
        prefix: the end of the path.
        sidecar: whether the metadata is stored too, as JSON.
    """

    prefix: str
    sidecar: bool

    @classmethod
    def parse(cls, query: str, scheme: str, known: tuple[str, ...] = ("prefix", "sidecar")) -> UrlOptions:
        """Read what follows the question mark.

        Raises:
            InvalidArgument: there is another option, or a value that it cannot have.
        """
        options = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := sorted(options.keys() - set(known)):
            raise InvalidArgument(
                f"destination: {scheme}:// has no option {', '.join(unknown)}; there is {' and '.join(known)}"
            )
        sidecar = _FLAGS.get(options.get("sidecar", "false").lower())
        if sidecar is None:
            raise InvalidArgument("destination: the option sidecar of a URL is true or false")
        return cls(options.get("prefix", "").strip("/"), sidecar)
