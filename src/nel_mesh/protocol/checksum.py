"""The sender's checksum (`Mex-Content-Checksum`): recognise its algorithm.

MESH passes the header on as the sender wrote it, in any algorithm and form.
MD5, SHA-1 and SHA-256 are recognised by a name in front of the digest, or by its length.
A checksum that is not recognised cannot be verified; that is no error.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_BY_LENGTH: Final = {32: "md5", 40: "sha1", 64: "sha256"}
_FORM = re.compile(r"(?:(?P<name>md5|sha-?1|sha-?256)[ :/\-]+)?(?P<digest>[0-9a-f]+)", re.IGNORECASE)


class Checksum(NamedTuple):
    """An algorithm, by its hashlib name, and a digest in lower-case hexadecimal.

    `is_named` is whether the sender named the algorithm. A bare digest only looks like one of this algorithm: it may be
    an S3 ETag, or the checksum of the content before it was encrypted, so a difference proves nothing.
    """

    algorithm: str
    digest: str
    is_named: bool = True


def recognise(text: str | None) -> Checksum | None:
    """Parse an MD5, SHA-1 or SHA-256 checksum; None for anything else."""
    match = _FORM.fullmatch((text or "").strip())
    if match is None:
        return None
    algorithm = _BY_LENGTH.get(len(match["digest"]))
    named = (match["name"] or "").lower().replace("-", "")
    if algorithm is None or named not in ("", algorithm):
        return None
    return Checksum(algorithm, match["digest"].lower(), bool(named))
