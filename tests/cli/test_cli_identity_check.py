"""`nel-mesh check`: what each thing that can be wrong looks like, as a process and over mutual TLS."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from certificates import DAY, NOW, root
from identity_command import at_a_terminal, run
from nel_mesh.check.steps import Step, _file_with_key, diagnose
from nel_mesh.http.proxy import Proxy
from nel_mesh.io.clock import Clock
from nel_mesh.sandbox import Sandbox
from nel_mesh.settings import MeshSettings
from scripted_server import ScriptedServer
from scripted_server import Step as Scripted

# The commands are run at a terminal that asks for passwords, and only POSIX can make one for a test.
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")

NAMES = ["settings", "secrets", "certificate", "name", "tcp", "tls", "clock", "handshake", "inbox"]


def keywords(sandbox: Sandbox) -> dict[str, Any]:
    """Settings as a file has them."""
    settings = sandbox.settings()
    assert settings.client_signing_certificate
    return {
        "mailbox_id": settings.mailbox_id,
        "password": settings.password.get_secret_value(),
        "shared_key": settings.shared_key.get_secret_value(),
        "url": settings.url,
        "proxy": "none",
        "tls_root_certificates": list(settings.tls_root_certificates),
        "client_signing_certificate": settings.client_signing_certificate.get_secret_value(),
    }


def written(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "mesh.json"
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    path.chmod(0o600)
    return path


@pytest.fixture
def checked(mesh_sandbox: Sandbox, tmp_path: Path) -> Callable[..., Any]:
    """Runs a check, as JSON, against the sandbox, with some settings changed."""

    def check(**changed: Any) -> Any:
        path = written(tmp_path, keywords(mesh_sandbox) | changed)
        return run(tmp_path, "--settings", str(path), "check", "--json")

    return check


class Shifted(Clock):
    """A clock that goes wrong."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by


def steps(settings: MeshSettings, clock: Clock | None = None) -> dict[str, Step]:
    return {step.name: step for step in diagnose(lambda **_: settings, clock=clock)}


def issued(sandbox: Sandbox, end: datetime) -> str:
    """A certificate and key, PEM, of the sandbox's own authority."""
    assert sandbox._certificates
    made = sandbox._certificates._authority.issue_cert("lab.X26.api.mesh-client.nhs.uk", not_after=end)
    return str(made.private_key_and_cert_chain_pem.bytes().decode())


# --- All is well ------------------------------------------------------------------------------------------------


def test_all_is_well(checked: Callable[..., Any], mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.deliver_message("X26ABC1", b"x")
    ended = checked()
    assert (ended.code, ended.errors) == (0, "")
    assert list(ended.steps) == NAMES
    assert ended.states == "ooooooooo", ended.output
    assert all(set(step) == {"step", "state", "detail", "advice", "facts"} for step in ended.lines)
    facts = {name: step["facts"] for name, step in ended.steps.items()}
    assert facts["settings"]["mailbox_id"] == "X26ABC1"
    assert facts["name"] == {"host": "127.0.0.1", "addresses": ["127.0.0.1"]}
    assert "nel_mesh sandbox" in facts["tls"]["root"]
    assert abs(facts["clock"]["seconds_ahead"]) < 60
    assert facts["inbox"] == {"messages": 1, "more": False}
    assert "TestKey" not in ended.output


def test_for_people_with_ticks(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    path = written(tmp_path, keywords(mesh_sandbox))
    code, seen = at_a_terminal(tmp_path, "--settings", str(path), "check", NO_COLOR="1")
    assert code == 0
    assert [line[0] for line in seen.splitlines() if not line.startswith(" ")] == ["\N{CHECK MARK}"] * 9
    assert "TestKey" not in seen
    # A27: in colour, unless that is not wanted.
    code, coloured = at_a_terminal(tmp_path, "--settings", str(path), "check")
    assert coloured.count("\x1b[32m\N{CHECK MARK}\x1b[0m ") == 9
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()[0] == seen.splitlines()[0]


def test_a27_several_faults_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mesh.toml"
    path.write_text('mailbox_id = "X 1"\npasword = "p"\nurl = "ftp://x"\nmax_attempts = 0\n')
    ended = run(tmp_path, "--settings", str(path), "check")
    lines = [line[22:].strip() for line in ended.output.splitlines()]
    starts = ("`mailbox_id`", "`pasword`", "`url`", "`max_attempts`", "password:", "shared_key:")
    assert all(sum(line.startswith(start) for line in lines) == 1 for start in starts), ended.output
    quiet = run(tmp_path, "--settings", str(path), "--quiet", "check")
    assert "\N{REPLACEMENT CHARACTER}" not in quiet.output
    assert quiet.output.splitlines() == ended.output.splitlines()[: len(quiet.output.splitlines())]


def test_where_there_are_no_ticks_and_with_quiet(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    path = written(tmp_path, keywords(mesh_sandbox) | {"password": "wrong"})
    ended = run(tmp_path, "--settings", str(path), "check", PYTHONIOENCODING="ascii")
    assert (ended.code, ended.output.count("\nok ")) == (14, 6)
    assert "\nX Handshake " in ended.output
    assert "\n- Inbox " in ended.output
    ended = run(tmp_path, "--settings", str(path), "--quiet", "check")
    assert ended.output.startswith("\N{BALLOT X} Handshake ")


# --- Each step's failures ---------------------------------------------------------------------------------------


def test_settings_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "mesh.toml"
    path.write_text('mailbox_id = "X"\npasword = "p"\nurl = "ftp://x"\n')
    ended = run(tmp_path, "--settings", str(path), "check", "--json")
    assert (ended.code, ended.states) == (14, "ffwssssss")
    assert "did you mean `password`?" in ended.steps["settings"]["detail"]
    assert [line.partition(":")[0] for line in ended.steps["secrets"]["detail"].splitlines()] == [
        "password",
        "shared_key",
    ]
    first, second, *_ = diagnose(lambda **_: MeshSettings.from_file(tmp_path / "none.toml"))
    assert (first.state, second.state) == ("failed", "skipped")
    assert "there is no such file" in first.detail


def test_secrets_that_are_missing(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    path = written(tmp_path, keywords(mesh_sandbox) | {"shared_key": None})
    found = list(diagnose(lambda **more: MeshSettings.from_file(path, **more), file=path))
    # A27: what needs no secret is tried.
    assert [step.state for step in found] == ["ok", "failed", *["ok"] * 5, "skipped", "skipped"]
    assert found[1].detail == (
        "shared_key: it is required, and not given; set MESH_SHARED_KEY, or put `shared_key` in mesh.json"
    )
    assert "MESH_SHARED_KEY" in found[1].advice[0]
    assert found[1].facts["faults"][0]["kind"] == "missing"
    assert [step.facts for step in found[-2:]] == [{"needs": "secrets"}, {"needs": "handshake"}]


def test_secrets_that_others_can_read(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    assert mesh_sandbox.client_certificate
    key = tmp_path / "mesh.pem"
    key.write_text(mesh_sandbox.client_certificate)
    path = written(tmp_path, keywords(mesh_sandbox) | {"client_signing_certificate": str(key)})
    public = tmp_path / "public.cer"
    public.write_bytes(root("Lab").der)
    for file in (path, key, public):
        file.chmod(0o644)
    assert _file_with_key(str(public)) is None
    ended = run(tmp_path, "--settings", str(path), "check", "--json")
    assert (ended.code, ended.states) == (0, "owooooooo")
    assert [advice.rpartition(": ")[2] for advice in ended.steps["secrets"]["advice"]] == [
        f"chmod 600 {path}",
        f"chmod 600 {key}",
    ]


def test_a_certificate_that_has_expired(checked: Callable[..., Any]) -> None:
    old = root("Lab", start=NOW - 3 * DAY, end=NOW - DAY)
    ended = checked(client_signing_certificate=old.pem + old.key_pem)
    assert (ended.code, ended.states) == (14, "oofoossss")
    assert "'Lab' expired on" in ended.steps["certificate"]["detail"]
    assert "nel-mesh csr" in ended.steps["certificate"]["advice"][0]


def test_a_key_that_is_another_certificate_s(checked: Callable[..., Any]) -> None:
    ended = checked(client_signing_certificate=root("Lab").pem, client_signing_key=root("Other").key_pem)
    assert (ended.code, ended.states) == (14, "oofoossss")
    assert "does not belong to the certificate 'Lab'" in ended.steps["certificate"]["detail"]
    assert "PRIVATE KEY" not in ended.output


def test_a_key_whose_password_is_missing(mesh_sandbox: Sandbox) -> None:
    own = root("Lab")
    settings = mesh_sandbox.settings(
        client_signing_certificate=own.pem, client_signing_key=own.key_bytes("secret").decode()
    )
    step = steps(settings)["certificate"]
    assert step.state == "failed"
    assert "MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD" in step.advice[0]


def test_a_certificate_that_ends_soon(checked: Callable[..., Any], mesh_sandbox: Sandbox) -> None:
    ended = checked(client_signing_certificate=issued(mesh_sandbox, NOW + 59.5 * DAY))
    assert (ended.code, ended.states) == (0, "oowoooooo"), ended.output
    assert "ends in 59 days" in ended.steps["certificate"]["advice"][0]
    assert ended.steps["certificate"]["facts"]["days_left"] == 59
    ended = steps(mesh_sandbox.settings(client_signing_certificate=issued(mesh_sandbox, NOW + 61 * DAY)))
    assert ended["certificate"].state == "ok"


def test_authorities_that_end_soon(mesh_sandbox: Sandbox) -> None:
    soon = root("Old root", end=NOW + 10 * DAY)
    settings = mesh_sandbox.settings()
    settings = mesh_sandbox.settings(tls_root_certificates=[*settings.tls_root_certificates, soon.pem])
    step = steps(settings)["certificate"]
    assert step.state == "warning"
    assert "'Old root'" in step.advice[0]


def test_no_certificate_at_all(mesh_sandbox: Sandbox) -> None:
    found = steps(mesh_sandbox.settings(client_signing_certificate=None))
    assert (found["certificate"].state, found["tls"].state) == ("warning", "failed")
    assert "nel-mesh csr" in found["certificate"].advice[0]
    assert "refuses our certificate, or wants one" in found["tls"].detail


def test_a_certificate_that_the_server_does_not_know(mesh_sandbox: Sandbox) -> None:
    stranger = root("Stranger").issue("lab.X26.api.mesh-client.nhs.uk", end=NOW + 100 * DAY)
    found = steps(mesh_sandbox.settings(client_signing_certificate=stranger.pem + stranger.key_pem))
    assert (found["certificate"].state, found["tls"].state) == ("ok", "failed")
    assert "own client certificates" in found["tls"].advice[0]
    assert found["handshake"].state == "skipped"


def test_a_server_under_another_root(checked: Callable[..., Any]) -> None:
    ended = checked(tls_root_certificates=[root("Other root", end=NOW + 100 * DAY).pem])
    assert (ended.code, ended.states) == (14, "ooooofsss")
    assert "not trusted" in ended.steps["tls"]["detail"]
    assert "RootCA into tls_root_certificates" in ended.steps["tls"]["advice"][0]


def test_a_server_with_another_name(mesh_sandbox: Sandbox) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    root_pem = authority.cert_pem.bytes().decode()
    with ScriptedServer(Scripted(), tls=context) as server:
        step = steps(mesh_sandbox.settings(url=server.url, tls_root_certificates=root_pem))["tls"]
    assert step.state == "failed"
    assert "for another name" in step.advice[0]


def test_a_port_that_does_not_speak_tls(mesh_sandbox: Sandbox) -> None:
    with ScriptedServer(Scripted()) as server:
        step = steps(mesh_sandbox.settings(url=server.url.replace("http:", "https:")))["tls"]
    assert step.state == "failed"
    assert "does not speak TLS" in step.advice[0]


def test_a_name_that_nobody_has(checked: Callable[..., Any]) -> None:
    ended = checked(url="https://mesh.invalid")
    assert (ended.code, ended.states) == (14, "ooofsssss")
    assert "mesh.invalid has no address" in ended.steps["name"]["detail"]
    assert "HTTPS_PROXY" in ended.steps["name"]["advice"][1]


def test_a_port_where_nothing_listens(checked: Callable[..., Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ended = checked(url=f"https://127.0.0.1:{taken.getsockname()[1]}")
    assert (ended.code, ended.states) == (14, "oooofssss")
    assert "refused" in ended.steps["tcp"]["detail"]


def test_a_wrong_password(checked: Callable[..., Any]) -> None:
    ended = checked(password="wrong-and-secret")
    assert (ended.code, ended.states) == (14, "ooooooofs")
    assert "does not accept mailbox X26ABC1" in ended.steps["handshake"]["detail"]
    assert "`password` in mesh.json" in ended.steps["handshake"]["advice"][0]
    assert "wrong-and-secret" not in ended.output + ended.errors


def test_a_server_that_is_not_mesh(mesh_sandbox: Sandbox) -> None:
    with ScriptedServer(Scripted(status=404)) as server:
        found = steps(mesh_sandbox.settings(url=server.url))
    assert found["tls"].state == "warning"
    assert "answers 404 to MESH's _ping" in found["tls"].advice[0]
    assert found["handshake"].state == "failed"


# --- The clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "state", "words"),
    [
        (timedelta(minutes=3), "ok", "behind the server's"),
        (timedelta(minutes=-20), "warning", "ahead of the server's"),
    ],
)
def test_a_server_whose_clock_differs(mesh_sandbox: Sandbox, off: timedelta, state: str, words: str) -> None:
    with ScriptedServer(at(off)) as server:
        found = steps(mesh_sandbox.settings(url=server.url))
    assert (found["clock"].state, found["inbox"].state) == (state, "ok")
    assert words in found["clock"].detail


def test_a_server_whose_clock_is_too_far_from_ours(tmp_path: Path) -> None:
    with ScriptedServer(at(timedelta(hours=3))) as server:
        settings = {"mailbox_id": "X", "password": "p", "shared_key": "k", "url": server.url, "proxy": "none"}
        ended = run(tmp_path, "--settings", str(written(tmp_path, settings)), "check", "--json")
    assert (ended.code, ended.states) == (14, "ooooowfss")
    assert "behind the server's; MESH refuses every request beyond 2 hours" in ended.steps["clock"]["detail"]


def at(off: timedelta) -> Scripted:
    """A good answer of a server whose clock is off."""
    date = format_datetime(datetime.now(UTC) + off, usegmt=True)
    return Scripted(headers={"Date": date}, body=b'{"messages": []}')


def test_a_clock_of_our_own_that_is_wrong(mesh_sandbox: Sandbox) -> None:
    settings = mesh_sandbox.settings()
    found = steps(settings, Shifted(timedelta(hours=2, minutes=30)))
    assert found["clock"].state == "failed"
    assert found["clock"].detail.startswith("2 h ")
    assert found["handshake"].state == "skipped"
    found = steps(settings, Shifted(-timedelta(hours=1, minutes=50)))
    assert [step.state for step in found.values()][-3:] == ["warning", "ok", "ok"]


@pytest.mark.parametrize("date", [None, "today"])
def test_a_server_that_does_not_tell_the_time(mesh_sandbox: Sandbox, date: str | None) -> None:
    with ScriptedServer(Scripted(headers={"Date": date} if date else {}, body=b'{"messages": []}')) as server:
        found = steps(mesh_sandbox.settings(url=server.url))
    assert (found["clock"].state, found["clock"].detail) == ("ok", "the server did not say what time it is")


# --- Through a proxy --------------------------------------------------------------------------------------------


@contextmanager
def proxy(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that answers every CONNECT with this, and then, if that was a 200, passes everything on."""
    asked: list[bytes] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(65536))
            self.request.sendall(answer)
            if answer.startswith(b"HTTP/1.1 200"):
                host, _, port = asked[-1].split()[1].decode().rpartition(":")
                with socket.create_connection((host, int(port))) as server:
                    back = threading.Thread(target=pump, args=(server, self.request))
                    back.start()
                    pump(self.request, server)
                    back.join()

    class Proxy(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Proxy(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_address[1]}", asked
        finally:
            serving.shutdown()
            thread.join(10)


def test_through_a_proxy(mesh_sandbox: Sandbox) -> None:
    with proxy(b"HTTP/1.1 200 OK\r\n\r\n") as (url, asked):
        found = steps(mesh_sandbox.settings(proxy=url, proxy_user="jo", proxy_password="p ä"))
    assert {step.state for step in found.values()} == {"ok"}, found
    assert found["tcp"].detail == f"{mesh_sandbox.url[8:]} by the proxy {url[7:]}"
    assert "the proxy; it resolves 127.0.0.1" in found["name"].detail
    assert all(b"Basic am86cCDDpA==" in head for head in asked if head)
    assert "nel_mesh sandbox" in str(found["tls"].facts["root"])


@pytest.mark.parametrize(
    ("answer", "words", "cure"),
    [
        (b"HTTP/1.1 407 Who\r\n\r\n", "refuses this user and password", "check proxy_user and proxy_password"),
        (b"HTTP/1.1 403 No\r\n\r\n", "refuses (status 403)", "let this machine connect (CONNECT)"),
        (b"\r\n\r\n", "does not answer as a proxy", "keyword argument `proxy`"),
    ],
)
def test_a_proxy_that_refuses(mesh_sandbox: Sandbox, answer: bytes, words: str, cure: str) -> None:
    with proxy(answer) as (url, _):
        found = steps(mesh_sandbox.settings(proxy=url.replace("//", "//jo:Pa55@")))
    assert found["tcp"].state == "failed"
    assert words in found["tcp"].detail
    assert cure in f"{found['tcp'].detail} {found['tcp'].advice[0]}"
    assert "keyword argument `proxy`" in found["tcp"].advice[0]
    assert "Pa55" not in str(found)
    assert found["tls"].state == "skipped"


@pytest.mark.parametrize(
    ("proxy_url", "place", "tls_to_proxy"),
    [
        ("https://proxy.example", "proxy.example:443", True),
        ("proxy.example", "proxy.example:80", False),
        ("http://[::1]:3128", "[::1]:3128", False),
    ],
)
def test_where_a_proxy_is(mesh_sandbox: Sandbox, proxy_url: str, place: str, tls_to_proxy: bool) -> None:
    secret = mesh_sandbox.settings(proxy=proxy_url, proxy_user="jo", proxy_password="Pa55").proxy_for_url()
    assert secret
    proxy = Proxy.parse(secret.get_secret_value())
    assert (str(proxy.origin), proxy.origin.is_tls) == (place, tls_to_proxy)
    assert proxy.headers["proxy-authorization"] not in repr(proxy)


def test_a_proxy_in_the_environment_that_is_none(mesh_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    found = steps(mesh_sandbox.settings(proxy=None))
    assert found["name"].state == "failed"
    assert "HTTPS_PROXY" in found["name"].detail


def test_a_server_that_never_answers(mesh_sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        place = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(place)
            settings = mesh_sandbox.settings(url=f"https://127.0.0.1:{place[1]}", connect_timeout_in_seconds=0.3)
            found = steps(settings)
        finally:
            for one in waiting:
                one.close()
    assert found["tcp"].state == "failed"
    assert "does not answer within 0.3 s" in found["tcp"].detail
    assert "firewall" in found["tcp"].advice[0]
