"""The memory in which parts are gathered, and the file objects over it."""

from __future__ import annotations

import io

from nel_mesh.destinations.part_buffer import PartContent, PartMemory, PartReader


def part(content: bytes, memory: PartMemory | None = None) -> PartContent:
    """Content in segments of 4 bytes."""
    memory = memory or PartMemory(10, 4)
    found = PartContent(memory)
    view = memoryview(content)
    while view:
        if found.needs_segment:
            found.segments.append(memory.unused(found.segments, 10) or 0)
        view = view[found.add(view, limit=100) :]
    return found


def test_a_part_takes_what_fits() -> None:
    content = PartContent(PartMemory(10, 4), [7])
    assert content.add(memoryview(b"abcdef"), limit=3) == 3
    assert content.add(memoryview(b"def"), limit=3) == 0
    assert content.add(memoryview(b"def"), limit=100) == 1
    content.segments.append(2)
    assert content.add(memoryview(b"ef"), limit=100) == 2
    assert (bytes(content), len(content)) == (b"abcdef", 6)


def test_what_is_taken_away_and_what_stays_share_no_segment() -> None:
    content = part(b"abcdefghijk")
    before = content.copy()
    first = content.split(8)
    assert (bytes(first), bytes(content), bytes(before)) == (b"abcdefgh", b"ijk", b"abcdefghijk")
    assert not set(first.segments) & set(content.segments)
    assert bytes(content.split(3)) == b"ijk"
    assert (len(content), content.segments) == (0, [])
    assert content.needs_segment
    assert not part(b"abc").needs_segment


def test_segments_that_are_not_in_use() -> None:
    memory = PartMemory(3, 4)
    assert memory.unused({0, 2}, 3) == 1
    assert memory.unused({0, 1, 2}, 3) is None
    assert memory.unused({0, 1}, 2) is None


def test_a_view_outlives_its_memory() -> None:
    memory = PartMemory(10, 4)
    content = part(b"abc", memory)
    with content.read(0, 3) as view:
        memory.close()
        assert bytes(view) == b"abc"


def test_a_reader_is_a_file() -> None:
    reader = PartReader(part(b"abcdefgh"))
    assert reader.read(3) == b"abc"
    assert reader.tell() == 3
    assert reader.readall() == b"defgh"
    assert reader.read(1) == b""
    assert reader.seek(-2, io.SEEK_END) == 6
    assert reader.read() == b"gh"
    assert reader.seek(1) == 1
    assert reader.seek(1, io.SEEK_CUR) == 2
    assert reader.readable()
    assert reader.seekable()
    assert reader.read(100) == b"cd", "up to the end of a segment"


def test_a_reader_gives_no_large_copies() -> None:
    """botocore asks for a mebibyte to sign it, for each of several parts at once."""
    memory = PartMemory(1, 1024 * 1024)
    content = PartContent(memory, [0])
    content.add(memoryview(bytes(range(256)) * 4096), limit=1024 * 1024)
    reader = PartReader(content)
    blocks = list(iter(lambda: reader.read(1024 * 1024), b""))
    assert {len(block) for block in blocks} == {128 * 1024}
    assert b"".join(blocks) == bytes(content)
    reader.seek(0)
    assert reader.read() == bytes(content)
