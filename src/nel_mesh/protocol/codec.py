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
    from isal import isal_zlib

    engine, GZIP_LEVEL = isal_zlib, 1
except ImportError:  # pragma: no cover - where ISA-L has no wheel
    engine, GZIP_LEVEL = _zlib, 6

_GZIP_WINDOW: Final = 31
"""zlib's way to ask for a gzip header and trailer around the largest window."""

OUTPUT_BLOCK: Final = 256 * 1024
"""The most that one step of decompression gives."""


class Decoder(Protocol):
    """Turns the bytes of one body on the wire into content.

    `knows_its_end` says whether the form itself tells a cut body from a whole one.
    """

    knows_its_end: bool

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Gives the content that `data` adds, in bounded blocks. Raises IntegrityError for damage."""

    def finish(self) -> None:
        """Says that the body has ended. Raises IntegrityError if it should not have."""


class _Identity:
    knows_its_end = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def finish(self) -> None:
        pass


class _Gzip:
    knows_its_end = True

    def __init__(self) -> None:
        self._member: Any = None
        self._members_ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                self._member = engine.decompressobj(_GZIP_WINDOW)
            yield from self._drain(data)
            if not self._member.eof:
                return
            data = self._member.unused_data
            self._member = None
            self._members_ended = True

    def _drain(self, data: bytes) -> Iterator[bytes]:
        while True:
            try:
                block = self._member.decompress(data, OUTPUT_BLOCK)
            except (engine.error, _zlib.error, EOFError):
                raise IntegrityError("the gzip body is damaged") from None
            if block:
                yield block
            data = self._member.unconsumed_tail
            if self._member.eof or not (data or len(block) == OUTPUT_BLOCK):
                return

    def finish(self) -> None:
        if self._member is not None or not self._members_ended:
            raise IntegrityError("the gzip body ends before its trailer")


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
