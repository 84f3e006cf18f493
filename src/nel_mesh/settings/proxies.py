"""Which proxy the environment names for a URL, and which hosts NO_PROXY exempts, as curl and requests read them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit


def environment_proxy(url: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable that names the proxy for a URL, and its value; None for a direct connection.

    HTTPS_PROXY or HTTP_PROXY by the URL's scheme, then ALL_PROXY. Lower case wins over upper, also when it is empty.
    """
    # Not urllib.request, which does the same: it brings all of http.client and takes long to import.
    parts = urlsplit(url)
    variables = [f"{parts.scheme}_proxy", "all_proxy"]
    if "REQUEST_METHOD" in environment:
        # In CGI, HTTP_PROXY is what a stranger's request said in its header `Proxy`.
        environment = {name: value for name, value in environment.items() if name != "HTTP_PROXY"}
    found = next(filter(None, (_variable(name, environment) for name in variables)), None)
    exempt = _variable("no_proxy", environment)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if found is None or (exempt is not None and is_exempt(parts.hostname or "", port, exempt[1])):
        return None
    return found


def _variable(name: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    for spelling in (name, name.upper()):
        if spelling in environment:
            return (spelling, environment[spelling]) if environment[spelling].strip() else None
    return None


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether a host is to be reached without a proxy.

    Each entry is a host, a domain (`example.org` and `.example.org`: the host itself and all below), an address or a
    range of addresses (`10.0.0.0/8`), each with or without `:port`; or `*`, for all. Names are not resolved.

    Args:
        host: a name, or an address without brackets.
        port: the server's port.
        no_proxy: the entries, between commas or blanks.
    """
    return any(_matches(host.casefold().rstrip("."), port, entry) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    network = _network(entry)
    if network is None and ":" in entry:
        entry, _, number = entry.rpartition(":")
        if number != str(port):
            return False
        network = _network(entry)
    if addresses := _addresses(host):
        return network is not None and any(address in network for address in addresses)
    domain = entry.casefold().removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the address that the host is, in both forms if it is an IPv4 address written as one of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return []
    mapped = getattr(address, "ipv4_mapped", None)
    return [address, mapped] if mapped else [address]


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return a range, or a single address as one; an IPv6 address may be in brackets."""
    try:
        return ipaddress.ip_network(re.sub(r"^\[(.*)\](/\d+)?$", r"\1\2", entry), strict=False)
    except ValueError:
        return None
