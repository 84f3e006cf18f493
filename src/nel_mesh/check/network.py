"""The way to a server one step at a time, as `nel-mesh check` shows it: its name, TCP, TLS, one answer.

Only these steps are taken apart here; what is sent afterwards goes by the client itself.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import queue
import socket
import ssl
import threading
from urllib.parse import unquote, urlsplit

from cryptography import x509

from nel_mesh.settings import MeshSettings

_HEAD_LIMIT = 65_536


class Unreachable(Exception):
    """A step failed: what happened, and what to do about it."""

    def __init__(self, detail: str, *advice: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = advice


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """Where the server is, and the proxy on the way, if there is one.

    Attributes:
        authorization: the header's value for the proxy, if it needs one; it holds a password.
        tls_to_proxy: whether the proxy itself is spoken to over TLS.
    """

    server: Place
    tls: bool
    proxy: Place | None = None
    authorization: str | None = dataclasses.field(default=None, repr=False)
    tls_to_proxy: bool = False

    @property
    def first(self) -> Place:
        """What this machine connects to."""
        return self.proxy or self.server


def route(settings: MeshSettings) -> Route:
    """The way to the settings' server. Raises ConfigurationError for a proxy in the environment that is none."""
    url = urlsplit(settings.url)
    tls = url.scheme == "https"
    server = Place(url.hostname or "", url.port or (443 if tls else 80))
    secret = settings.proxy_for_url()
    if secret is None:
        return Route(server, tls)
    proxy = urlsplit(secret.get_secret_value())
    authorization = None
    if proxy.username is not None:
        user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        authorization = "Basic " + base64.b64encode(user.encode()).decode()
    to_proxy = proxy.scheme == "https"
    place = Place(proxy.hostname or "", proxy.port or (443 if to_proxy else 80))
    return Route(server, tls, place, authorization, to_proxy)


def resolve(place: Place, timeout: float) -> list[str]:
    """The addresses of a name. Raises Unreachable."""
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(address[0]) for *_, address in found)))
        except OSError as error:
            answers.put(error)

    # The system's resolver takes no time limit, and cannot be interrupted.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        answer = TimeoutError(f"no answer in {timeout:g} s")
    if isinstance(answer, OSError):
        raise Unreachable(
            f"{place.host} has no address: {answer.strerror or answer}",
            "Check the name for a slip of the pen, and that this machine can resolve names (DNS, VPN, HSCN)."
            " If your network reaches the internet by a proxy only, set `proxy` or HTTPS_PROXY.",
        )
    return answer


def connect(way: Route, timeout: float) -> socket.socket:
    """A TCP connection to the server, through the proxy if there is one. Raises Unreachable."""
    place = way.first
    try:
        connection = socket.create_connection((place.host, place.port), timeout)
    except TimeoutError:
        raise Unreachable(
            f"{place} does not answer within {timeout:g} s",
            f"A firewall probably drops it: ask your network team to let this machine connect to {place}"
            f" (outbound TCP){_or_a_proxy(way)}",
        ) from None
    except OSError as error:
        raise Unreachable(
            f"{place} cannot be reached: {error.strerror or error}",
            f"Check the {'proxy' if way.proxy else 'url'} and its port; if they are right, nothing listens there, or a"
            f" firewall refuses: ask your network team to let this machine connect to {place}{_or_a_proxy(way)}",
        ) from None
    # A proxy that speaks TLS is left to the client: Python's sockets do not put TLS into TLS.
    if way.proxy and way.tls and not way.tls_to_proxy:
        try:
            _tunnel(connection, way)
        except BaseException:
            connection.close()
            raise
    return connection


def verified_root(connection: socket.socket, way: Route, context: ssl.SSLContext) -> x509.Certificate | None:
    """The root under which the server's certificate was verified; None if Python does not tell. Closes.

    Raises OSError (of which TLS's errors are a kind).
    """
    with connection, context.wrap_socket(connection, server_hostname=way.server.host) as tls:
        chain = _verified_chain(tls)
    return x509.load_der_x509_certificate(chain[-1]) if chain else None


def _verified_chain(tls: ssl.SSLSocket) -> list[bytes]:
    public = getattr(tls, "get_verified_chain", None)
    if public is not None:
        return list(public())
    # Before Python 3.13 the same method is there, but not in public: it may be gone, and nothing hangs on it.
    with contextlib.suppress(AttributeError, TypeError):
        return [link.public_bytes(ssl._ssl.ENCODING_DER) for link in tls._sslobj.get_verified_chain()]  # type: ignore[attr-defined]
    return []


def _tunnel(connection: socket.socket, way: Route) -> None:
    lines = [f"CONNECT {way.server} HTTP/1.1", f"Host: {way.server}"]
    if way.authorization:
        lines.append(f"Proxy-Authorization: {way.authorization}")
    head = b""
    try:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        while b"\r\n\r\n" not in head and len(head) < _HEAD_LIMIT and (block := connection.recv(4096)):
            head += block
    except OSError as error:
        raise Unreachable(
            f"the proxy {way.proxy} broke the connection: {error.strerror or error}", _ASK_PROXY
        ) from None
    words = head.split(b"\r\n", 1)[0].split(None, 2)
    status = words[1].decode("ascii", "replace") if len(words) > 1 and words[0].startswith(b"HTTP/") else ""
    if status == "407":
        raise Unreachable(
            f"the proxy {way.proxy} wants a user and password (407)",
            "Set proxy_user and proxy_password (or MESH_PROXY_USER and MESH_PROXY_PASSWORD).",
        )
    if not status.startswith("2"):
        answer = f"answers {status}" if status else "does not answer as a proxy does"
        raise Unreachable(f"the proxy {way.proxy} {answer} when asked for {way.server}", _ASK_PROXY)


_ASK_PROXY = "Ask whoever runs the proxy to let this machine connect (CONNECT) to that server, and check `proxy`."


def _or_a_proxy(way: Route) -> str:
    return "." if way.proxy else ", or, if your network has a proxy for that, set `proxy` or HTTPS_PROXY."
