"""A27: `nel-mesh check` names the cause and the cure for each of these wrong configurations."""

from __future__ import annotations

import dataclasses
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certificates import DAY, NOW, Pair, root
from nel_mesh.check.steps import State, Step, diagnose
from nel_mesh.cli.session import Session
from nel_mesh.io.clock import Clock
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer
from scripted_server import Step as Scripted

SECRET = "Pa55phrase"


class Shifted(Clock):
    """A clock that is off."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> Any:
        return super().now() + self._by


class Bench:
    """A working configuration, to be spoilt by each case."""

    def __init__(self, sandbox: Sandbox, folder: Path, environment: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self.environment = environment
        self.stack = stack
        self.clock = Clock()
        self.session = Session(settings_file=folder / "mesh.toml")
        settings = sandbox.settings()
        assert settings.client_signing_certificate
        self.settings: dict[str, Any] = {
            "mailbox_id": settings.mailbox_id,
            "password": settings.password.get_secret_value(),
            "shared_key": settings.shared_key.get_secret_value(),
            "url": settings.url,
            "proxy": "none",
            "tls_root_certificates": list(settings.tls_root_certificates),
            "client_signing_certificate": settings.client_signing_certificate.get_secret_value(),
            "connect_timeout_in_seconds": 2,
        }
        self.own = root("Lab", end=NOW + 100 * DAY)

    def steps(self) -> list[Step]:
        path = self.folder / "mesh.toml"
        if not path.exists() and self.session.settings_file == path:
            lines = (f"{name} = {_toml(value)}\n" for name, value in self.settings.items() if value is not None)
            path.write_text("".join(lines))
            path.chmod(0o600)
        return list(diagnose(self.session.load_settings, file=self.session.settings_path(), clock=self.clock))

    def server(self, *answers: Scripted, tls: Pair | None = None) -> str:
        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            (self.folder / "server.pem").write_text(tls.pem + tls.key_pem)
            context.load_cert_chain(self.folder / "server.pem")
        return self.stack.enter_context(ScriptedServer(*answers, tls=context)).url

    def proxy(self, answer: bytes) -> str:
        return self.server(Scripted(raw=answer))

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else f'"""{value}"""'


@dataclasses.dataclass(frozen=True)
class Case:
    """A wrong configuration, and how it is reported.

    Attributes:
        name: the case.
        spoil: makes the working configuration wrong.
        step: the first step that does not succeed.
        cause: words of its detail.
        cure: words of its advice, or of the detail where that has the cure.
        state: its state.
    """

    name: str
    spoil: Callable[[Bench], object]
    step: str
    cause: str
    cure: str
    state: State = State.FAILED


def setting(**changed: Any) -> Callable[[Bench], object]:
    return lambda bench: bench.settings.update(changed)


def no_settings(bench: Bench) -> None:
    bench.session = Session()
    bench.environment.chdir(bench.folder)
    bench.environment.setenv("XDG_CONFIG_HOME", str(bench.folder))
    bench.environment.setenv("HOME", str(bench.folder))


def closed_port(bench: Bench) -> None:
    taken = bench.stack.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    bench.settings["url"] = f"https://127.0.0.1:{taken.getsockname()[1]}"


def silent_host(bench: Bench) -> None:
    full = bench.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        waiting = bench.stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())
    bench.settings |= {"url": f"https://127.0.0.1:{full.getsockname()[1]}", "connect_timeout_in_seconds": 0.3}


def other_server(**keywords: Any) -> Callable[[Bench], object]:
    def spoil(bench: Bench) -> None:
        authority = root("Authority", end=NOW + 100 * DAY)
        host = keywords.pop("host", "127.0.0.1")
        bench.settings["url"] = bench.server(Scripted(), tls=authority.issue(host, **keywords))
        bench.settings["tls_root_certificates"] = [authority.pem]

    return spoil


def http_to_tls(bench: Bench) -> None:
    """As nginx: a TLS port that answers plain HTTP with 400."""
    authority = root("Authority", end=NOW + 100 * DAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue("127.0.0.1")
    context.load_cert_chain(bench.file("server.pem", pair.pem + pair.key_pem))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            is_tls = self.request.recv(1, socket.MSG_PEEK) == b"\x16"
            connection = context.wrap_socket(self.request, server_side=True) if is_tls else self.request
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    server = bench.stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    bench.stack.callback(thread.join, 10)
    bench.stack.callback(server.shutdown)
    bench.settings |= {
        "url": f"http://127.0.0.1:{server.server_address[1]}",
        "tls_root_certificates": [authority.pem],
    }


def root_among_intermediates(bench: Bench) -> None:
    (trusted,) = bench.settings["tls_root_certificates"]
    sub = bench.own.issue("Sub", authority=True, end=NOW + 100 * DAY).pem
    bench.settings["tls_root_certificates"] = [bench.own.pem]
    bench.settings["tls_intermediate_certificates"] = [trusted + sub]


def answering(status: int, path: str = "", **headers: str) -> Callable[[Bench], object]:
    def spoil(bench: Bench) -> None:
        bench.settings["url"] = bench.server(Scripted(status=status, headers=headers)) + path

    return spoil


def with_proxy(answer: bytes, **changed: Any) -> Callable[[Bench], object]:
    return lambda bench: bench.settings.update({"proxy": bench.proxy(answer)} | changed)


def proxy_down(bench: Bench) -> None:
    closed_port(bench)
    bench.settings |= {"proxy": bench.settings["url"].replace("https", "http"), "url": bench.sandbox.url}


def proxy_in_environment(bench: Bench) -> None:
    bench.environment.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    bench.settings["proxy"] = None


def private_proxy(bench: Bench) -> None:
    bench.settings["proxy"] = bench.server(Scripted(), tls=root("Proxy root").issue("127.0.0.1"))


def client_pair(make: Callable[[Bench], tuple[str, str | None]], **more: Any) -> Callable[[Bench], object]:
    def spoil(bench: Bench) -> None:
        certificate, key = make(bench)
        bench.settings |= {"client_signing_certificate": certificate, "client_signing_key": key, **more}

    return spoil


def stranger(_: Bench) -> tuple[str, None]:
    pair = root("Stranger").issue("lab.X26", end=NOW + 100 * DAY)
    return pair.pem + pair.key_pem, None


def dated(start: float, end: float) -> Callable[[Bench], tuple[str, None]]:
    def make(_: Bench) -> tuple[str, None]:
        pair = root("Lab", start=NOW + start * DAY, end=NOW + end * DAY)
        return pair.pem + pair.key_pem, None

    return make


def request(bench: Bench) -> tuple[str, None]:
    from nel_mesh.tls import make_request as make

    return bench.file("lab.csr", make("lab.X26.api.mesh-client.nhs.uk").request), None


CASES = [
    Case("no settings", no_settings, "settings", "settings file: there is none", "nel-mesh init"),
    Case(
        "no such settings file",
        lambda bench: setattr(bench.session, "settings_file", bench.folder / "none.toml"),
        "settings",
        "there is no such file",
        "give the path of a settings file",
    ),
    Case(
        "broken TOML",
        lambda bench: bench.file("mesh.toml", 'mailbox_id = "X"\npassword = x\n'),
        "settings",
        "line 2, column 12: not valid TOML",
        "strings need quotation marks",
    ),
    Case(
        "unknown profile",
        lambda bench: setattr(bench.session, "profile", "lap"),
        "settings",
        "there is no profile 'lap'",
        "it has no profiles",
    ),
    Case("a typo", setting(pasword=SECRET), "settings", "`pasword` in mesh.toml", "did you mean `password`?"),
    Case("no mailbox id", setting(mailbox_id=None), "settings", "mailbox_id: it is required", "set MESH_MAILBOX_ID"),
    Case("no url", setting(url=None), "settings", "url: it is required", "set MESH_URL"),
    Case("a url without scheme", setting(url="msg.nhs.uk"), "settings", "must be an http or https", "integration"),
    Case("http elsewhere", setting(url="http://mesh.example"), "settings", "must be https", "set allow_plain_http"),
    Case("a url to the end", setting(url="https://x/messageexchange"), "settings", "must end before", "is added to it"),
    Case("a mailbox id with a blank", setting(mailbox_id="X26 ABC1"), "settings", "digits, - and _ only", "as it was"),
    Case("no password", setting(password=None), "secrets", "password: it is required", "MESH_PASSWORD"),
    Case("a line feed", setting(password=f"{SECRET}\n"), "secrets", "holds a line break", "give it without"),
    Case("a blank", setting(shared_key=f"{SECRET} "), "secrets", "ends with a blank", "Copy it again"),
    Case(
        "no such root",
        setting(tls_root_certificates=["none.pem"]),
        "certificate",
        "there is no file none.pem",
        "docs/settings.md",
    ),
    Case(
        "an intermediate as root",
        lambda bench: bench.settings.update(tls_root_certificates=[bench.own.issue("Sub", authority=True).pem]),
        "certificate",
        "no root is in it, only 'Sub'",
        "put the root here",
    ),
    Case(
        "a certificate without key",
        client_pair(lambda bench: (bench.own.pem, None)),
        "certificate",
        "there is no private key for 'Lab'",
        "give it as client_signing_key",
    ),
    Case(
        "another key",
        client_pair(lambda bench: (bench.own.pem, root("Other").key_pem)),
        "certificate",
        "does not belong to the certificate 'Lab'",
        "with which the certificate's request was made",
    ),
    Case(
        "an encrypted key",
        client_pair(lambda bench: (bench.own.pem, bench.own.key_bytes(SECRET).decode())),
        "certificate",
        "is encrypted, and there is no password",
        "MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD",
    ),
    Case(
        "another key's password",
        client_pair(
            lambda bench: (bench.own.pem, bench.own.key_bytes(SECRET).decode()),
            client_signing_certificate_password=f"not {SECRET}",
        ),
        "certificate",
        "has another password",
        "Set client_signing_certificate_password",
    ),
    Case("an expired certificate", client_pair(dated(-3, -1)), "certificate", "'Lab' expired on", "nel-mesh csr"),
    Case(
        "a future certificate", client_pair(dated(1, 9)), "certificate", "is not valid before", "this machine's clock"
    ),
    Case("a request as certificate", client_pair(request), "certificate", "certificate request", "what was issued"),
    Case("a name without address", setting(url="https://mesh.invalid"), "name", "has no address", "for a typo"),
    Case("a closed port", closed_port, "tcp", "Connection refused", "Check host and port in `url`"),
    Case("a silent host", silent_host, "tcp", "does not answer within 0.3 s", "firewall"),
    Case("a proxy that is down", proxy_down, "tcp", "the proxy 127.0.0.1", "Check host and port in `proxy`"),
    Case("a proxy of another kind", proxy_in_environment, "name", "HTTPS_PROXY", "must be an http or https proxy"),
    Case(
        "a proxy that wants a password",
        with_proxy(b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"),
        "tcp",
        "wants a user and password (407)",
        "set proxy_user and proxy_password",
    ),
    Case(
        "a proxy that speaks NTLM only",
        with_proxy(b"HTTP/1.1 407 X\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"),
        "tcp",
        "offers NTLM only",
        "ask its operators for Basic",
    ),
    Case(
        "a proxy that refuses",
        with_proxy(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n"),
        "tcp",
        "refuses (status 403)",
        "let this machine connect",
    ),
    Case("a proxy of a private authority", private_proxy, "tcp", "TLS to the proxy", "proxy_root_certificates"),
    Case(
        "https to an http port",
        lambda bench: bench.settings.update(url=bench.server(Scripted()).replace("http:", "https:")),
        "tls",
        "TLS failed",
        "does not speak TLS: check the port",
    ),
    Case(
        "http to a TLS port",
        lambda bench: bench.settings.update(
            url=bench.sandbox.url.replace("https:", "http:"), read_timeout_in_seconds=0.5
        ),
        "tls",
        "nothing came within the read timeout",
        "That port speaks TLS: write the url (`url` in mesh.toml) with https",
    ),
    Case(
        "http to a TLS port that answers 400",
        http_to_tls,
        "tls",
        "answers 400 to http",
        "That port speaks TLS: write the url (`url` in mesh.toml) with https",
    ),
    Case(
        "another root",
        lambda bench: bench.settings.update(tls_root_certificates=[bench.own.pem]),
        "tls",
        "is not trusted",
        "RootCA into tls_root_certificates",
    ),
    Case(
        "a root among the intermediates", root_among_intermediates, "tls", "is not trusted", "put it in tls_root_cert"
    ),
    Case("another server's name", other_server(host="elsewhere.example"), "tls", "is not trusted", "for another name"),
    Case(
        "a server's certificate that expired",
        other_server(start=NOW - 9 * DAY, end=NOW - DAY),
        "tls",
        "expired",
        "check the clock",
    ),
    Case(
        "no client certificate",
        setting(client_signing_certificate=None),
        "certificate",
        "no client certificate is set",
        "nel-mesh csr",
        State.WARNING,
    ),
    Case("another authority's certificate", client_pair(stranger), "tls", "refuses our certificate", "own client cert"),
    Case("a gateway's refusal", answering(403), "tls", "http", "it is not MESH that refuses (403)", State.WARNING),
    Case("a path", answering(404, "/mesh"), "tls", "http", "The url has a path (/mesh)", State.WARNING),
    Case("not MESH", answering(404), "tls", "http", "check that the url leads to MESH", State.WARNING),
    Case("a redirect", answering(301, Location="/"), "tls", "http", "redirects (301)", State.WARNING),
    Case(
        "a clock that is off",
        lambda bench: setattr(bench, "clock", Shifted(timedelta(hours=-3))),
        "clock",
        "behind the server's",
        "time server (NTP)",
    ),
    Case(
        "a wrong password",
        setting(password=SECRET),
        "handshake",
        "does not accept mailbox X26ABC1",
        "password (`password` in mesh.toml)",
    ),
    Case(
        "a wrong shared key",
        setting(shared_key=SECRET),
        "handshake",
        "status 403",
        "shared_key (`shared_key` in mesh.toml)",
    ),
    Case(
        "another mailbox",
        setting(mailbox_id="X26ABC9"),
        "handshake",
        "does not accept mailbox X26ABC9",
        "mailbox_id (`mailbox_id` in mesh.toml)",
    ),
]


@pytest.fixture
def bench(mesh_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(mesh_sandbox, tmp_path, monkeypatch, stack)


def test_the_working_configuration_works(bench: Bench) -> None:
    assert {step.state for step in bench.steps()} == {State.OK}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a27_cause_and_cure_are_named(case: Case, bench: Bench) -> None:
    case.spoil(bench)
    steps = bench.steps()
    first = next(step for step in steps if step.state is not State.OK)
    assert (first.name, first.state) == (case.step, case.state), steps
    assert case.cause in first.detail
    assert case.cure in "\n".join((first.detail, *first.advice))
    assert first.advice
    for secret in ("TestKey", "PRIVATE KEY", SECRET):
        assert secret not in str(steps)


def test_a27_a_path_is_blamed_by_the_handshake_too(bench: Bench) -> None:
    answering(404, "/mesh")(bench)
    handshake = next(step for step in bench.steps() if step.name == "handshake")
    assert handshake.state is State.FAILED
    assert "The url has a path (/mesh)" in handshake.advice[0]
    assert "service desk" not in str(handshake.advice)


def test_a27_a_faulty_setting_does_not_hide_what_does_not_need_it(bench: Bench) -> None:
    bench.settings |= {"max_attempts": 0, "mailbox_id": "X 1", "password": None}
    states = {step.name: step.state.value for step in bench.steps()}
    assert [name for name, state in states.items() if state == "failed"] == ["settings", "secrets"]
    assert [name for name, state in states.items() if state == "skipped"] == ["handshake", "inbox"]


@pytest.mark.parametrize("wrong", [{"max_atempts": 3}, {"pasword": SECRET}, {"a": 1, "b": 2}])
def test_a27_a_misspelt_name_does_not_end_the_check(bench: Bench, wrong: dict[str, object]) -> None:
    bench.settings |= wrong
    states = {step.name: step.state.value for step in bench.steps()}
    assert [name for name, state in states.items() if state != "ok"] == ["settings"]


def test_a27_a_misspelt_required_setting_is_named_once_and_the_rest_is_tried(bench: Bench) -> None:
    bench.settings |= {"password": None, "pasword": SECRET}
    steps = {step.name: step for step in bench.steps()}
    assert "did you mean `password`?" in steps["settings"].detail
    assert [name for name, step in steps.items() if step.state is State.OK] == [
        "certificate",
        "name",
        "tcp",
        "tls",
        "clock",
    ]


def test_a27_without_a_url_the_certificates_are_checked(bench: Bench) -> None:
    bench.settings |= {"url": None, "tls_root_certificates": ["none.pem"]}
    states = {step.name: step.state.value for step in bench.steps()}
    assert [name for name, state in states.items() if state == "failed"] == ["settings", "certificate"]
