"""Serving the console: on this machine alone, unless there is TLS or a named proxy that does it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import uvicorn

from nel_mesh import ConfigurationError, StorageError
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.console_options import ConsoleOptions
from nel_mesh.agent.open_ledger import open_ledger
from nel_mesh.console.accounts import Accounts
from nel_mesh.console.application import application
from nel_mesh.console.site import Site
from nel_mesh.errors import SettingFault
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.ledger import Ledger

DEFAULT_ADDRESS = "127.0.0.1:8480"
_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "::1"]


@contextlib.contextmanager
def console_served(
    address: str,
    configuration: Callable[[], AgentConfiguration],
    *,
    clock: Clock | None = None,
    accounts: Callable[[Ledger], Accounts] = Accounts,
) -> Iterator[str]:
    """Serve the console while the block runs; yield its URL.

    Args:
        address: address and port, such as `127.0.0.1:8480`; the port 0 takes a free one.
        configuration: returns the agent's, as it is now.
        clock: where time comes from.
        accounts: makes the accounts of the ledger.

    Raises:
        ConfigurationError: other machines could reach it without TLS, or its certificate cannot be used.
        StorageError: the address cannot be listened on, or the ledger cannot be used.
    """
    options = configuration().console
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = _tls(options)
    _check_reach(host, options, is_tls=context is not None)
    with open_ledger(configuration(), clock) as ledger:
        site = Site(ledger, configuration, accounts(ledger))
        app = application(site, hosts=[*_LOOPBACK_NAMES, host, *options.hosts])
        with _listening(host, port, address) as listener, _running(app, listener, options, is_tls=context is not None):
            scheme = "https" if context is not None else "http"
            shown = f"[{host}]" if ":" in host else host
            try:
                yield f"{scheme}://{shown}:{listener.getsockname()[1]}"
            finally:
                site.stopping.set()


def _check_reach(host: str, options: ConsoleOptions, *, is_tls: bool) -> None:
    if is_tls or options.trusted_proxy is not None or _is_loopback(host):
        return
    message = (
        f"{host} can be reached from other machines, and there is no TLS: give certificate and private_key in the "
        "table [console], or trusted_proxy if a web server in front of it does TLS; or listen on 127.0.0.1"
    )
    raise ConfigurationError.of([SettingFault(None, "the console's address", "invalid", message)])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tls(options: ConsoleOptions) -> ssl.SSLContext | None:
    if options.certificate is None or options.private_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.certificate, options.private_key)
    except (OSError, ssl.SSLError) as error:
        message = f"certificate and private_key cannot be used: {error.strerror or type(error).__name__}"
        raise ConfigurationError.of([SettingFault(None, "[console]", "unreadable", message)]) from None
    return context


@contextlib.contextmanager
def _listening(host: str, port: str, address: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family)
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(f"{address}: it cannot be listened on: {reason}; give another address or port") from None
    with listener:
        # asyncio does so for a socket of its own; else each response waits for an acknowledgement, 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


@contextlib.contextmanager
def _running(app: object, listener: socket.socket, options: ConsoleOptions, *, is_tls: bool) -> Iterator[None]:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type] # an ASGI application
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        # Only the word of the named proxy is taken; without one, nobody's.
        proxy_headers=options.trusted_proxy is not None,
        forwarded_allow_ips=options.trusted_proxy or [],
        timeout_graceful_shutdown=3,
        ssl_certfile=str(options.certificate) if is_tls else None,
        ssl_keyfile=str(options.private_key) if is_tls else None,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="console", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(5)
