"""A14: NO_PROXY exempts what it exempts for curl and requests: names, domains, addresses, ranges, ports."""

from __future__ import annotations

import pytest

from nel_mesh.settings.proxies import environment_proxy, is_exempt

EXEMPT = [
    ("mesh.example.org", "*"),
    ("mesh.example.org", "mesh.example.org"),
    ("mesh.example.org", "MESH.Example.Org"),
    ("mesh.example.org.", "mesh.example.org"),
    ("mesh.example.org", "mesh.example.org."),
    ("mesh.example.org", "example.org"),
    ("mesh.example.org", ".example.org"),
    ("mesh.example.org", "*.example.org"),
    ("example.org", ".example.org"),
    ("mesh.example.org", "other, example.org"),
    ("mesh.example.org", "other example.org"),
    ("mesh.example.org", "example.org:443"),
    ("10.1.2.3", "10.0.0.0/8"),
    ("10.1.2.3", "10.1.2.3"),
    ("10.1.2.3", "10.1.2.3:443"),
    ("10.1.2.3", "10.0.0.0/8:443"),
    ("10.1.2.3", "10.1.0.1/16"),
    ("::1", "::1/128"),
    ("::1", "::1"),
    ("::1", "[::1]"),
    ("::1", "[::1]:443"),
    ("::1", "[::1]/128"),
    ("fd00::5", "fd00::/8"),
    ("fd00:0:0::5", "fd00::5"),
    ("::ffff:10.1.2.3", "10.0.0.0/8"),
    ("::ffff:10.1.2.3", "::ffff:10.1.2.3"),
    ("fe80::1%eth0", "fe80::/10"),
]
PROXIED = [
    ("mesh.example.org", ""),
    ("mesh.example.org", " , "),
    ("mesh.example.org", "mesh"),
    ("mesh.example.org", "ple.org"),
    ("badexample.org", "example.org"),
    ("mesh.example.org", "example.org:8443"),
    ("mesh.example.org", "."),
    ("mesh.example.org", "*.*"),
    ("mesh.example.org", "10.0.0.0/8"),
    ("11.1.2.3", "10.0.0.0/8"),
    ("10.1.2.3", "10.1.2.3:8443"),
    ("10.1.2.30", "10.1.2.3"),
    ("10.1.2.3", "2.3"),
    ("10.1.2.3", "10.0.0.0/99"),
    ("::1", "::2/128"),
    ("::1", "[::1]:8443"),
    ("fd00::5", "10.0.0.0/8"),
]


@pytest.mark.parametrize(("host", "no_proxy"), EXEMPT)
def test_a_host_that_is_exempt_from_the_proxy(host: str, no_proxy: str) -> None:
    assert is_exempt(host, 443, no_proxy)


@pytest.mark.parametrize(("host", "no_proxy"), PROXIED)
def test_a_host_that_is_not_exempt_from_the_proxy(host: str, no_proxy: str) -> None:
    assert not is_exempt(host, 443, no_proxy)


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://mesh.example", {"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "ALL_PROXY": "c"}, ("HTTPS_PROXY", "a")),
        ("http://mesh.example", {"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "ALL_PROXY": "c"}, ("HTTP_PROXY", "b")),
        ("https://mesh.example", {"HTTP_PROXY": "b", "ALL_PROXY": "c"}, ("ALL_PROXY", "c")),
        ("https://mesh.example", {"https_proxy": "a", "HTTPS_PROXY": "b"}, ("https_proxy", "a")),
        ("https://mesh.example", {"https_proxy": "", "HTTPS_PROXY": "b"}, None),
        ("https://mesh.example", {"https_proxy": "", "ALL_PROXY": "c"}, ("ALL_PROXY", "c")),
        ("https://mesh.example", {"HTTPS_PROXY": "a", "NO_PROXY": "mesh.example:443"}, None),
        ("https://mesh.example", {"HTTPS_PROXY": "a", "no_proxy": "", "NO_PROXY": "*"}, ("HTTPS_PROXY", "a")),
        ("https://mesh.example:8443", {"HTTPS_PROXY": "a", "NO_PROXY": "mesh.example:443"}, ("HTTPS_PROXY", "a")),
        ("http://mesh.example", {"HTTP_PROXY": "b", "REQUEST_METHOD": "GET"}, None),
        ("http://mesh.example", {"http_proxy": "b", "REQUEST_METHOD": "GET"}, ("http_proxy", "b")),
        ("http://mesh.example", {}, None),
    ],
)
def test_the_proxy_that_the_environment_names(
    url: str, environment: dict[str, str], expected: tuple[str, str] | None
) -> None:
    assert environment_proxy(url, environment) == expected
