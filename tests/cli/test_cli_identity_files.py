"""`nel-mesh init`, `csr` and `token`: at a terminal, where somebody answers, and piped, where nobody does."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from certificates import root
from identity_command import at_a_terminal, run
from nel_mesh.cli.init import Answers, settings_text
from nel_mesh.cli.main import run as run_here
from nel_mesh.errors import InvalidArgument
from nel_mesh.io.clock import Clock
from nel_mesh.protocol import token
from nel_mesh.sandbox import Sandbox
from nel_mesh.settings import ENVIRONMENTS, MeshSettings
from nel_mesh.tls import csr

# The commands are run at a terminal that asks for passwords, and only POSIX can make one for a test.
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")

SECRET = "s3cret-Käse"
NAME = "SERVER001.X26.api.mesh-client.nhs.uk"
PASSWORD = "MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- init -------------------------------------------------------------------------------------------------------


def test_init_asks_for_everything_and_the_file_works(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    assert mesh_sandbox.root_certificate
    assert mesh_sandbox.client_certificate
    (tmp_path / "root.pem").write_text(mesh_sandbox.root_certificate)
    (tmp_path / "mesh.pem").write_text(mesh_sandbox.client_certificate)
    (tmp_path / "mesh.pem").chmod(0o600)
    answers = [
        ("Mailbox id", "not an id"),
        ("Mailbox id", "x26abc1"),
        ("server's address", mesh_sandbox.url),
        ("RootCA", "none.pem"),
        ("RootCA", "root.pem"),
        ("SubCA", ""),
        ("your certificate", "mesh.pem"),
        ("mailbox's password", "password "),
        ("mailbox's password", "password"),
        ("shared secret", "TestKey"),
    ]
    code, seen = at_a_terminal(tmp_path, "init", answers=answers)
    assert code == 0, seen
    assert "begins or ends with a blank" in seen  # A16
    assert "there is no file" in seen
    assert "TestKey" not in seen
    path = tmp_path / "mesh.toml"
    assert mode(path) == 0o600
    settings = MeshSettings.from_file(path)
    assert settings.tls_root_certificates == (str(tmp_path / "root.pem"),)
    assert settings.shared_key.get_secret_value() == "TestKey"
    ended = run(tmp_path, "check", "--json", NO_PROXY="127.0.0.1")
    assert (ended.code, ended.states) == (0, "o" * 9)


def test_init_with_an_encrypted_key(tmp_path: Path) -> None:
    own = root("Lab")
    (tmp_path / "lab.pem").write_text(own.pem)
    (tmp_path / "lab.key").write_bytes(own.key_bytes(SECRET))
    arguments = ["--mailbox-id", "X", "--environment", "Integration", "--root", "lab.pem", "--intermediate", "lab.pem"]
    answers = [
        ("your certificate", "lab.pem"),
        ("its private key", "lab.pem"),
        ("its private key", "lab.key"),
        ("mailbox's password", ""),
        ("shared secret", ""),
        ("key's password", "wrong"),
        ("key's password", SECRET),
    ]
    code, seen = at_a_terminal(tmp_path, "init", "--output", "in/here.toml", *arguments, answers=answers)
    assert code == 0, seen
    assert "there is no private key in" in seen
    assert "that is not the password" in seen
    assert "set the environment variable MESH_PASSWORD\n" in seen
    assert "nel-mesh --settings " in seen
    settings = MeshSettings.from_file(tmp_path / "in" / "here.toml", password="p", shared_key="k")
    assert settings.client_signing_key
    assert settings.client_signing_key.get_secret_value() == str(tmp_path / "lab.key")
    assert settings.client_signing_certificate_password
    assert settings.client_signing_certificate_password.get_secret_value() == SECRET
    assert settings.url == ENVIRONMENTS["integration"]
    assert settings.tls_intermediate_certificates == (str(tmp_path / "lab.pem"),)


def test_init_piped_asks_nothing_and_leaves_secrets_out(tmp_path: Path) -> None:
    own = root("Lab")
    (tmp_path / "lab.pem").write_bytes(own.pem.encode() + own.key_bytes(SECRET))
    arguments = ["init", "--mailbox-id", "X", "--url", "https://localhost:8700", "--certificate", "lab.pem"]
    ended = run(tmp_path, *arguments, "--json")
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines == [
        {
            "path": str(tmp_path / "mesh.toml"),
            "mailbox_id": "X",
            "url": "https://localhost:8700",
            "secrets_left_out": ["password", "shared_key", "client_signing_certificate_password"],
        }
    ]
    text = (tmp_path / "mesh.toml").read_text()
    assert all(f"set the environment variable MESH_{name.upper()}." in text for name in ("password", "shared_key"))
    assert f"environment variable {PASSWORD}." in text

    (tmp_path / "mesh.toml").write_text("mine")
    ended = run(tmp_path, *arguments)
    assert (ended.code, ended.output) == (2, "")
    assert "exists already" in ended.errors
    assert (tmp_path / "mesh.toml").read_text() == "mine"
    ended = run(tmp_path, *arguments, "--force", "--quiet")
    assert (ended.code, ended.output) == (0, f"{tmp_path / 'mesh.toml'}\n")
    assert (tmp_path / "mesh.toml").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lab.pem", "mesh.toml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--mailbox-id is needed: there is no terminal"),
        (["--mailbox-id", "X"], "--environment is needed"),
        (["--mailbox-id", "X", "--environment", "live"], "--environment: one of integration, deployment, production"),
        (["--mailbox-id", "X", "--url", "ftp://x"], "--url: must be an http or https address"),
        (["--mailbox-id", "X", "--url", "https://x", "--environment", "production"], "give one of them"),
        (["--mailbox-id", "X", "--environment", "production", "--key", "k"], "--key: there is no certificate for it"),
        (["--mailbox-id", "X", "--environment", "production", "--root", "n.pem"], "--root: there is no file"),
        (["--output", "mesh.json"], "ends in .toml"),
    ],
)
def test_init_with_what_cannot_be_used(
    tmp_path: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_here(["init", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_settings_text_is_toml_whatever_is_in_it(tmp_path: Path) -> None:
    strange = 'a"b\\c\t\x7f\x01é\U0001f600 #'
    answers = Answers(
        mailbox_id="X",
        url="integration",
        roots=(strange, "two"),
        certificate=strange,
        key=strange,
        password=strange.replace("\t", ""),
        shared_key="k",
        key_password=strange.replace("\t", ""),
    )
    path = tmp_path / "mesh.toml"
    path.write_text(settings_text(answers), encoding="utf-8")
    settings = MeshSettings.from_file(path)
    assert settings.tls_root_certificates == (strange, "two")
    assert settings.password.get_secret_value() == answers.password
    assert settings.client_signing_certificate_password
    assert settings.client_signing_certificate_password.get_secret_value() == answers.key_password
    assert strange not in repr(answers)


# --- csr --------------------------------------------------------------------------------------------------------


def test_csr_makes_a_key_and_a_request(tmp_path: Path) -> None:
    ended = run(tmp_path, "csr", "--local-id", "SERVER001", "--ods-code", "x26", "--into", "new/folder")
    assert ended.code == 0, ended.errors
    key_path, request_path = (tmp_path / "new" / "folder" / f"{NAME}.{kind}" for kind in ("key", "csr"))
    assert mode(key_path) == 0o600
    for words in (
        NAME,
        "itoc.supportdesk@nhs.net",
        "ssd.nationalservicedesk@nhs.net",
        f"client_signing_key = {key_path}",
    ):
        assert words in ended.output
    key = load_pem_private_key(key_path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    made = x509.load_pem_x509_csr(request_path.read_bytes())
    assert made.is_signature_valid
    assert made.public_key() == key.public_key()
    assert [(part.oid, part.value) for part in made.subject] == [(NameOID.COMMON_NAME, NAME)]
    assert (key.key_size, len(made.extensions)) == (2048, 0)
    before = key_path.read_bytes()
    ended = run(tmp_path, "csr", "--local-id", "SERVER001", "--ods-code", "X26", "--into", "new/folder", "--json")
    assert ended.code == 2
    assert "exists already" in ended.errors
    assert key_path.read_bytes() == before


def test_csr_asks_for_what_is_left_out_and_encrypts(tmp_path: Path) -> None:
    answers = [
        ("Your name for this client", "not a host"),
        ("Your name for this client", "SERVER001"),
        ("ODS code", "X 26"),
        ("ODS code", "X26"),
        ("Passphrase for the key", SECRET),
        ("Repeat for confirmation", SECRET),
    ]
    code, seen = at_a_terminal(tmp_path, "csr", "--encrypt", answers=answers)
    assert code == 0, seen
    assert SECRET not in seen
    assert PASSWORD in seen
    key = (tmp_path / f"{NAME}.key").read_bytes()
    assert load_pem_private_key(key, SECRET.encode())
    with pytest.raises(TypeError):
        load_pem_private_key(key, None)


def test_csr_takes_the_passphrase_from_the_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["csr", "--local-id", "a", "--ods-code", "X26", "--encrypt", "--json"]
    assert run_here([*arguments, "--into", str(tmp_path)]) == 2
    assert PASSWORD in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    # A16: the settings would refuse it later.
    ended = run(tmp_path, *arguments, **{PASSWORD: f"{SECRET}\n"})
    assert (ended.code, list(tmp_path.glob("*.key"))) == (2, [])
    assert f"{PASSWORD}: it holds a line break" in ended.errors
    ended = run(tmp_path, *arguments, **{PASSWORD: SECRET})
    (line,) = ended.lines
    assert set(line) == {"common_name", "key", "request", "key_encrypted", "send_to"}
    assert line["key_encrypted"] is True
    assert load_pem_private_key(Path(line["key"]).read_bytes(), SECRET.encode())


# A second opinion on the request, by another program; the request itself is tested without it above.
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl: `make services`")
def test_openssl_verifies_the_request(tmp_path: Path) -> None:
    path = tmp_path / "x.csr"
    path.write_bytes(csr.make_request(NAME, key_size=3072).request)
    done = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-subject", "-in", str(path)],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    assert "verify OK" in done.stderr + done.stdout
    assert done.stdout.replace(" ", "").strip().endswith(f"CN={NAME}")


@pytest.mark.parametrize("local_id", ["", "a b", "a.b", "-a", "a-", "ä", "a_b", "a" * 40])
def test_local_ids_that_are_none(local_id: str) -> None:
    with pytest.raises(InvalidArgument, match="local id"):
        csr.common_name(local_id, "X26")


@pytest.mark.parametrize("ods_code", ["", "X2", "X 26", "X-26", "X26.a", "ÄB1", "A" * 11])
def test_ods_codes_that_are_none(ods_code: str) -> None:
    with pytest.raises(InvalidArgument, match="ODS code"):
        csr.common_name("SERVER001", ods_code)


@pytest.mark.parametrize("key_size", [0, 1024, 2047, 8192])
def test_key_sizes_that_are_not_made(key_size: int) -> None:
    with pytest.raises(InvalidArgument, match="2048, 3072, 4096"):
        csr.make_request(NAME, key_size=key_size)


def test_the_longest_name(tmp_path: Path) -> None:
    name = csr.common_name("a" * 34, "RAJ01")
    assert len(name) == 63
    assert x509.load_pem_x509_csr(csr.make_request(csr.common_name("a" * 35, "RAJ01")).request)


def test_no_file_is_left_where_the_request_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.csr").symlink_to("nowhere")
    assert run_here(["csr", "--local-id", "SERVER001", "--ods-code", "X26", "--into", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.csr"]


# --- token ------------------------------------------------------------------------------------------------------


def test_token_prints_one_good_header(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    path = mesh_sandbox.write_settings(tmp_path)[0]
    ended = run(tmp_path, "--settings", str(path), "token")
    assert ended.code == 0
    name, _, value = ended.output.removesuffix("\n").partition(": ")
    found = token.parse(value)
    assert found
    assert name == "Authorization"
    assert found.mailbox_id == "X26ABC1"
    assert token.is_genuine(found, password="password", shared_key="TestKey")
    assert token.is_timely(found, now=Clock().now() + timedelta(hours=1, minutes=58))
    assert "two hours" in ended.errors
    assert "one request" in ended.errors
    assert value not in ended.errors
    ended = run(tmp_path, "--settings", str(path), "token", "--json")
    assert set(ended.lines[0]) == {"mailbox_id", "authorization"}
    assert (ended.errors, token.parse(ended.lines[0]["authorization"]) is None) == ("", False)


def test_token_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(["token", "--settings", str(tmp_path / "none.toml")]) == 3
    said = capsys.readouterr()
    assert (said.out, "Authorization" in said.err) == ("", False)
