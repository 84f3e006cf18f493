"""The sender's checksum (`Mex-Content-Checksum`): which algorithm it is, where its form tells."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_BY_LENGTH: Final = {32: "md5", 40: "sha1", 64: "sha256"}
_FORM = re.compile(r"(?:(?P<name>md5|sha-?1|sha-?256)[ :/\-]+)?(?P<digest>[0-9a-f]+)", re.IGNORECASE)


class Checksum(NamedTuple):
    """An algorithm, by hashlib's name, and a digest in lower-case hex."""

    algorithm: str
    digest: str


def recognise(text: str | None) -> Checksum | None:
    """MD5, SHA-1 or SHA-256, by a name in front or by its length in hex; None for anything else.

    MESH passes the header on as the sender wrote it, in any algorithm; what is not recognised cannot be checked.
    """
    match = _FORM.fullmatch((text or "").strip())
    if match is None:
        return None
    algorithm = _BY_LENGTH.get(len(match["digest"]))
    named = (match["name"] or "").lower().replace("-", "")
    if algorithm is None or named not in ("", algorithm):
        return None
    return Checksum(algorithm, match["digest"].lower())
