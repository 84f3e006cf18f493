"""`nel-mesh init`: ask for the settings, and write them to a file that people can read and edit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.session import default_paths, session_of

if TYPE_CHECKING:
    from nel_mesh.cli.prompts import Asker, IdentityFile

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
        typer.Option(metavar="FILE", help="A root certificate to trust (RootCA); may be repeated."),
    ] = None,
    intermediate: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An intermediate certificate (SubCA); may be repeated.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The client certificate that NHS England issued.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The private key, if it is in another file.")] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")] = Path("mesh.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Create a settings file that only you can read.

    Asks for the mailbox, the environment and the certificates that no option gives; without a terminal it asks
    nothing. Passwords are never options: type them at the prompt, or set MESH_PASSWORD and MESH_SHARED_KEY. With
    --json: one object with path, mailbox_id, url, secrets_left_out.

    \b
    Examples:
      nel-mesh init
      nel-mesh init --mailbox-id X26ABC1 --environment integration
    """
    from nel_mesh.check.private_files import already_exists, write_private
    from nel_mesh.cli import prompts

    session = session_of(ctx)
    path = prompts.settings_file(output)
    # Before the first question, so that no answer is given in vain.
    if path.exists() and not force:
        raise already_exists(path, "or say --force")
    asker = prompts.Asker(json=session.json)
    mailbox = asker.required("--mailbox-id", mailbox_id, "Mailbox id", prompts.mailbox_id)
    address = _address(asker, environment, url)
    roots = _authorities(asker, "--root", root, "File of the RootCA's certificate")
    intermediates = _authorities(asker, "--intermediate", intermediate, "File of the SubCA's certificate")
    own, own_key = _identity(asker, certificate, key)
    secrets = {
        name: asker.secret(f"{what} (hidden; empty: it comes from {_variable(name)})", prompts.secret)
        for name, what in _SECRETS
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
    write_private(path, text.encode(), replace=force)
    left_out = [name for name, value in secrets.items() if value is None]
    if encrypted and key_password is None:
        left_out.append(_KEY_PASSWORD)
    record = {"path": str(path), "mailbox_id": mailbox, "url": address, "secrets_left_out": left_out}
    session.out.result(record, _next_steps(path, left_out), brief=str(path))


def _address(asker: Asker, environment: str | None, url: str | None) -> str:
    from nel_mesh.cli import prompts
    from nel_mesh.errors import InvalidArgument

    if environment is not None and url is not None:
        raise InvalidArgument("--environment and --url: give one of them")
    if url is not None:
        return asker.required("--url", url, "", prompts.url)
    question = "Environment (integration, deployment, production), or a server's address"
    use = prompts.url if environment is None else prompts.environment
    return asker.required("--environment", environment, question, use, default="integration")


def _authorities(asker: Asker, option: str, given: list[Path] | None, question: str) -> tuple[str, ...]:
    from nel_mesh.cli import prompts

    texts = [str(path) for path in given] if given else [None]
    found = (asker.optional(option, text, question, prompts.authority_file) for text in texts)
    return tuple(path for path in found if path is not None)


def _identity(
    asker: Asker, certificate: Path | None, key: Path | None
) -> tuple[IdentityFile | None, IdentityFile | None]:
    from nel_mesh.cli import prompts
    from nel_mesh.errors import InvalidArgument

    own = asker.optional("--certificate", _text(certificate), "File of your certificate", prompts.certificate_file)
    if own is None:
        if key is not None:
            raise InvalidArgument("--key: there is no certificate for it; give --certificate too")
        return None, None
    if own.has_key and key is None:
        return own, None
    return own, asker.optional("--key", _text(key), "File of its private key", prompts.key_file)


def _key_password(asker: Asker, encrypted: list[IdentityFile]) -> str | None:
    from nel_mesh.cli import prompts
    from nel_mesh.errors import InvalidArgument

    if not encrypted:
        return None

    def use(password: str) -> str:
        if not all(file.opens_with(password) for file in encrypted):
            raise InvalidArgument("that is not the password; try again")
        return prompts.secret(password)

    return asker.secret(f"The private key's password (hidden; empty: it comes from {_variable(_KEY_PASSWORD)})", use)


def _next_steps(path: Path, left_out: list[str]) -> str:
    lines = [f"Created {path}; only you can read it.", "", "Next:"]
    lines += [f"  set the environment variable {_variable(name)}" for name in left_out]
    found = [place.absolute() for place in default_paths()]
    option = "" if path in found else f"--settings {path} "
    return "\n".join([*lines, f"  nel-mesh {option}check"])


def _variable(name: str) -> str:
    return f"MESH_{name.upper()}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The content of a settings file. Secrets that are None are left to the environment."""

    mailbox_id: str
    url: str
    roots: tuple[str, ...] = ()
    intermediates: tuple[str, ...] = ()
    certificate: str | None = None
    key: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    shared_key: str | None = dataclasses.field(default=None, repr=False)
    key_password: str | None = dataclasses.field(default=None, repr=False)
    needs_key_password: bool = False


def settings_text(answers: Answers) -> str:
    """The settings file as TOML, each setting with a comment on its meaning and source."""
    return "\n\n".join(_paragraphs(answers)) + "\n"


def toml_string(text: str) -> str:
    """Quote a text for TOML."""
    # JSON's escapes are TOML's as well; JSON lets DEL through, which TOML does not.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _paragraphs(answers: Answers) -> list[str]:
    return [
        "# Settings for NHS MESH, created by `nel-mesh init`. All settings: docs/settings.md.\n"
        "# Environment variables (MESH_MAILBOX_ID) win over this file. `nel-mesh check` tries the settings.",
        f"# The mailbox, as NHS England issued it.\nmailbox_id = {toml_string(answers.mailbox_id)}",
        "# The environment, integration, deployment or production; or a server's address.\n"
        f"url = {toml_string(answers.url)}",
        _secret("The mailbox's password.", "password", answers.password),
        _secret(
            "The shared secret of the environment; it comes with the mailbox.",
            "shared_key",
            answers.shared_key,
        ),
        _list(
            "The roots to trust in the server's certificate, and no others. None: the system's.",
            "tls_root_certificates",
            answers.roots,
            "root-ca.pem",
        ),
        _list(
            "The intermediate certificates between a root and a certificate (SubCA).",
            "tls_intermediate_certificates",
            answers.intermediates,
            "sub-ca.pem",
        ),
        _one(
            "The client certificate, which NHS England issued for the request of `nel-mesh csr`.",
            "client_signing_certificate",
            answers.certificate,
            "mesh.pem",
        ),
        _one("Its private key, if it is in another file.", "client_signing_key", answers.key, "mesh.key"),
        *_key_password_paragraph(answers),
        "# Several mailboxes: one table each, which wins over the above; `nel-mesh --profile lab check`.\n"
        '# [profiles.lab]\n# mailbox_id = "X26ABC2"',
    ]


def _secret(comment: str, name: str, value: str | None) -> str:
    if value is None:
        return f"# {comment}\n# Not kept in this file: set the environment variable MESH_{name.upper()}."
    return f"# {comment}\n{name} = {toml_string(value)}"


def _key_password_paragraph(answers: Answers) -> list[str]:
    name = "client_signing_certificate_password"
    if not answers.needs_key_password and answers.key_password is None:
        return []
    return [_secret("The password of the private key, or of the PKCS#12 file.", name, answers.key_password)]


def _list(comment: str, name: str, values: tuple[str, ...], example: str) -> str:
    if not values:
        return f"# {comment}\n# {name} = [{toml_string(example)}]"
    return f"# {comment}\n{name} = [{', '.join(map(toml_string, values))}]"


def _one(comment: str, name: str, value: str | None, example: str) -> str:
    return f"# {comment}\n{'# ' if value is None else ''}{name} = {toml_string(value or example)}"
