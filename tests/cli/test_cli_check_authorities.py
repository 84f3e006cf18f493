"""`nel-mesh check` names the authority that signed the server's certificate, and those that are trusted, over TLS."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from certificates import DAY, NOW, Pair, root
from nel_mesh.check.steps import State, Step, diagnose
from nel_mesh.sandbox import Sandbox
from nel_mesh.settings import MeshSettings
from scripted_server import ScriptedServer
from scripted_server import Step as Scripted

YEAR = 365 * DAY
ROOT = root("NHS test root", end=NOW + YEAR)
SUB = ROOT.issue("NHS test SubCA", authority=True, end=NOW + YEAR)
OTHER = root("Inspection root", end=NOW + YEAR)


@contextmanager
def server(folder: Path, *shown: Pair, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[str]:
    """A server that shows these certificates, the first one its own."""
    path = folder / "server.pem"
    path.write_text("".join(one.pem for one in shown) + shown[0].key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(path)
    with ScriptedServer(Scripted(), tls=context) as running:
        yield running.url


def tls(settings: MeshSettings) -> Step:
    return next(step for step in diagnose(lambda **_: settings) if step.name == "tls")


def sha256(pair: Pair) -> str:
    return hashlib.sha256(pair.der).hexdigest()


def test_the_authorities_between_the_server_and_the_root(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    own = SUB.issue("127.0.0.1", end=NOW + YEAR)
    with server(tmp_path, own, SUB) as url:
        step = tls(mesh_sandbox.settings(url=url, tls_root_certificates=[ROOT.pem, OTHER.pem]))
    assert step.state is State.OK
    proved, shown, trusted = step.detail.splitlines()
    assert proved == "the server proved its name"
    assert shown == "it shows '127.0.0.1', issued by 'NHS test SubCA', issued by 'NHS test root'"
    assert trusted.startswith("trusted by keyword argument `tls_root_certificates`: 'NHS test root' (valid ")
    assert "; 'Inspection root' (valid " in trusted
    assert [(one["subject"], one["issuer"]) for one in step.facts["chain"]] == [
        ("CN=127.0.0.1", "CN=NHS test SubCA"),
        ("CN=NHS test SubCA", "CN=NHS test root"),
        ("CN=NHS test root", "CN=NHS test root"),
    ]
    assert [one["sha256"] for one in step.facts["chain"]] == [sha256(own), sha256(SUB), sha256(ROOT)]
    assert [one["sha256"] for one in step.facts["trusted"]] == [sha256(ROOT), sha256(OTHER)]
    assert step.facts["chain"][0]["not_after"] == own.certificate.not_valid_after_utc


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("with_sub", [True, False])
def test_the_authority_of_a_server_that_is_not_trusted(
    mesh_sandbox: Sandbox, tmp_path: Path, version: ssl.TLSVersion, with_sub: bool
) -> None:
    own = SUB.issue("127.0.0.1", end=NOW + YEAR)
    shown = (own, SUB) if with_sub else (own,)
    with server(tmp_path, *shown, version=version) as url:
        step = tls(mesh_sandbox.settings(url=url, tls_root_certificates=[OTHER.pem]))
    assert step.state is State.FAILED
    reason, seen, trusted = step.detail.splitlines()
    assert "is not trusted" in reason
    issuers = "issued by 'NHS test SubCA'" + (", issued by 'NHS test root'" if with_sub else "")
    assert seen == f"it shows '127.0.0.1', {issuers}"
    assert trusted.startswith("trusted by keyword argument `tls_root_certificates`: 'Inspection root' (valid ")
    assert [one["sha256"] for one in step.facts["chain"]] == [sha256(one) for one in shown]
    assert [one["subject"] for one in step.facts["trusted"]] == ["CN=Inspection root"]
    assert "RootCA into tls_root_certificates" in step.advice[0]


def test_the_authority_of_a_certificate_that_expired_or_has_another_name(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    for own in (ROOT.issue("127.0.0.1", start=NOW - 9 * DAY, end=NOW - DAY), ROOT.issue("elsewhere.example")):
        with server(tmp_path, own) as url:
            step = tls(mesh_sandbox.settings(url=url, tls_root_certificates=[ROOT.pem]))
        assert step.state is State.FAILED
        assert ", issued by 'NHS test root'" in step.detail.splitlines()[1]


def test_where_the_system_says_whom_to_trust(
    mesh_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with server(tmp_path, ROOT.issue("127.0.0.1")) as url:
        trusted = tls(mesh_sandbox.settings(url=url, tls_root_certificates=[]))
    with server(tmp_path, OTHER.issue("127.0.0.1")) as url:
        untrusted = tls(mesh_sandbox.settings(url=url, tls_root_certificates=[]))
    assert (trusted.state, untrusted.state) == (State.OK, State.FAILED)
    for step in (trusted, untrusted):
        last = f"trusted by the system ({bundle}); tls_root_certificates is not set"
        assert step.detail.splitlines()[-1] == last
        assert step.facts["trusted_by"] == f"the system ({bundle})"
        assert step.facts["trusted"] == []


def test_the_authority_behind_a_refused_client_certificate(mesh_sandbox: Sandbox) -> None:
    stranger = root("Stranger").issue("lab.X26.api.mesh-client.nhs.uk")
    step = tls(mesh_sandbox.settings(client_signing_certificate=stranger.pem + stranger.key_pem))
    assert step.state is State.FAILED
    assert "refuses our certificate" in step.detail
    last = step.detail.splitlines()[-1]
    assert last.startswith("trusted by keyword argument `tls_root_certificates`: ")
    assert "O=nel_mesh sandbox" in last


def test_the_authority_of_a_proxy_that_is_not_trusted(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    with server(tmp_path, OTHER.issue("127.0.0.1")) as proxy:
        steps = {step.name: step for step in diagnose(lambda **_: mesh_sandbox.settings(proxy=proxy))}
    assert steps["tcp"].state is State.FAILED
    assert "it shows '127.0.0.1', issued by 'Inspection root'" in steps["tcp"].detail


def test_facts_are_json(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    with server(tmp_path, ROOT.issue("127.0.0.1")) as url:
        step = tls(mesh_sandbox.settings(url=url, tls_root_certificates=[ROOT.pem]))
    read: Any = json.loads(json.dumps(step.facts, default=str))
    assert [len(one["sha256"]) for one in (*read["chain"], *read["trusted"])] == [64, 64, 64]
