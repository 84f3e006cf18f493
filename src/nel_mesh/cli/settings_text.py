"""A settings file for people to read: TOML, each setting with what it is and where it comes from."""

from __future__ import annotations

import dataclasses
import json


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What goes into a settings file. Secrets that are None are left to the environment."""

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
    """The file's text."""
    return "\n\n".join(_paragraphs(answers)) + "\n"


def toml_string(text: str) -> str:
    """Text as TOML has it between quotation marks."""
    # JSON's escapes are TOML's as well; JSON lets DEL through, which TOML does not.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _paragraphs(answers: Answers) -> list[str]:
    return [
        "# Settings for NHS MESH, made by `nel-mesh init`. What else there is: docs/settings.md.\n"
        "# Environment variables win over this file: MESH_MAILBOX_ID and so on. `nel-mesh check` tries all of it.",
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
            "The authorities to trust in the server's certificate: these and no others. None: the system's.",
            "tls_root_certificates",
            answers.roots,
            "root-ca.pem",
        ),
        _list(
            "The authorities between a root and a certificate (NHS England calls it SubCA).",
            "tls_intermediate_certificates",
            answers.intermediates,
            "sub-ca.pem",
        ),
        _one(
            "The certificate by which MESH knows you: what came back for the request of `nel-mesh csr`.",
            "client_signing_certificate",
            answers.certificate,
            "mesh.pem",
        ),
        _one("Its private key, where that is not in the same file.", "client_signing_key", answers.key, "mesh.key"),
        *_key_password(answers),
        "# Several mailboxes: a table for each, whose settings win over those above; `nel-mesh --profile lab check`.\n"
        '# [profiles.lab]\n# mailbox_id = "X26ABC2"',
    ]


def _secret(comment: str, name: str, value: str | None) -> str:
    if value is None:
        return f"# {comment}\n# Not kept in this file: set the environment variable MESH_{name.upper()}."
    return f"# {comment}\n{name} = {toml_string(value)}"


def _key_password(answers: Answers) -> list[str]:
    name = "client_signing_certificate_password"
    if not answers.needs_key_password and answers.key_password is None:
        return []
    return [_secret("What the private key, or the PKCS#12 file, is encrypted with.", name, answers.key_password)]


def _list(comment: str, name: str, values: tuple[str, ...], example: str) -> str:
    if not values:
        return f"# {comment}\n# {name} = [{toml_string(example)}]"
    return f"# {comment}\n{name} = [{', '.join(map(toml_string, values))}]"


def _one(comment: str, name: str, value: str | None, example: str) -> str:
    return f"# {comment}\n{'# ' if value is None else ''}{name} = {toml_string(value or example)}"
