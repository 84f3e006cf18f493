"""The server: an ASGI app on a socket, in its own thread, started and stopped within a bounded time.

`RawConnection` is the TCP connection below a request, for faults: to reset it, or to send wrong bytes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import struct
import sys
import threading
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

START_SECONDS = 10.0
STOP_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 60
_GRACE_SECONDS = 1
_BACKLOG = 2048
_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_FLUSH_SECONDS = 0.001


class Listener:
    """A server that listens from construction on, and serves between `start` and `stop`.

    Args:
        app: the ASGI app.
        host: the address or name to listen on.
        port: the port, or 0 for a free one.
        tls: the server's TLS context, or None for plain HTTP.

    Raises OSError if it cannot listen on the address.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._socket = _listen(host, port)
        configuration = uvicorn.Config(
            app,
            http=Http,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # The app gives the time of its own clock.
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        configuration.load()
        # uvicorn reads certificates from files only; ours are in memory.
        configuration.ssl = tls
        self._server = _Server(configuration)
        self._failure: BaseException | None = None
        scheme = "https" if tls else "http"
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name=f"nel-mesh-sandbox-{self.port}", daemon=True)
        self.url = f"{scheme}://{_reachable(host)}:{self.port}"

    def start(self) -> None:
        """Start to serve. Raises RuntimeError if that takes more than 10 seconds."""
        self._thread.start()
        if not self._server.ready.wait(START_SECONDS) or self._failure:
            self.stop()
            raise RuntimeError("the sandbox's server did not start") from self._failure

    def stop(self) -> None:
        """Drop every connection and free the port. Raises RuntimeError if the server does not stop."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                raise RuntimeError("the sandbox's server did not stop")
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._socket]))
        except BaseException as error:  # noqa: BLE001 - it is raised again by `start`, in the caller's thread
            self._failure = error
        finally:
            self._server.ready.set()


class _Server(uvicorn.Server):
    def __init__(self, configuration: uvicorn.Config) -> None:
        super().__init__(configuration)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Closing a TLS connection in order waits half a minute for a client that may never read again.
        for connection in list(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol: asyncio sets TCP_NODELAY only on sockets that name TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _reachable(host: str) -> str:
    """The host in the URL of a client on this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "localhost"
    return f"[{address}]" if address.version == 6 else host


class Http(H11Protocol):
    """uvicorn's HTTP/1.1, with the connection in each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class RawConnection:
    """The TCP connection of a request.

    Args:
        scope: the request's, as `Http` makes it.
        receive: the request's; nothing else may read from it any more.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._transport: Any = scope["state"]["transport"]
        self._receive = receive

    async def gone(self) -> None:
        """Wait until the connection has ended."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def pause(self, seconds: float) -> bool:
        """Wait, at most until the connection ends; return whether it is still open."""
        try:
            await asyncio.wait_for(self.gone(), seconds)
        except TimeoutError:
            return True
        return False

    async def reset(self) -> None:
        """Send a TCP reset. Data that has not arrived yet is lost."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        await self.abandon()

    async def abandon(self) -> None:
        """End it at once, without a close_notify of TLS."""
        self._transport.abort()
        # uvicorn logs a response that ends before its connection does.
        await self.gone()

    async def close(self) -> None:
        """Close it in order."""
        self._transport.close()
        await self.gone()

    async def write(self, data: bytes) -> None:
        """Send bytes past HTTP, and wait until they have left this process."""
        self._transport.write(data)
        await self.flush()

    async def flush(self) -> None:
        """Wait until all data has left this process, or the connection has ended."""
        # Below TLS there is a second buffer, which asyncio does not show.
        below = getattr(getattr(self._transport, "_ssl_protocol", None), "_transport", None) or self._transport
        while not below.is_closing() and (  # noqa: ASYNC110 - neither buffer says when it is empty
            self._transport.get_write_buffer_size() or below.get_write_buffer_size()
        ):
            await asyncio.sleep(_FLUSH_SECONDS)
