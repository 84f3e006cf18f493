"""Settings for a client of a sandbox: as keywords, environment variables and settings files."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nel_mesh.io.files import write_file
from nel_mesh.sandbox.certificates import Certificates
from nel_mesh.sandbox.configuration import SandboxMailbox

_NO_PROXY = "none"  # the sandbox is on this machine, whatever proxy the environment names


def keywords(
    mailbox: SandboxMailbox, *, shared_key: str, url: str, certificates: Certificates | None
) -> dict[str, Any]:
    """Make the arguments of `MeshSettings`; certificates in PEM."""
    given: dict[str, Any] = {
        "mailbox_id": mailbox.mailbox_id,
        "password": mailbox.password,
        "shared_key": shared_key,
        "url": url,
        "proxy": _NO_PROXY,
    }
    if _needs_plain_http(url):
        given["allow_plain_http"] = True
    if certificates:
        given["tls_root_certificates"] = [certificates.root]
        given["client_signing_certificate"] = certificates.client
    return given


def appsettings(
    mailbox: SandboxMailbox, *, shared_key: str, url: str, certificates: Certificates | None
) -> dict[str, Any]:
    """Make the content of a settings file in the form of NEL.MESH; certificates in base64, the key in PKCS#12."""
    settings: dict[str, Any] = {
        "MailboxId": mailbox.mailbox_id,
        "Password": mailbox.password,
        "SharedKey": shared_key,
        "Url": url,
        "Proxy": _NO_PROXY,
    }
    if _needs_plain_http(url):
        settings["AllowPlainHttp"] = "true"
    if certificates:
        password = secrets.token_urlsafe(16)
        settings["TlsRootCertificates"] = [certificates.root_base64()]
        settings["TlsIntermediateCertificates"] = []
        settings["ClientSigningCertificate"] = base64.b64encode(certificates.client_pkcs12(password)).decode()
        settings["ClientSigningCertificatePassword"] = password
    return {"MeshConfiguration": settings}


def _needs_plain_http(url: str) -> bool:
    """Whether a client must be allowed to use this address: plain http, perhaps on another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost")


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Convert `appsettings` to environment variables, each on one line."""
    names = {
        "MailboxId": "MESH_MAILBOX_ID",
        "Password": "MESH_PASSWORD",
        "SharedKey": "MESH_SHARED_KEY",
        "Url": "MESH_URL",
        "Proxy": "MESH_PROXY",
        "AllowPlainHttp": "MESH_ALLOW_PLAIN_HTTP",
        "TlsRootCertificates": "MESH_TLS_ROOT_CERTIFICATES",
        "ClientSigningCertificate": "MESH_CLIENT_SIGNING_CERTIFICATE",
        "ClientSigningCertificatePassword": "MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD",
    }
    values = settings["MeshConfiguration"]
    return {
        variable: values[name] if isinstance(values[name], str) else json.dumps(values[name])
        for name, variable in names.items()
        if name in values
    }


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON to a file that only its owner may read, whole or not at all."""
    write_file(path, f"{json.dumps(content, indent=2)}\n".encode())


def write_for_others(
    folder: Path, mailboxes: list[SandboxMailbox], *, shared_key: str, url: str, certificates: Certificates | None
) -> None:
    """Write `sandbox.json`, and the certificates as PEM and PFX files beside it, for programs in any language."""
    content: dict[str, Any] = {
        "url": url,
        "shared_key": shared_key,
        "mailboxes": [{"mailbox_id": box.mailbox_id, "password": box.password} for box in mailboxes],
    }
    if certificates:
        certificate, key = certificates.client_parts()
        password = secrets.token_urlsafe(16)
        files = {
            "root": ("root.pem", certificates.root.encode()),
            "client_certificate": ("client.pem", certificate),
            "client_key": ("client.key", key),
            "client_pfx": ("client.pfx", certificates.client_pkcs12(password)),
        }
        for name, data in files.values():
            write_file(folder / name, data)
        content |= {name: str((folder / file).absolute()) for name, (file, _) in files.items()}
        content["client_pfx_password"] = password
    write_private(folder / "sandbox.json", content)
