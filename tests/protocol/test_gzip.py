"""gzip (protocol/gzip.py), with each engine."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.errors import IntegrityError
from nel_mesh.protocol import gzip as codec

ENGINES = {engine.module.__name__: engine for engine in (codec.ZLIB, codec.DEFAULT_ENGINE)}
engines = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)

WHOLE = gzip.compress(b"content", mtime=0)
CONTENT = st.one_of(
    st.binary(max_size=3000),
    st.tuples(st.binary(min_size=1, max_size=20), st.integers(1, 200_000)).map(
        lambda pair: pair[0] * (pair[1] // len(pair[0]) + 1)
    ),
)
CUTS = st.lists(st.integers(0, 2**32), max_size=8)


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(places)]


def decoded(body: bytes, cuts: list[int], engine: codec.Engine, coding: str = "gzip") -> bytes:
    decoder = codec.decoder(coding, engine=engine)
    parts = []
    for piece in pieces(body, cuts):
        for block in decoder.feed(piece):
            assert 0 < len(block) <= codec.OUTPUT_BLOCK_BYTES
            parts.append(block)
    decoder.finish()
    return b"".join(parts)


@engines
@given(CONTENT, st.lists(st.integers(0, 2**32), max_size=4), CUTS)
def test_any_content_in_any_members_cut_anywhere_comes_back(
    engine: codec.Engine, content: bytes, members: list[int], cuts: list[int]
) -> None:
    parts = pieces(content, members)
    assert decoded(b"".join(gzip.compress(part) for part in parts), cuts, engine, "GZIP") == content
    ours = list(codec.compress(parts, engine=engine))
    assert b"" not in ours
    assert gzip.decompress(b"".join(ours)) == content
    assert decoded(b"".join(ours), cuts, engine) == content


@engines
@given(st.binary(max_size=300), st.integers(0, 31), st.binary(max_size=40), CUTS)
def test_any_gzip_header_cut_anywhere_is_read(
    engine: codec.Engine, content: bytes, flags: int, extra: bytes, cuts: list[int]
) -> None:
    head = bytes([31, 139, 8, flags, 0, 0, 0, 0, 0, 255])
    head += len(extra).to_bytes(2, "little") + extra if flags & 4 else b""
    head += b"name\0" if flags & 8 else b""
    head += b"comment\0" if flags & 16 else b""
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    body = head + gzip.compress(content, mtime=0)[10:]
    assert decoded(body, cuts, engine) == content
    assert decoded(body + body, cuts, engine) == content * 2


def gzip_header(flags: int, extra: bytes) -> bytes:
    head = bytes([31, 139, 8, flags, 0, 0, 0, 0, 0, 255])
    head += len(extra).to_bytes(2, "little") + extra if flags & 4 else b""
    head += b"n\0" if flags & 8 else b""
    head += b"\0" if flags & 16 else b""
    return head + ((zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b"")


# The extra field holds zero bytes, as the end of a name has one, and is longer than a byte can count.
EXTRAS = [b"", b"\0", bytes(300)]


@pytest.mark.parametrize("extra", EXTRAS, ids=len)
@pytest.mark.parametrize("flags", range(32))
def test_a_gzip_header_is_complete_at_its_last_byte(flags: int, extra: bytes) -> None:
    head = gzip_header(flags, extra)
    assert [codec.is_header_complete(head[:end]) for end in range(len(head))] == [False] * len(head)
    assert codec.is_header_complete(head)
    assert codec.is_header_complete(head + b"x")


@pytest.mark.parametrize("start", [b"x", b"\x1fx", b"\x1f\x8b\x09", b"\x1f\x8b\x07" + bytes(20)])
def test_a_start_that_is_no_gzip_header_is_not_waited_for(start: bytes) -> None:
    assert codec.is_header_complete(start)


@engines
@pytest.mark.parametrize("flags", range(32))
def test_a_gzip_header_is_read_a_byte_at_a_time(engine: codec.Engine, flags: int) -> None:
    body = gzip_header(flags, bytes(300)) + WHOLE[10:]
    assert decoded(body, list(range(len(body))), engine) == b"content"


@engines
def test_the_largest_window_is_used(engine: codec.Engine) -> None:
    content = random.Random(1).randbytes(32_000) * 3
    assert decoded(gzip.compress(content, 9), [], engine) == content
    assert len(b"".join(codec.compress([content], level=3, engine=engine))) < 40_000


@engines
@given(CONTENT, st.integers(0, 2**32), CUTS)
def test_any_gzip_body_that_ends_early_is_refused(
    engine: codec.Engine, content: bytes, end: int, cuts: list[int]
) -> None:
    body = gzip.compress(content[: len(content) // 2]) + gzip.compress(content[len(content) // 2 :])
    first = len(gzip.compress(content[: len(content) // 2]))
    cut = body[: end % len(body)]
    if len(cut) == first:
        cut = cut[:-1]  # a whole member is a whole body: only its length could tell, and HTTP checks that
    with pytest.raises(IntegrityError, match="^the gzip body ends before its trailer$"):
        decoded(cut, cuts, engine)


@engines
def test_an_empty_gzip_body_is_refused(engine: codec.Engine) -> None:
    with pytest.raises(IntegrityError, match="before its trailer"):
        decoded(b"", [], engine)


@engines
@given(st.binary(min_size=1, max_size=2000), st.integers(0, 2**32), st.integers(1, 255))
def test_a_damaged_gzip_body_is_never_other_content(
    engine: codec.Engine, content: bytes, place: int, flip: int
) -> None:
    body = bytearray(gzip.compress(content))
    body[place % len(body)] ^= flip
    with contextlib.suppress(IntegrityError):
        assert decoded(bytes(body), [], engine) == content


@engines
@pytest.mark.parametrize(
    "body",
    [
        b"plain text",
        b"\x1f\x8b\x09" + bytes(20),
        WHOLE + b"plain text",
        WHOLE[:-8] + bytes(8),
        WHOLE[:-4] + bytes(4),
    ],
)
def test_a_body_that_is_not_gzip_to_its_end_is_refused_at_once(engine: codec.Engine, body: bytes) -> None:
    decoder = codec.decoder("gzip", engine=engine)
    with pytest.raises(IntegrityError, match=r"^the gzip body is damaged$"):
        list(decoder.feed(body))


@engines
def test_a_header_without_end_is_refused(engine: codec.Engine) -> None:
    decoder = codec.decoder("gzip", engine=engine)
    list(decoder.feed(bytes([31, 139, 8, 8, 0, 0, 0, 0, 0, 255])))
    with pytest.raises(IntegrityError, match="^the gzip body is damaged$"):
        for _ in range(17):
            assert list(decoder.feed(b"x" * 65536)) == []


@engines
def test_the_longest_header_is_of_one_mebibyte(engine: codec.Engine) -> None:
    decoder = codec.decoder("gzip", engine=engine)
    assert list(decoder.feed(bytes([31, 139, 8, 8, 0, 0, 0, 0, 0, 255]).ljust(1024 * 1024, b"x"))) == []
    with pytest.raises(IntegrityError, match="^the gzip body is damaged$"):
        list(decoder.feed(b"x"))


@engines
def test_a_long_header_is_waited_for(engine: codec.Engine) -> None:
    body = bytes([31, 139, 8, 8, 0, 0, 0, 0, 0, 255]) + b"x" * 1_000_000 + b"\0" + WHOLE[10:]
    assert decoded(body, [500_000, 1_000_005], engine) == b"content"


@engines
def test_a_body_that_expands_a_thousandfold_comes_in_bounded_blocks(engine: codec.Engine) -> None:
    body = gzip.compress(bytes(20 * 1024 * 1024))
    decoder = codec.decoder("gzip", engine=engine)
    sizes = [len(block) for block in decoder.feed(body)]
    decoder.finish()
    assert sum(sizes) == 20 * 1024 * 1024
    assert max(sizes) == codec.OUTPUT_BLOCK_BYTES == 229_376


@pytest.mark.parametrize("coding", [None, "", "identity", " Identity ", "identity, ,"])
def test_a_body_without_coding_passes_through(coding: str | None) -> None:
    decoder = codec.decoder(coding)
    assert [*decoder.feed(b"as it"), *decoder.feed(b""), *decoder.feed(b" is")] == [b"as it", b" is"]
    decoder.finish()


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", " gzip , identity"])
def test_gzip_is_recognised_in_each_of_its_names(coding: str) -> None:
    assert decoded(WHOLE, [], codec.DEFAULT_ENGINE, coding) == b"content"


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "gzip, br"])
def test_another_coding_is_refused(coding: str) -> None:
    with pytest.raises(IntegrityError, match="Content-Encoding other than gzip"):
        codec.decoder(coding)


@engines
def test_a_level_can_be_chosen(engine: codec.Engine) -> None:
    content = [b"".join(str(n).encode() for n in range(50_000))]
    sizes = [len(b"".join(codec.compress(content, level=level, engine=engine))) for level in (0, engine.level, None)]
    assert sizes[0] > sizes[1] == sizes[2]
    assert (codec.ZLIB.level, codec.DEFAULT_ENGINE.level) in {(6, 1), (6, 6)}
