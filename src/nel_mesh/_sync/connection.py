# Generated from _async/connection.py by tools/unasync.py: edit that file, then run `make generate`.
"""One connection to a server, through which bytes go under limits of time."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

from nel_mesh.blocks import Block
from nel_mesh.http.limits import Limit
from nel_mesh.http.sockets import Socket
from nel_mesh.http.tls import BLOCK_BYTES, Tls


class Connection:
    """A connection to the server: TCP, and as many layers of TLS over it as there are."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._tls: Tls | None = None
        self._early = b""
        self.fresh = True
        """Whether it has carried no exchange yet."""

    def start_tls(self, context: ssl.SSLContext, host: str, limit: Limit) -> None:
        """Start TLS, over the TLS that there is already. Raise OSError (ssl.SSLError is one)."""
        tls = self._tls = Tls(context, host, self._tls)
        try:
            while not tls.do_handshake():
                self._push(tls.to_send(), limit)
                tls.feed(self._receive(limit))
        except ssl.SSLError:
            # The alert that says why. Whether it can still be sent does not matter beside the reason itself.
            with contextlib.suppress(OSError):
                self._push(tls.to_send(), limit)
            raise
        self._push(tls.to_send(), limit)

    def receive(self, limit: Limit, into: memoryview | None = None) -> Block:
        """Return what comes, at most `BLOCK_BYTES`, valid until the next call; empty if the other side has closed.

        What comes by TLS is decrypted into `into`, if that is given and not empty.
        """
        if self._early:
            early, self._early = self._early[:BLOCK_BYTES], self._early[BLOCK_BYTES:]
            return early
        if self._tls is None:
            return self._receive(limit)
        while not (block := self._tls.read(into)) and not self._tls.ended:
            # In the middle of the content TLS may want new keys (1.3), or a new handshake (1.2).
            self._push(self._tls.to_send(), limit)
            self._tls.feed(self._receive(limit))
        return block

    def _receive(self, limit: Limit) -> memoryview:
        block = self._socket.receive(limit.next_wait())
        limit.count(len(block))
        return block

    def send(self, data: bytes, limit: Limit, is_enough: Callable[[Block], bool] | None = None) -> bool:
        """Send data. Return whether all of it was sent.

        What comes meanwhile is given to `is_enough`, which may end the sending by returning True; without it, to the
        next `receive`.
        """
        if self._tls is None:
            return self._push(data, limit, is_enough)
        # In blocks that stay in the processor's cache from encryption to the socket.
        for start in range(0, len(data), BLOCK_BYTES):
            self._tls.write(memoryview(data)[start : start + BLOCK_BYTES])
            if not self._push(self._tls.to_send(), limit, is_enough):
                return False
        return True

    def _push(self, data: bytes, limit: Limit, is_enough: Callable[[Block], bool] | None = None) -> bool:
        left = memoryview(data)
        while left or (self._tls is not None and self._tls.waits):
            length = self._socket.send(left, limit.next_wait()) if left else 0
            limit.count(length)
            if length:
                left = left[length:]
                continue
            block: Block = self._receive(limit)
            is_end = not block
            if self._tls is not None:
                self._tls.feed(block)
                block = self._tls.read()
                left = memoryview(bytes(left) + self._tls.to_send())
            if block or is_end or (self._tls is not None and self._tls.ended):
                if is_enough is None and not block:
                    raise ConnectionResetError("the other side closed the connection")
                if is_enough is None:
                    self._early += block
                elif is_enough(block):
                    return False
        return True

    def verified_chain(self) -> list[bytes]:
        """Return the server's certificates as they were verified, DER, the root last; [] without TLS."""
        return self._tls.verified_chain() if self._tls else []

    def is_usable(self) -> bool:
        """Return whether it can carry another exchange."""
        return not self._early and (self._tls is None or self._tls.is_quiet()) and self._socket.is_usable()

    def touch(self) -> None:
        """Note that it has just been used."""
        self.fresh = False
        self._socket.touch()

    def close(self) -> None:
        """Close it."""
        self._socket.close()
