"""`nel-mesh csr`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nel_mesh.cli.prompts import Asker
from nel_mesh.cli.session import session_of

_PASSWORD = "MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD"  # noqa: S105 - a variable's name

SEND_TO = {
    "integration": "itoc.supportdesk@nhs.net",
    "production": "ssd.nationalservicedesk@nhs.net",
}
"""Who signs requests for each environment (MESH API, "Get a TLS certificate")."""


def csr(
    ctx: typer.Context,
    local_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Your own name for this client: a server's name, or the mailbox id."),
    ] = None,
    ods_code: Annotated[str | None, typer.Option(metavar="CODE", help="Your organisation's ODS code.")] = None,
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="Where both files go.")] = Path(),
    key_size: Annotated[int, typer.Option(metavar="BITS", help="Of the RSA key: 2048, 3072 or 4096.")] = 2048,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help=f"Encrypt the key: with {_PASSWORD}, or else it asks for a passphrase.")
    ] = False,
) -> None:
    """Makes a private key and a request for its certificate, as NHS England wants it, and says where to send it.

    The request's name is LOCAL_ID.ODS_CODE.api.mesh-client.nhs.uk. What is left out is asked for. No file is ever
    replaced. With --json: one object with common_name, key, request, key_encrypted, send_to.

    \b
    Example:
      nel-mesh csr --local-id SERVER001 --ods-code X26 --into certificates
    """
    from nel_mesh.cli.private_file import make_folder, there_already, write_private
    from nel_mesh.tls.csr import common_name, make

    session = session_of(ctx)
    asker = Asker(json=session.json)
    local_id = asker.required(
        "--local-id",
        local_id,
        "Your name for this client, such as SERVER001 or the mailbox id",
        lambda text: common_name(text, "X26").partition(".")[0],
    )
    name = asker.required("--ods-code", ods_code, "ODS code", lambda text: common_name(local_id, text))
    # Made absolute, since the settings must find them from any working directory.
    folder = into.expanduser().absolute()
    key_path, request_path = folder / f"{name}.key", folder / f"{name}.csr"
    for path in (key_path, request_path):
        if path.exists():
            raise there_already(path)
    passphrase = _passphrase(asker) if encrypt else None
    made = make(name, key_size=key_size, passphrase=passphrase)
    make_folder(folder)
    write_private(key_path, made.key)
    try:
        write_private(request_path, made.request)
    except BaseException:
        key_path.unlink(missing_ok=True)
        raise
    record = {
        "common_name": name,
        "key": str(key_path),
        "request": str(request_path),
        "key_encrypted": encrypt,
        "send_to": SEND_TO,
    }
    session.out.result(record, _next_steps(name, key_path, request_path, encrypted=encrypt))


def _passphrase(asker: Asker) -> str:
    from nel_mesh.errors import InvalidArgument

    passphrase = os.environ.get(_PASSWORD) or asker.secret("Passphrase for the key", twice=True)
    if passphrase is None:
        raise InvalidArgument(f"--encrypt: there is no passphrase; type one at a terminal, or set {_PASSWORD}")
    return passphrase


def _next_steps(name: str, key: Path, request: Path, *, encrypted: bool) -> str:
    password = f"     its passphrase into the environment variable {_PASSWORD}\n" if encrypted else ""
    return (
        f"{key}\n"
        f"  the private key{', encrypted' if encrypted else ''}. Keep it here, back it up, and send it to nobody.\n"
        f"{request}\n"
        f"  the request for {name}.\n"
        "\n"
        "Next:\n"
        f"  1. E-mail the request, and the name {name}, to NHS England:\n"
        f"     for integration: {SEND_TO['integration']}\n"
        f"     for production:  {SEND_TO['production']}, with your technical conformance certificate\n"
        "     The certificate comes back within 5 working days.\n"
        "  2. Put into the settings (`nel-mesh init` asks for them):\n"
        "     client_signing_certificate = the file that came back\n"
        f"     client_signing_key = {key}\n"
        f"{password}"
        "     tls_root_certificates, tls_intermediate_certificates = the environment's RootCA and SubCA\n"
        "  3. Run `nel-mesh check`."
    )
