"""Answers for `init` and `csr`: from options, or else asked for at the terminal, and checked so that they will load."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer

from nel_mesh.errors import ConfigurationError, InvalidArgument
from nel_mesh.settings import ENVIRONMENTS, MeshSettings, SettingsKeywords
from nel_mesh.tls import Contents, Unreadable, WrongPassword, read

_T = TypeVar("_T")


class Asker:
    """Asks for what the options left open, if there is a terminal.

    Args:
        json: the output is for a program, which cannot answer.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.can_ask = not json and sys.stdin is not None and sys.stdin.isatty()
        """Whether there is a terminal to ask at."""

    def required(
        self,
        option: str,
        given: str | None,
        question: str,
        use: Callable[[str], _T],
        *,
        default: str | None = None,
    ) -> _T:
        """Return an answer that is required.

        Args:
            option: the option that gives it, such as `--mailbox-id`.
            given: the option's value.
            question: the prompt.
            use: converts the text, or raises InvalidArgument; then the question is asked again.
            default: the meaning of an empty answer.

        Raises InvalidArgument if there is no answer and no terminal, or if the option cannot be used.
        """
        if given is not None:
            try:
                return use(given)
            except InvalidArgument as error:
                raise InvalidArgument(f"{option}: {error.reason}") from None
        if not self.can_ask:
            raise InvalidArgument(f"{option} is needed: there is no terminal to ask at")
        return self._ask(
            lambda: str(typer.prompt(question, default=default, show_default=bool(default), err=True)), use
        )

    def optional(self, option: str, given: str | None, question: str, use: Callable[[str], _T]) -> _T | None:
        """As `required`, but None for an empty answer, or where there is no terminal."""
        if given is None and not self.can_ask:
            return None

        def use_or_none(text: str) -> _T | None:
            return use(text) if text.strip() else None

        return self.required(option, given, f"{question} [none]", use_or_none, default="")

    def secret(self, question: str, use: Callable[[str], str], *, twice: bool = False) -> str | None:
        """Ask for a secret without showing it; None for an empty answer, or where there is no terminal."""
        if not self.can_ask:
            return None

        def ask() -> str:
            typed: str = typer.prompt(
                question, default="", show_default=False, hide_input=True, confirmation_prompt=twice, err=True
            )
            return typed

        return self._ask(ask, lambda text: use(text) if text else None)

    def _ask(self, ask: Callable[[], str], use: Callable[[str], _T]) -> _T:
        while True:
            try:
                return use(ask())
            except InvalidArgument as error:
                typer.echo(f"  {error.reason}", err=True)


@dataclasses.dataclass(frozen=True, slots=True)
class IdentityFile:
    """A file with a certificate, a key, or both.

    Attributes:
        path: absolute, since settings are used from any working directory.
        has_key: whether the private key is in it.
        is_encrypted: whether reading it takes a password.
    """

    path: str
    has_key: bool
    is_encrypted: bool

    def opens_with(self, password: str) -> bool:
        """Whether that is its password."""
        try:
            read(self.path, password)
        except Unreadable:
            return False
        return True


def settings_file(path: Path) -> Path:
    """The path for the settings, absolute. Raises InvalidArgument for a name that would not be read as TOML."""
    if path.suffix.lower() == ".json":
        raise InvalidArgument("--output: the file is TOML; give it a name that ends in .toml")
    return path.expanduser().absolute()


def mailbox_id(text: str) -> str:
    """A mailbox id. Raises InvalidArgument."""
    _check("mailbox_id", {"mailbox_id": text})
    return text.strip().upper()


def environment(text: str) -> str:
    """An environment's name. Raises InvalidArgument."""
    if text.strip().casefold() not in ENVIRONMENTS:
        raise InvalidArgument(f"one of {', '.join(ENVIRONMENTS)} is needed; for another address use --url")
    return text.strip().casefold()


def url(text: str) -> str:
    """An environment's name, or an address. Raises InvalidArgument."""
    _check("url", {"url": text})
    return text.strip()


def secret(text: str) -> str:
    """A password or another secret. Raises InvalidArgument."""
    _check("password", {"password": text})
    return text


def authority_file(text: str) -> str:
    """A file with an authority's certificate. Raises InvalidArgument."""
    path = _absolute(text)
    try:
        found = read(path)
    except Unreadable as problem:
        raise InvalidArgument(str(problem)) from None
    if not found.certificates:
        raise InvalidArgument(f"there is no certificate in {path}, only a private key")
    return path


def certificate_file(text: str) -> IdentityFile:
    """A file with the client certificate, perhaps with its key. Raises InvalidArgument."""
    path = _absolute(text)
    found = _contents(path)
    if found is None:
        # Only a key, or a PKCS#12 file, which holds one, is ever encrypted.
        return IdentityFile(path, has_key=True, is_encrypted=True)
    if not found.certificates:
        raise InvalidArgument(f"there is no certificate in {path}, only a private key")
    return IdentityFile(path, has_key=bool(found.keys), is_encrypted=False)


def key_file(text: str) -> IdentityFile:
    """A file with the client certificate's private key. Raises InvalidArgument."""
    path = _absolute(text)
    found = _contents(path)
    if found is not None and not found.keys:
        raise InvalidArgument(f"there is no private key in {path}")
    return IdentityFile(path, has_key=True, is_encrypted=found is None)


def _contents(path: str) -> Contents | None:
    """The contents of a file of certificates and keys; None if it is encrypted."""
    try:
        return read(path)
    except WrongPassword:
        return None
    except Unreadable as problem:
        raise InvalidArgument(str(problem)) from None


def _absolute(text: str) -> str:
    return str(Path(text.strip()).expanduser().absolute())


def _check(name: str, given: SettingsKeywords) -> None:
    """Raises InvalidArgument with the fault that MeshSettings finds in a value."""
    sound: SettingsKeywords = {"mailbox_id": "X", "url": "integration", "password": "-", "shared_key": "-"}
    try:
        MeshSettings(**(sound | given))
    except ConfigurationError as error:
        # The environment's faults are not this answer's.
        for fault in error.faults:
            if fault.setting == name:
                raise InvalidArgument(fault.message) from None
