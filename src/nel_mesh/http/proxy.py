"""Where a server or a proxy is, and how a proxy is asked to connect to a server (CONNECT)."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from nel_mesh.http.exchange import Exchange

_USUAL_PORTS = {"http": 80, "https": 443}

_MAY_CHANGE = frozenset({408, 425, 429})
"""Refusals by a proxy (4xx) that may not be its last word."""

_QUOTED = re.compile(r'"[^"]*"')
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9_-]{0,19})(?=\s|,|$)")
"""A scheme in Proxy-Authenticate; its parameters have a `=` behind their name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL (RFC 9110, 4.3)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read them from a URL."""
        return cls.of(urlsplit(url))

    @classmethod
    def of(cls, url: SplitResult) -> Self:
        """Take them from a URL that is split already."""
        host = url.hostname or ""
        if host.endswith("localhost."):
            # Many a resolver knows this name from a file, which has it without the dot of an absolute name.
            host = host.removesuffix(".")
        return cls(url.scheme, host, url.port or _USUAL_PORTS[url.scheme])

    def __str__(self) -> str:
        return f"{self._bracketed()}:{self.port}"

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Return host and port as HTTP writes them, without the usual port."""
        return self._bracketed() if self.port == _USUAL_PORTS[self.scheme] else str(self)

    @property
    def tls_name(self) -> str:
        """Return the name in the certificate: without the dot that ends an absolute name (RFC 6066, 3)."""
        return self.host.removesuffix(".")

    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode()


class ProxyRefused(Exception):
    """The proxy does not connect us.

    Attributes:
        transient: whether trying again may help.
    """

    def __init__(self, reason: str, *, transient: bool = True) -> None:
        super().__init__(reason)
        self.transient = transient


@dataclasses.dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and what it is told of us.

    Attributes:
        headers: Proxy-Authorization, if there are user and password.
    """

    origin: Origin
    headers: Mapping[str, str] = dataclasses.field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a proxy's URL; user and password in it are percent-encoded."""
        parts = urlsplit(url)
        headers: dict[str, str] = {}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["proxy-authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        return cls(Origin.of(parts), headers)

    def connect(self, target: Origin) -> Exchange:
        """Return the request that asks the proxy to connect to a server."""
        return Exchange("CONNECT", str(target), [("host", str(target)), *self.headers.items()])

    def check(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise ProxyRefused unless the proxy has connected us."""
        if 200 <= status < 300:
            return
        proxy = f"the proxy {self.origin}"
        if status == 407:
            raise ProxyRefused(f"{proxy} {self._demand(headers.get('proxy-authenticate', ''))}", transient=False)
        transient = not 400 <= status < 500 or status in _MAY_CHANGE
        cure = "" if transient else ": ask its operators to let this machine connect (CONNECT) to that server"
        raise ProxyRefused(f"{proxy} refuses (status {status}){cure}", transient=transient)

    def _demand(self, offered: str) -> str:
        """Say what to do about a 407, by the schemes that the proxy offers (RFC 9110, 11.7.1)."""
        schemes = list(dict.fromkeys(_SCHEME.findall(_QUOTED.sub("", offered))))[:5]
        if schemes and not any(scheme.casefold() == "basic" for scheme in schemes):
            return (
                f"offers {' and '.join(schemes)} only (407), and nel-mesh speaks Basic: ask its operators for Basic,"
                " or to let this machine through without a password"
            )
        if self.headers:
            return "refuses this user and password (407): check proxy_user and proxy_password"
        return "wants a user and password (407): set proxy_user and proxy_password"
