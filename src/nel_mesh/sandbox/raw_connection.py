"""The TCP connection below a request, for what HTTP gives no means to do: to break it, or to send what is not true."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_FLUSH_SECONDS = 0.001


class Http(H11Protocol):
    """uvicorn's HTTP/1.1, with the connection in each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Connection:
    """What one request came over.

    Args:
        scope: the request's, as `Http` makes it.
        receive: the request's; whoever else reads from it must have finished.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._transport: Any = scope["state"]["transport"]
        self._receive = receive

    async def gone(self) -> None:
        """Waits until the connection is there no more."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def pause(self, seconds: float) -> bool:
        """Waits, but no longer than the connection lives; whether it still does."""
        try:
            await asyncio.wait_for(self.gone(), seconds)
        except TimeoutError:
            return True
        return False

    async def reset(self) -> None:
        """Breaks it off at once. What was sent and has not arrived is lost, and the client's system is told so."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        await self.abandon()

    async def abandon(self) -> None:
        """Ends it where it stands, without a farewell in TLS."""
        self._transport.abort()
        # An answer that ends before its connection does would be taken for a mistake, and logged.
        await self.gone()

    async def close(self) -> None:
        """Ends it in good order."""
        self._transport.close()
        await self.gone()

    async def write(self, data: bytes) -> None:
        """Sends bytes as they are, past HTTP; returns when they have left this process."""
        self._transport.write(data)
        await self.flush()

    async def flush(self) -> None:
        """Waits until everything sent has left this process, or the connection has gone."""
        # Below TLS there is a second buffer, which asyncio shows nobody.
        below = getattr(getattr(self._transport, "_ssl_protocol", None), "_transport", None) or self._transport
        while not below.is_closing() and (  # noqa: ASYNC110 - neither buffer says when it is empty
            self._transport.get_write_buffer_size() or below.get_write_buffer_size()
        ):
            await asyncio.sleep(_FLUSH_SECONDS)
