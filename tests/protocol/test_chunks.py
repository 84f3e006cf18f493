"""Chunks (protocol/chunks.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.errors import IntegrityError, InvalidArgument
from nel_mesh.protocol import chunks
from nel_mesh.protocol.chunks import ChunkRange, ChunkSequence, Slice


@given(st.integers(1, 10**5), st.integers(50, 10**5))
def test_slices_cover_the_content_once_in_order(length: int, size: int) -> None:
    slices = chunks.split(length, size)
    position = 0
    for number, piece in enumerate(slices, 1):
        assert (piece.range.number, piece.range.total, piece.start) == (number, len(slices), position)
        assert piece.length == size or number == len(slices)
        assert 0 < piece.length <= size
        position += piece.length
    assert position == length


def test_content_is_cut_where_a_chunk_is_full() -> None:
    assert chunks.split(10, 10) == [Slice(ChunkRange(1, 1), 0, 10)]
    assert chunks.split(11, 10) == [Slice(ChunkRange(1, 2), 0, 10), Slice(ChunkRange(2, 2), 10, 1)]
    assert chunks.split(1, 10) == [Slice(ChunkRange(1, 1), 0, 1)]


def test_the_limits_are_those_of_the_api() -> None:
    assert chunks.MAX_REQUEST_BYTES == 100 * 10**6
    assert chunks.MAX_MESSAGE_BYTES == 100 * 10**9
    assert len(chunks.split(chunks.MAX_MESSAGE_BYTES, chunks.MAX_REQUEST_BYTES)) == 1000


@pytest.mark.parametrize("length", [-1, 0, chunks.MAX_MESSAGE_BYTES + 1])
def test_content_that_mesh_does_not_carry_is_refused(length: int) -> None:
    with pytest.raises(InvalidArgument, match="^content: "):
        chunks.split(length, chunks.MAX_REQUEST_BYTES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:1", (1, 1)),
        ("1:3", (1, 3)),
        ("3:3", (3, 3)),
        ("{2:3}", (2, 3)),
        (" { 2 : 3 } ", (2, 3)),
        ("999999999:999999999", (999_999_999, 999_999_999)),
    ],
)
def test_chunk_ranges_are_read_with_and_without_braces(text: str, expected: tuple[int, int]) -> None:
    found = ChunkRange.parse(text)
    assert (found.number, found.total) == expected


@given(st.integers(1, 999_999_999), st.integers(0, 10))
def test_a_chunk_range_is_read_as_it_is_written(number: int, more: int) -> None:
    written = ChunkRange(number, min(number + more, 999_999_999))
    assert ChunkRange.parse(str(written)) == written


@pytest.mark.parametrize(
    "text",
    ["", "1", "1:", ":1", "0:1", "1:0", "0:0", "2:1", "{1:2", "1:2}", "-1:2", "1:2:3", "1:9999999999", "١:٢", "1:2 x"],
)
def test_a_text_that_is_no_chunk_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="^not a chunk range: '"):
        ChunkRange.parse(text)


def test_a_bad_chunk_range_is_shown_short_and_printable() -> None:
    with pytest.raises(ValueError, match=r"^not a chunk range: '\\x1b") as caught:
        ChunkRange.parse("\x1bé" + "1" * 3_000_000)
    assert str(caught.value).isascii()
    assert str(caught.value).count("1") == 39  # of 40 characters, and one in \x1b


Answer = tuple[int, str | None]


@pytest.mark.parametrize(
    "answers",
    [
        [(200, None)],
        [(200, "1:1")],
        [(206, "1:2"), (200, "2:2")],
        [(206, "{1:3}"), (206, "{2:3}"), (200, "{3:3}")],
        [(206, "1:3"), (206, None), (200, "  ")],
        [(206, None), (206, None), (200, None)],
        [(206, None), (200, "2:2")],
        # Some servers give status 200 with the first chunk of several.
        [(200, "1:2"), (200, "2:2")],
    ],
)
def test_a_sequence_that_is_whole_ends(answers: list[Answer]) -> None:
    sequence = ChunkSequence()
    more = [sequence.accept(status, text) for status, text in answers]
    assert more == [True] * (len(answers) - 1) + [False]
    assert sequence.received == len(answers)
    assert sequence.total in (len(answers), None)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([(200, "2:2")], "asked for chunk 1, and got chunk 2"),
        ([(206, "2:3")], "asked for chunk 1, and got chunk 2"),
        ([(206, "1:3"), (206, "1:3")], "asked for chunk 2, and got chunk 1"),
        ([(206, "1:3"), (200, "3:3")], "asked for chunk 2, and got chunk 3"),
        ([(206, "1:3"), (206, "2:4")], "chunk 2 belongs to 4 chunks, but 3 were announced"),
        ([(206, "1:3"), (200, "2:2")], "chunk 2 belongs to 2 chunks, but 3 were announced"),
        ([(206, "1:1")], "chunk 1 of 1 came with status 206, which promises another"),
        ([(206, "1:2"), (206, "2:2")], "chunk 2 of 2 came with status 206, which promises another"),
        ([(206, "1:2"), (206, None)], "chunk 2 of 2 came with status 206, which promises another"),
        ([(206, "1:3"), (200, "2:3")], "chunk 2 of 3 came with status 200: the rest is missing"),
        ([(206, "1:3"), (200, None)], "chunk 2 of 3 came with status 200: the rest is missing"),
        ([(206, "one")], "not a chunk range: 'one'"),
    ],
)
def test_a_sequence_that_contradicts_itself_is_refused(answers: list[Answer], reason: str) -> None:
    sequence = ChunkSequence()
    *before, last = answers
    for status, text in before:
        assert sequence.accept(status, text)
    with pytest.raises(IntegrityError) as caught:
        sequence.accept(*last)
    assert caught.value.reason == reason
    assert sequence.received == len(before)


def test_a_sequence_resumes_with_what_its_record_knows() -> None:
    assert ChunkSequence(received=2, total=4).accept(206, "3:4")
    assert not ChunkSequence(received=3, total=4).accept(200, "4:4")
    assert ChunkSequence(received=2, total=None).accept(206, "3:4")
    # What a record says of a message of which nothing has arrived is not binding.
    assert ChunkSequence(received=0, total=4).accept(206, "1:2")
    with pytest.raises(IntegrityError, match="4 were announced"):
        ChunkSequence(received=2, total=4).accept(206, "3:5")


@given(
    st.lists(
        st.tuples(st.sampled_from([200, 206]), st.sampled_from([None, "1:1", "1:2", "2:2", "1:3", "2:3", "3:3"])),
        max_size=5,
    )
)
def test_no_sequence_ends_short_of_what_it_announced(answers: list[Answer]) -> None:
    sequence = ChunkSequence()
    announced = 0
    for status, text in answers:
        try:
            more = sequence.accept(status, text)
        except IntegrityError:
            return
        announced = max(announced, ChunkRange.parse(text).total if text else 0)
        if not more:
            assert sequence.received >= announced
            return
