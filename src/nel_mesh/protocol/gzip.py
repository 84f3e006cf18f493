"""gzip, one block at a time and never a byte short.

Reading bounds what it makes of each step, so that a body that expands a thousandfold needs no more memory than
another; it follows several gzip members, as RFC 1952 allows; and a body that ends before its trailer is an error.
"""

from __future__ import annotations

import zlib as _zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from nel_mesh.errors import IntegrityError

engine: Any
try:
    from isal import igzip_lib, isal_zlib

    engine, GZIP_LEVEL = isal_zlib, 1
except ImportError:  # pragma: no cover - where ISA-L has no wheel
    engine, GZIP_LEVEL = _zlib, 6

_GZIP_WINDOW: Final = 31
"""zlib's way to ask for a gzip header and trailer around the largest window."""

_HEADER_LIMIT: Final = 1024 * 1024
"""The longest gzip header that is waited for; they are of ten bytes and a file name."""

OUTPUT_BLOCK: Final = 112 * 1024
"""The most that one step of decompression gives."""


class Decoder(Protocol):
    """Turns the bytes of one body on the wire into content."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Gives the content that `data` adds, in bounded blocks. Raises IntegrityError for damage."""

    def finish(self) -> None:
        """Says that the body has ended. Raises IntegrityError if it should not have."""


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def finish(self) -> None:
        pass


class _IgzipMember:
    """One gzip member, by ISA-L. Not its `decompressobj`: that lets no other thread run while it works."""

    def __init__(self) -> None:
        self._inflate: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    def blocks(self, data: bytes) -> Iterator[bytes]:
        yield self._inflate.decompress(data, OUTPUT_BLOCK)
        while not self._inflate.eof and not self._inflate.needs_input:
            yield self._inflate.decompress(b"", OUTPUT_BLOCK)

    def rest(self) -> bytes | None:
        """What follows the member; None if it has not come to its end."""
        return self._inflate.unused_data if self._inflate.eof else None


class _ZlibMember:
    """One gzip member, by the standard library."""

    def __init__(self) -> None:
        self._inflate: Any = _zlib.decompressobj(_GZIP_WINDOW)

    def blocks(self, data: bytes) -> Iterator[bytes]:
        while True:
            block = self._inflate.decompress(data, OUTPUT_BLOCK)
            yield block
            data = self._inflate.unconsumed_tail
            if self._inflate.eof or not (data or len(block) == OUTPUT_BLOCK):
                return

    def rest(self) -> bytes | None:
        """As `_IgzipMember.rest`."""
        return self._inflate.unused_data if self._inflate.eof else None


class _Gzip:
    def __init__(self) -> None:
        self._member: _IgzipMember | _ZlibMember | None = None
        self._head = b""
        self._members_ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                # ISA-L cannot go on with a header that has been cut between two blocks.
                self._head += data
                if not _has_whole_header(self._head):
                    if len(self._head) > _HEADER_LIMIT:
                        raise IntegrityError("the gzip body is damaged")
                    return
                data, self._head = self._head, b""
                self._member = _ZlibMember() if engine is _zlib else _IgzipMember()
            try:
                for block in self._member.blocks(data):
                    if block:
                        yield block
            except (engine.error, _zlib.error, EOFError):
                raise IntegrityError("the gzip body is damaged") from None
            rest = self._member.rest()
            if rest is None:
                return
            data, self._member = rest, None
            self._members_ended = True

    def finish(self) -> None:
        if self._member is not None or self._head or not self._members_ended:
            raise IntegrityError("the gzip body ends before its trailer")


def _may_be_header(head: bytes) -> bool:
    return b"\x1f\x8b\x08".startswith(head[:3])


def _has_whole_header(head: bytes) -> bool:
    """Whether a member's header is there to its end (RFC 1952, 2.3), or is none, which the engine will say."""
    if not _may_be_header(head):
        return True
    if len(head) < 10:
        return False
    flags, end = head[3], 10
    if flags & 0x04:
        if len(head) < 12:
            return False
        end = 12 + int.from_bytes(head[10:12], "little")
    for flag in (0x08, 0x10):
        if flags & flag:
            end = head.find(b"\0", end) + 1
            if not end:
                return False
    return len(head) >= end + (2 if flags & 0x02 else 0)


def decoder(content_encoding: str | None) -> Decoder:
    """The decoder for a `Content-Encoding`, in any case; it alone says that the bytes on the wire are gzip.

    Raises IntegrityError for an encoding that was not asked for and cannot be read.
    """
    codings = [coding.strip().lower() for coding in (content_encoding or "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return _Identity()
    if codings in (["gzip"], ["x-gzip"]):
        return _Gzip()
    raise IntegrityError("the body came in a Content-Encoding other than gzip, and cannot be read")


def compress(blocks: Iterable[bytes], *, level: int = GZIP_LEVEL) -> Iterator[bytes]:
    """Turns blocks of content into the blocks of one gzip member."""
    member = engine.compressobj(level, engine.DEFLATED, _GZIP_WINDOW)
    for block in blocks:
        packed = member.compress(block)
        if packed:
            yield packed
    yield member.flush()
