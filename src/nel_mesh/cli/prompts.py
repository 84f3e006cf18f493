"""Answers from options, or else from whoever sits at the terminal; where nobody does, nobody is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import typer

from nel_mesh.errors import InvalidArgument

_T = TypeVar("_T")


class Asker:
    """Asks for what the options left open.

    Args:
        json: the output is for a program, which cannot answer.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.can_ask = not json and sys.stdin is not None and sys.stdin.isatty()
        """Whether there is somebody to ask."""

    def required(
        self,
        option: str,
        given: str | None,
        question: str,
        use: Callable[[str], _T],
        *,
        default: str | None = None,
    ) -> _T:
        """An answer that must be there.

        Args:
            option: the option that gives it, such as `--mailbox-id`.
            given: what the option gave.
            question: what to ask.
            use: makes of the text what it stands for, or raises InvalidArgument; then it is asked for again.
            default: what an empty answer means.

        Raises InvalidArgument if it is not there and nobody can be asked, or if the option cannot be used.
        """
        if given is not None:
            try:
                return use(given)
            except InvalidArgument as error:
                raise InvalidArgument(f"{option}: {error.reason}") from None
        if not self.can_ask:
            raise InvalidArgument(f"{option} is needed: there is no terminal at which to ask for it")
        while True:
            try:
                return use(typer.prompt(question, default=default, show_default=bool(default), err=True))
            except InvalidArgument as error:
                typer.echo(f"  {error.reason}", err=True)

    def optional(self, option: str, given: str | None, question: str, use: Callable[[str], _T]) -> _T | None:
        """As `required`, but it may be left out: by an empty answer, or where nobody can be asked."""
        if given is None and not self.can_ask:
            return None

        def use_or_none(text: str) -> _T | None:
            return use(text) if text.strip() else None

        return self.required(option, given, f"{question} [none]", use_or_none, default="")

    def secret(self, question: str, *, twice: bool = False) -> str | None:
        """A secret, typed unseen; None if nothing was typed, or nobody can be asked."""
        if not self.can_ask:
            return None
        typed: str = typer.prompt(
            question, default="", show_default=False, hide_input=True, confirmation_prompt=twice, err=True
        )
        return typed or None
