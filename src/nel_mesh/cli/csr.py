"""`nel-mesh csr`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.session import session_of

if TYPE_CHECKING:
    from nel_mesh.cli.prompts import Asker

_PASSWORD = "MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD"  # noqa: S105 - a variable's name

SEND_TO = {
    "integration": "itoc.supportdesk@nhs.net",
    "production": "ssd.nationalservicedesk@nhs.net",
}
"""The addresses that issue certificates, by environment (MESH API, "Get a TLS certificate")."""


def csr(
    ctx: typer.Context,
    local_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Your name for this client: a server's name, or the mailbox id."),
    ] = None,
    ods_code: Annotated[str | None, typer.Option(metavar="CODE", help="Your organisation's ODS code.")] = None,
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for both files.")] = Path(),
    key_size: Annotated[int, typer.Option(metavar="BITS", help="The size of the RSA key: 2048, 3072 or 4096.")] = 2048,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help=f"Encrypt the key with {_PASSWORD}, or with a passphrase that you type.")
    ] = False,
) -> None:
    """Create a private key and a certificate request.

    The request has the form that NHS England asks for, with the name LOCAL_ID.ODS_CODE.api.mesh-client.nhs.uk, and
    the output says where to send it. Asks for what no option gives. Never replaces a file. With --json: one object
    with common_name, key, request, key_encrypted, send_to.

    \b
    Example:
      nel-mesh csr --local-id SERVER001 --ods-code X26 --into certificates
    """
    from nel_mesh.check.private_files import already_exists, write_private
    from nel_mesh.cli import prompts
    from nel_mesh.tls import common_name, make_request

    session = session_of(ctx)
    asker = prompts.Asker(json=session.json)
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
            raise already_exists(path)
    passphrase = _passphrase(asker) if encrypt else None
    made = make_request(name, key_size=key_size, passphrase=passphrase)
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
    from nel_mesh.cli import prompts
    from nel_mesh.errors import InvalidArgument

    if given := os.environ.get(_PASSWORD):
        try:
            return prompts.secret(given)
        except InvalidArgument as error:
            raise InvalidArgument(f"{_PASSWORD}: {error.reason}") from None
    passphrase = asker.secret("Passphrase for the key", prompts.secret, twice=True)
    if passphrase is None:
        raise InvalidArgument(f"--encrypt: there is no passphrase; type one at a terminal, or set {_PASSWORD}")
    return passphrase


def _next_steps(name: str, key: Path, request: Path, *, encrypted: bool) -> str:
    password = f"     its passphrase into the environment variable {_PASSWORD}\n" if encrypted else ""
    return (
        f"{key}\n"
        f"  the private key{', encrypted' if encrypted else ''}. Keep it here, back it up, and never send it.\n"
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
