"""Connections to MESH that several clients share: one pool and one TLS context for all who reach it in the same way."""

from __future__ import annotations

import dataclasses
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nel_mesh.errors import InvalidArgument
from nel_mesh.http.sockets import TransportOptions
from nel_mesh.settings import MeshSettings

from .http import AsyncConnectionPool

if TYPE_CHECKING:
    from nel_mesh.tls.identity import Identity


class AsyncTransport:
    """Connections that the clients of several mailboxes share. A context manager.

        async with AsyncTransport() as transport:
            first = AsyncMeshClient(settings_of_first, transport=transport)
            second = AsyncMeshClient(settings_of_second, transport=transport)

    Clients share a pool of connections if the address, the certificates, the proxy and every limit of their settings
    are the same. `max_connections` is then the limit of all of them together. Clients with different certificates
    never share a connection.

    Closing a client leaves the connections open; closing the transport closes them all.
    """

    def __init__(self) -> None:
        self._pools: dict[_Route, AsyncConnectionPool] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _pool_for(self, settings: MeshSettings) -> AsyncConnectionPool:
        """Return the pool of connections for these settings.

        Raises:
            CertificateError: a certificate or key in the settings cannot be used.
        """
        if self._closed:
            raise InvalidArgument("the transport has been closed; make another one")
        route = _route(settings)
        if route not in self._pools:
            # Two threads may both make one: neither has a connection yet, and the first to be stored is used.
            self._pools.setdefault(route, AsyncConnectionPool(_with_tls(route, settings)))
        return self._pools[route]

    async def close(self) -> None:
        """Close every connection. Neither the transport nor its clients can be used after that."""
        self._closed = True
        for pool in list(self._pools.values()):
            await pool.close()


def transport_options(settings: MeshSettings) -> TransportOptions:
    """Return how to reach the server of these settings."""
    return _with_tls(_route(settings), settings)


@dataclasses.dataclass(frozen=True, slots=True)
class _Route:
    """All that decides how a server is reached; the contexts for TLS are made of the two identities."""

    options: TransportOptions
    identity: Identity | None
    proxy_identity: Identity | None


def _route(settings: MeshSettings) -> _Route:
    secret = settings.proxy_for_url()
    proxy = secret.get_secret_value() if secret else None
    options = TransportOptions(
        url=settings.url,
        ssl_context=None,
        proxy=proxy,
        connect_timeout_in_seconds=settings.connect_timeout_in_seconds,
        read_timeout_in_seconds=settings.read_timeout_in_seconds,
        write_timeout_in_seconds=settings.write_timeout_in_seconds,
        response_head_timeout_in_seconds=settings.response_head_timeout_in_seconds
        or 2 * settings.read_timeout_in_seconds,
        min_bytes_per_second=settings.min_bytes_per_second,
        max_connections=settings.max_connections,
        advice=_advice(settings),
    )
    identity = proxy_identity = None
    is_tls, is_proxy_tls = settings.url.startswith("https:"), proxy is not None and proxy.startswith("https:")
    if is_tls or is_proxy_tls:
        # Without TLS nothing of `cryptography` is loaded.
        from nel_mesh.tls.identity import Identity

        identity = Identity.from_settings(settings) if is_tls else None
        proxy_identity = Identity.for_proxy(settings) if is_proxy_tls else None
    return _Route(options, identity, proxy_identity)


def _with_tls(route: _Route, settings: MeshSettings) -> TransportOptions:
    if route.identity is None and route.proxy_identity is None:
        return route.options
    from nel_mesh.tls.context import client_ssl_context, proxy_ssl_context

    return dataclasses.replace(
        route.options,
        ssl_context=client_ssl_context(route.identity, settings) if route.identity else None,
        proxy_ssl_context=proxy_ssl_context(route.proxy_identity) if route.proxy_identity else None,
    )


def _advice(settings: MeshSettings) -> str:
    if settings.url.startswith("http:"):
        return "the address is http; if the server speaks TLS, it must be https"
    if settings.client_signing_certificate is None:
        return "no client certificate is set (client_signing_certificate), and MESH wants one"
    return ""
