"""`nel-mesh init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.prompts import Asker
from nel_mesh.cli.session import default_paths, session_of

if TYPE_CHECKING:
    from nel_mesh.cli.init_prompts import IdentityFile

_SECRETS = (("password", "The mailbox's password"), ("shared_key", "The environment's shared secret"))
_KEY_PASSWORD = "client_signing_certificate_password"  # noqa: S105 - a setting's name


def init(
    ctx: typer.Context,
    mailbox_id: Annotated[str | None, typer.Option(metavar="ID", help="Your mailbox.")] = None,
    environment: Annotated[
        str | None, typer.Option(metavar="NAME", help="integration, deployment or production.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="A server's address, instead of --environment.")
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An authority to trust (RootCA); may be repeated."),
    ] = None,
    intermediate: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An authority in between (SubCA); may be repeated.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate that NHS England issued to you.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, if it is in another file.")] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")] = Path("mesh.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Asks for mailbox, environment and certificates, and writes a settings file that its owner alone can read.

    What an option gives is not asked for; without a terminal nothing is. Passwords are never options: they are asked
    for unseen, or left to the environment (MESH_PASSWORD, MESH_SHARED_KEY). With --json: one object with path,
    mailbox_id, url, secrets_left_out.

    \b
    Examples:
      nel-mesh init
      nel-mesh init --mailbox-id X26ABC1 --environment integration
    """
    from nel_mesh.cli import init_prompts
    from nel_mesh.cli.private_file import make_folder, there_already, write_private
    from nel_mesh.cli.settings_text import Answers, settings_text

    session = session_of(ctx)
    path = init_prompts.settings_file(output)
    # Before anything is asked: nobody wants to have answered for nothing.
    if path.exists() and not force:
        raise there_already(path, "or say --force")
    asker = Asker(json=session.json)
    mailbox = asker.required("--mailbox-id", mailbox_id, "Mailbox id", init_prompts.mailbox_id)
    address = _address(asker, environment, url)
    roots = _authorities(asker, "--root", root, "File of the RootCA's certificate")
    intermediates = _authorities(asker, "--intermediate", intermediate, "File of the SubCA's certificate")
    own, own_key = _identity(asker, certificate, key)
    secrets = {
        name: asker.secret(f"{what} (unseen; empty: it comes from {_variable(name)})") for name, what in _SECRETS
    }
    encrypted = [file for file in (own, own_key) if file and file.is_encrypted]
    key_password = _key_password(asker, encrypted)
    text = settings_text(
        Answers(
            mailbox_id=mailbox,
            url=address,
            roots=roots,
            intermediates=intermediates,
            certificate=own.path if own else None,
            key=own_key.path if own_key else None,
            needs_key_password=bool(encrypted),
            key_password=key_password,
            **secrets,
        )
    )
    make_folder(path.parent)
    write_private(path, text.encode(), replace=force)
    left_out = [name for name, value in secrets.items() if value is None]
    if encrypted and key_password is None:
        left_out.append(_KEY_PASSWORD)
    record = {"path": str(path), "mailbox_id": mailbox, "url": address, "secrets_left_out": left_out}
    session.out.result(record, _next_steps(path, left_out), brief=str(path))


def _address(asker: Asker, environment: str | None, url: str | None) -> str:
    from nel_mesh.cli import init_prompts
    from nel_mesh.errors import InvalidArgument

    if environment is not None and url is not None:
        raise InvalidArgument("--environment and --url: give one of them")
    if url is not None:
        return asker.required("--url", url, "", init_prompts.url)
    question = "Environment (integration, deployment, production), or a server's address"
    use = init_prompts.url if environment is None else init_prompts.environment
    return asker.required("--environment", environment, question, use, default="integration")


def _authorities(asker: Asker, option: str, given: list[Path] | None, question: str) -> tuple[str, ...]:
    from nel_mesh.cli import init_prompts

    texts = [str(path) for path in given] if given else [None]
    found = (asker.optional(option, text, question, init_prompts.authority_file) for text in texts)
    return tuple(path for path in found if path is not None)


def _identity(
    asker: Asker, certificate: Path | None, key: Path | None
) -> tuple[IdentityFile | None, IdentityFile | None]:
    from nel_mesh.cli import init_prompts
    from nel_mesh.errors import InvalidArgument

    own = asker.optional("--certificate", _text(certificate), "File of your certificate", init_prompts.certificate_file)
    if own is None:
        if key is not None:
            raise InvalidArgument("--key: there is no certificate for it; give --certificate too")
        return None, None
    if own.has_key and key is None:
        return own, None
    return own, asker.optional("--key", _text(key), "File of its private key", init_prompts.key_file)


def _key_password(asker: Asker, encrypted: list[IdentityFile]) -> str | None:
    if not encrypted:
        return None
    question = f"The private key's password (unseen; empty: it comes from {_variable(_KEY_PASSWORD)})"
    while password := asker.secret(question):
        if all(file.opens_with(password) for file in encrypted):
            return password
        typer.echo("  that is not the password; try again", err=True)
    return None


def _next_steps(path: Path, left_out: list[str]) -> str:
    lines = [f"{path} is written; only you can read it.", "", "Next:"]
    lines += [f"  set the environment variable {_variable(name)}" for name in left_out]
    found = [place.absolute() for place in default_paths()]
    option = "" if path in found else f"--settings {path} "
    return "\n".join([*lines, f"  nel-mesh {option}check"])


def _variable(name: str) -> str:
    return f"MESH_{name.upper()}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
