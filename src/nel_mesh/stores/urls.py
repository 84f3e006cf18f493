"""What URLs of stores have in common."""

from __future__ import annotations

from urllib.parse import urlsplit


def scheme_of(place: object) -> str | None:
    """Return the scheme of a URL; None for the path of a folder or file."""
    if not isinstance(place, str) or "://" not in place:
        return None
    return urlsplit(place).scheme.lower() or None
