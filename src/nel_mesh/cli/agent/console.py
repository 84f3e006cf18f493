"""Serve the console, and manage who may use it."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.agent.app import ConfigOption, ReasonOption, app, configuration_in_use, open_ledger_of, person
from nel_mesh.cli.app import Command
from nel_mesh.cli.failures import CommandFailed, missing_extra
from nel_mesh.cli.session import SIGNAL_WAIT_SECONDS, Session, session_of
from nel_mesh.errors import InvalidArgument

if TYPE_CHECKING:
    from nel_mesh.agent.configuration import AgentConfiguration
    from nel_mesh.console.accounts import Accounts

_ACTIONS = ("add", "list", "change", "disable", "enable", "reset")
_ROLES = ("viewer", "operator", "administrator", "auditor")


@app.command(cls=Command)
def console(
    ctx: typer.Context,
    what: Annotated[str | None, typer.Argument(metavar="user", help="`user`: manage who may use it.")] = None,
    action: Annotated[
        str | None, typer.Argument(metavar="ACTION", help="add, list, change, disable, enable or reset, after `user`.")
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The user's name.")] = None,
    config: ConfigOption = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="ADDRESS", help="Address and port. Default: the configuration's, or 127.0.0.1:8480."
        ),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="Of `user add` and `user change`: viewer, operator, administrator or auditor. Default: viewer.",
        ),
    ] = None,
    openid: Annotated[
        bool, typer.Option("--openid", help="Of `user add`: logs in by OpenID Connect, and has no password here.")
    ] = False,
    content: Annotated[
        bool | None,
        typer.Option(
            "--content/--no-content",
            help="Of `user add` and `user change`: may see the content of messages; each look is recorded.",
        ),
    ] = None,
    reason: ReasonOption = "",
) -> None:
    """Serve the console: what needs a person now, in the browser.

    It has no account at first. A password is asked for on the terminal, or read from the first line of the input. The
    secret of the second factor is shown once, for an authenticator. `reset` gives both again.

    \b
    Examples:
      nel-mesh agent console
      nel-mesh agent console --listen 127.0.0.1:9000
      nel-mesh agent console user add ann --role operator
      nel-mesh agent console user add bob --role viewer --openid
      nel-mesh agent console user list
      nel-mesh agent console user change ann --role administrator
      nel-mesh agent console user disable ann
    """
    session = session_of(ctx)
    if what is None:
        _serve(session, configuration_in_use(config), listen)
        return
    if what != "user" or action not in _ACTIONS:
        raise typer.BadParameter(f"expected `user`, and one of {', '.join(_ACTIONS)}")
    if role is not None and role not in _ROLES:
        raise InvalidArgument(f"--role: expected one of {', '.join(_ROLES)}, not {role}")
    with console_extra():
        from nel_mesh.console.accounts import Accounts
    with open_ledger_of(config) as ledger:
        accounts = Accounts(ledger)
        if action == "list":
            _list(session, accounts)
        elif name is None:
            raise InvalidArgument(f"NAME is needed: whom to {action}")
        else:
            _manage(session, accounts, action, name, role, content=content, openid=openid, reason=reason)


def _manage(
    session: Session,
    accounts: Accounts,
    action: str,
    name: str,
    role: str | None,
    *,
    content: bool | None,
    openid: bool,
    reason: str,
) -> None:
    from nel_mesh.console.accounts import check_password, factor_address
    from nel_mesh.console.roles import Role

    if action in ("disable", "enable"):
        change: Callable[..., None] = accounts.disable if action == "disable" else accounts.enable
        change(name, actor=person(), reason=reason)
        session.out.result({"name": name, "enabled": action == "enable"}, f"{name} is {action}d.")
        return
    if action == "change":
        if role is None and content is None:
            raise InvalidArgument("give --role, --content or --no-content: what is to change")
        given = Role(role) if role is not None else None
        accounts.change(name, role=given, sees_content=content, actor=person(), reason=reason)
        session.out.result({"name": name, "role": role, "sees_content": content}, f"{name} is changed.")
        return
    wanted, sees_content = Role(role or Role.VIEWER), bool(content)
    if action == "add" and openid:
        accounts.add(name, wanted, None, sees_content=sees_content, actor=person())
        session.out.result({"name": name}, f"{name} can log in by OpenID Connect.", brief=name)
        return
    password = _password(lambda typed: check_password(typed, name))
    if action == "add":
        secret = accounts.add(name, wanted, password, sees_content=sees_content, actor=person())
    else:
        secret = accounts.reset(name, password, actor=person())
    address = factor_address(name, secret)
    text = f"{name} can log in. The second factor, shown this once; type it into an authenticator:\n{secret}\n{address}"
    session.out.result({"name": name, "secret": secret, "address": address}, text, brief=secret)


def _list(session: Session, accounts: Accounts) -> None:
    rows = [
        {
            "name": user.name,
            "role": str(user.role),
            "sees_content": user.sees_content,
            "last_login_at": user.last_login_at,
            "disabled_at": user.disabled_at,
        }
        for user in accounts.all()
    ]
    columns = {
        "name": "Name",
        "role": "Role",
        "sees_content": "Sees content",
        "last_login_at": "Last login",
        "disabled_at": "Disabled",
    }
    session.out.table(rows, columns, empty="There is none yet: nel-mesh agent console user add NAME")


def _password(check: Callable[[str], None]) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        typed = (sys.stdin.readline() if sys.stdin is not None else "").rstrip("\r\n")
        if not typed:
            raise InvalidArgument("a password is needed: type it on a terminal, or give it as the input's first line")
        check(typed)
        return typed
    while True:
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        try:
            check(asked)
        except InvalidArgument as error:
            typer.echo(f"  {error.reason}", err=True)
        else:
            return asked


def _serve(session: Session, configuration: AgentConfiguration, listen: str | None) -> None:
    # Not an Event: the handler would wait for its lock, if it interrupts this thread while it has it.
    signals: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with served_console(session, lambda: configuration, listen):
            while not signals:
                time.sleep(SIGNAL_WAIT_SECONDS)
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
    session.out.note("The console has ended.")


@contextlib.contextmanager
def served_console(
    session: Session, configuration: Callable[[], AgentConfiguration], listen: str | None
) -> Iterator[None]:
    """Serve the console while the block runs, and say where."""
    with console_extra():
        from nel_mesh.console.serving import DEFAULT_ADDRESS, console_served
    address = listen or configuration().agent.console or DEFAULT_ADDRESS
    with console_served(_checked(address), configuration) as url:
        session.out.result({"url": url}, f"The console is at {url}", brief=url)
        yield


def _checked(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidArgument(f"--listen: expected an address and a port, such as 127.0.0.1:8480, not {address}")
    return address


@contextlib.contextmanager
def console_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise CommandFailed(missing_extra("console")) from error
