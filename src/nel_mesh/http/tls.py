"""One layer of TLS as bytes in and bytes out, so that any stream can carry it: a socket, or another layer of TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any, cast

from nel_mesh.blocks import Block

BLOCK_BYTES = 112 * 1024
"""The most that is read at a time: seven records of TLS."""


_DER = 2
"""The encoding of a certificate in Python's private `_ssl`."""

_SHOWN = "shown_chain"
"""The attribute of the error of a failed handshake that keeps what `shown_chain` returns."""


def shown_chain(error: ssl.SSLError) -> list[bytes]:
    """Return the certificates, DER, that the other side showed before a handshake failed, its own first.

    Nothing in them is verified: they are for people to read. [] if none came, or where Python does not keep them.
    """
    return list(vars(error).get(_SHOWN, ()))


class Tls:
    """The client's side of TLS.

    Args:
        context: whom to trust, and who we are.
        host: the name that the server must prove.
        below: the layer of TLS that carries this one; None if the socket does.
    """

    def __init__(self, context: ssl.SSLContext, host: str, below: Tls | None = None) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._read: Callable[[int, memoryview], int] = cast("Any", self._object.read)
        self._buffer = memoryview(bytearray(BLOCK_BYTES))
        self._unwritten: Block = b""
        self._failure: ssl.SSLError | None = None
        self.ended = False
        """Whether the other side has announced, or shown, that nothing more will come."""

    def do_handshake(self) -> bool:
        """Advance the handshake. Return True once it is complete. Raise ssl.SSLError if it fails."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            vars(error)[_SHOWN] = self._chain("get_unverified_chain")
            raise
        return True

    def feed(self, data: bytes | memoryview) -> None:
        """Take what came from the network; b"" is its end."""
        if self._below is None:
            self._accept(data)
            return
        self._below.feed(data)
        while block := self._below.read():
            self._accept(block)
        if self._below.ended:
            self._accept(b"")

    def _accept(self, data: bytes | memoryview) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        """Return what must go to the network."""
        if self._unwritten:
            self._write_rest()
        data = self._outgoing.read()
        if self._below is None:
            return data
        self._below.write(data)
        return self._below.to_send()

    def write(self, data: Block) -> None:
        """Encrypt content; `to_send` returns the result."""
        self._unwritten = data if not self._unwritten else bytes(self._unwritten) + data
        self._write_rest()

    def _write_rest(self) -> None:
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[self._object.write(self._unwritten) :]
            self._unwritten = b""  # an empty view would keep what was sent
        except ssl.SSLWantReadError:
            pass  # a new handshake (TLS 1.2) comes first

    @property
    def waits(self) -> bool:
        """Whether content is left to encrypt, which needs something from the other side first."""
        return bool(self._unwritten) or (self._below is not None and self._below.waits)

    def read(self, into: memoryview | None = None) -> memoryview:
        """Return the content that has come, valid until the next call; empty if none has. Raise ssl.SSLError.

        It is in `into`, if that is given and not empty.
        """
        if self._failure is not None:
            raise self._failure
        if not (self._incoming.pending or self._incoming.eof or self._object.pending()):
            # OpenSSL would raise SSLWantReadError, which takes as long as to decrypt a small message.
            return self._buffer[:0]
        buffer = into[:BLOCK_BYTES] if into else self._buffer
        length = 0
        try:
            # OpenSSL returns one record of 16 KiB at a time.
            while length < len(buffer):
                count = self._read(len(buffer) - length, buffer[length:])
                if not count:
                    self.ended = True
                    break
                length += count
                # Where nothing is left, another call would only raise.
                if not self._incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        except ssl.SSLError as error:
            # OpenSSL reports it once, and an end when asked again.
            self._failure = error
            if not length:
                raise
            # The content before it counts: it may be the whole response.
        return buffer[:length]

    def verified_chain(self) -> list[bytes]:
        """Return the other side's certificates as they were verified, DER, the root last; [] where Python has none."""
        return self._chain("get_verified_chain")

    def _chain(self, method: str) -> list[bytes]:
        public = getattr(self._object, method, None)
        if public is not None:
            return list(public())
        # Before Python 3.13 the same method exists, but not in public: it may be absent, and nothing depends on it.
        with contextlib.suppress(AttributeError, TypeError):
            chain = getattr(cast("Any", self._object)._sslobj, method)()
            return [link.public_bytes(_DER) for link in chain]
        return []

    def is_quiet(self) -> bool:
        """Whether all that came has been read, and nothing announces an end."""
        over = self.ended or self._failure is not None
        quiet = not (over or self._incoming.pending or self._object.pending())
        return quiet and (self._below is None or self._below.is_quiet())
