"""The sender's checksum (protocol/checksum.py)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.protocol import checksum


@given(st.binary(max_size=20), st.sampled_from(["md5", "sha1", "sha256"]), st.booleans(), st.booleans())
def test_a_digest_in_hexadecimal_is_recognised(content: bytes, algorithm: str, named: bool, upper: bool) -> None:
    digest = hashlib.new(algorithm, content).hexdigest()
    text = f"{algorithm}:{digest}" if named else digest
    assert checksum.recognise(text.upper() if upper else text) == (algorithm, digest, named)


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("md5 b10a8db164e0754105b7a99be72e3fe5", "md5"),
        ("  b10a8db164e0754105b7a99be72e3fe5 ", "md5"),
        ("SHA-1:" + "0" * 40, "sha1"),
        ("SHA-256: " + "0" * 64, "sha256"),
        ("sha256/" + "a" * 64, "sha256"),
        ("md5 " + "a" * 64, None),
        ("sha512 " + "a" * 128, None),
        ("crc32 abcdef01", None),
        ("a" * 33, None),
        ("x" + "a" * 31, None),
        ("", None),
        (None, None),
    ],
)
def test_checksums_are_recognised_by_their_form(text: str | None, algorithm: str | None) -> None:
    found = checksum.recognise(text)
    assert (found.algorithm if found else None) == algorithm
