"""The memory in which parts are gathered, and the file objects over it."""

from __future__ import annotations

import io

from nel_mesh.destinations.part_buffer import PartBuffer, PartReader


def test_a_buffer_takes_what_fits() -> None:
    buffer = PartBuffer(10)
    assert buffer.add(memoryview(b"abcdef"), limit=4) == 4
    assert buffer.add(memoryview(b"ef"), limit=4) == 0
    assert buffer.add(memoryview(b"efghijkl"), limit=20) == 6
    assert bytes(buffer.view()) == b"abcdefghij"
    assert bytes(buffer.view(7)) == b"hij"
    buffer.replace(memoryview(b"xyz"))
    assert bytes(buffer.view()) == b"xyz"
    buffer.close()


def test_a_view_outlives_its_buffer() -> None:
    buffer = PartBuffer(10)
    buffer.add(memoryview(b"abc"), limit=10)
    with buffer.view() as view:
        buffer.close()
        assert bytes(view) == b"abc"


def test_a_reader_is_a_file() -> None:
    reader = PartReader(memoryview(b"abcdefgh"))
    assert reader.read(3) == b"abc"
    assert reader.tell() == 3
    assert reader.read() == b"defgh"
    assert reader.read(1) == b""
    assert reader.seek(-2, io.SEEK_END) == 6
    assert reader.read() == b"gh"
    assert reader.seek(1) == 1
    assert reader.seek(1, io.SEEK_CUR) == 2
    assert reader.readable()
    assert reader.seekable()
    assert reader.read(100) == b"cdefgh"
