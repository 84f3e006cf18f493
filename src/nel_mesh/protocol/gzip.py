"""gzip (RFC 1952) for bodies, one bounded block at a time.

MESH API, "Messages larger than 100MB": each chunk is one gzip body, compressed on its own.
Three rules make reading safe:

- Each step gives at most `OUTPUT_BLOCK_BYTES`, so a body that expands a thousandfold needs no more
  memory than another.
- A body may hold several members, one after another (RFC 1952, 2.2).
- A body that ends before the trailer of a member is damaged, whatever its length header says: the
  trailer holds the checksum and length of the content.

Only `Content-Encoding` says that a body is gzip; `Mex-Content-Compressed` is about the content itself.

ISA-L does the work, faster than zlib, where it has a wheel.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from nel_mesh.blocks import Block
from nel_mesh.errors import IntegrityError

OUTPUT_BLOCK_BYTES: Final = 224 * 1024
"""The most that one step of decompression gives."""

_INPUT_BLOCK_BYTES: Final = 128 * 1024
"""The most that one step is given: what it does not use at once it copies."""

_GZIP_WBITS: Final = 31
"""zlib's `wbits` for a gzip header and trailer around the largest window."""

_MAX_HEADER_BYTES: Final = 1024 * 1024
"""The longest header of a member that is read; real ones are ten bytes and a file name."""


class Decoder(Protocol):
    """Turns a body into content."""

    def feed(self, data: Block) -> Iterator[Block]:
        """Give the content that `data` adds, in bounded blocks. Raises IntegrityError for damage."""

    def finish(self) -> None:
        """Check that the body may end here. Raises IntegrityError if not."""


class _Member(Protocol):
    """One gzip member."""

    def blocks(self, data: Block) -> Iterator[bytes]:
        """Give the content that `data` adds; a block may be empty."""

    def rest(self) -> bytes | None:
        """Give the bytes after the member's end; None if it has not ended."""


class _ZlibMember:
    """A member, by the standard library."""

    def __init__(self) -> None:
        self._inflate: Any = zlib.decompressobj(_GZIP_WBITS)

    def blocks(self, data: Block) -> Iterator[bytes]:
        # zlib may keep the end of a full block; the next data brings it out, at the latest the trailer.
        while data and not self._inflate.eof:
            yield self._inflate.decompress(data, OUTPUT_BLOCK_BYTES)
            data = self._inflate.unconsumed_tail

    def rest(self) -> bytes | None:
        return self._inflate.unused_data if self._inflate.eof else None


@dataclasses.dataclass(frozen=True, slots=True)
class Engine:
    """An implementation of gzip.

    Attributes:
        new_member: makes the state for reading one member.
        module: `zlib`, or a module with its names, for writing.
        level: the default level of compression.
    """

    new_member: Callable[[], _Member]
    module: Any
    level: int


ZLIB: Final = Engine(_ZlibMember, zlib, level=6)

DEFAULT_ENGINE: Engine
try:
    from isal import igzip_lib, isal_zlib

    class _IsalMember:
        """A member, by ISA-L. Not `isal_zlib.decompressobj`, which holds the GIL while it works."""

        def __init__(self) -> None:
            self._inflate: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

        def blocks(self, data: Block) -> Iterator[bytes]:
            yield self._inflate.decompress(data, OUTPUT_BLOCK_BYTES)
            while not self._inflate.eof and not self._inflate.needs_input:
                yield self._inflate.decompress(b"", OUTPUT_BLOCK_BYTES)

        def rest(self) -> bytes | None:
            return self._inflate.unused_data if self._inflate.eof else None

    DEFAULT_ENGINE = Engine(_IsalMember, isal_zlib, level=1)
except ImportError:  # pragma: no cover - only where ISA-L has no wheel
    DEFAULT_ENGINE = ZLIB


class _Identity:
    def feed(self, data: Block) -> Iterator[Block]:
        if data:
            yield data

    def finish(self) -> None:
        pass


class _Gzip:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._member: _Member | None = None
        self._header = b""
        self._has_member = False

    def feed(self, data: Block) -> Iterator[Block]:
        view = memoryview(data)
        for start in range(0, len(view), _INPUT_BLOCK_BYTES):
            yield from self._content(view[start : start + _INPUT_BLOCK_BYTES])

    def _content(self, data: Block) -> Iterator[Block]:
        while data:
            if self._member is None:
                # ISA-L cannot resume a header that is split between two blocks.
                self._header += data
                if not is_header_complete(self._header):
                    if len(self._header) > _MAX_HEADER_BYTES:
                        raise _damaged()
                    return
                data, self._header = self._header, b""
                self._member = self._engine.new_member()
            try:
                for block in self._member.blocks(data):
                    if block:
                        yield block
            except self._engine.module.error:
                raise _damaged() from None
            rest = self._member.rest()
            if rest is None:
                return
            data, self._member = rest, None
            self._has_member = True

    def finish(self) -> None:
        if self._member is not None or self._header or not self._has_member:
            raise IntegrityError("the gzip body ends before its trailer")


def _damaged() -> IntegrityError:
    return IntegrityError("the gzip body is damaged")


def is_header_complete(data: bytes) -> bool:
    """Whether a member's whole header is here (RFC 1952, 2.3); also if it is none, to be refused."""
    if not b"\x1f\x8b\x08".startswith(data[:3]):
        return True
    if len(data) < 10:
        return False
    flags, end = data[3], 10
    if flags & 0x04:  # FEXTRA: a length of 2 bytes, and so many bytes
        end = 12 + int.from_bytes(data[10:12], "little")
    for flag in (0x08, 0x10):  # FNAME and FCOMMENT: text up to a zero byte
        if flags & flag:
            end = data.find(b"\0", end) + 1
            if not end:
                return False
    crc_bytes = 2 if flags & 0x02 else 0  # FHCRC
    return len(data) >= end + crc_bytes


def decoder(content_encoding: str | None, *, engine: Engine = DEFAULT_ENGINE) -> Decoder:
    """Make the decoder for a `Content-Encoding` (RFC 9110, 8.4), in upper or lower case.

    Raises IntegrityError for an encoding other than gzip: it was not asked for and cannot be read.
    """
    codings = [coding.strip().lower() for coding in (content_encoding or "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return _Identity()
    if codings in (["gzip"], ["x-gzip"]):
        return _Gzip(engine)
    raise IntegrityError("the body came in a Content-Encoding other than gzip, and cannot be read")


def compress(blocks: Iterable[bytes], *, level: int | None = None, engine: Engine = DEFAULT_ENGINE) -> Iterator[bytes]:
    """Compress blocks of content into one gzip member."""
    member = engine.module.compressobj(engine.level if level is None else level, engine.module.DEFLATED, _GZIP_WBITS)
    for block in blocks:
        packed = member.compress(block)
        if packed:
            yield packed
    yield member.flush()
