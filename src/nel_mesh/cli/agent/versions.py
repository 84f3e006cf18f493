"""Keep the configuration in the ledger, in versions that all agents of a fleet take."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nel_mesh.cli.agent.app import ConfigOption, ReasonOption, agent_extra, app, open_ledger_of, path_of, person
from nel_mesh.cli.agent.running import show_changes
from nel_mesh.cli.app import Command
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import Session, session_of
from nel_mesh.errors import InvalidArgument

if TYPE_CHECKING:
    from nel_mesh.ledger.configurations import LedgerConfiguration
    from nel_mesh.ledger.ledger import Ledger

_ACTIONS = ("push", "diff", "history", "rollback")
_HISTORY = 100


@app.command(cls=Command)
def config(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="push, diff, history or rollback.")],
    what: Annotated[
        str | None,
        typer.Argument(metavar="WHAT", help="Of push and diff: a file, default: --config. Of rollback: a version."),
    ] = None,
    config: ConfigOption = None,
    reason: ReasonOption = "",
) -> None:
    """Keep the configuration in the ledger, with versions.

    From the first push on, all agents of the ledger work by the newest version. `[agent]` and `[console]` are not in
    it: they stay in each machine's own file. `push` checks as `agent check` checks a file, and
    refuses secrets in clear. `diff` compares the newest version with a file; exit code 14: something differs.
    `rollback` makes a new version of an earlier one.

    \b
    Examples:
      nel-mesh agent config push agent.toml --reason "a folder for reports"
      nel-mesh agent config diff
      nel-mesh agent config history
      nel-mesh agent config rollback 3 --reason "the folder was not there"
    """
    session = session_of(ctx)
    if action not in _ACTIONS:
        raise InvalidArgument(f"ACTION: expected one of {', '.join(_ACTIONS)}, not {action}")
    path = path_of(config)
    with agent_extra():
        from nel_mesh.agent.versions import check_kind
    check_kind(path)
    with open_ledger_of(config) as ledger:
        match action:
            case "push":
                _push(session, ledger, path, Path(what) if what else path, reason)
            case "diff":
                _diff(session, ledger, path, Path(what) if what else path)
            case "history":
                _history(session, ledger)
            case _:
                _rollback(session, ledger, path, what, reason)


def _push(session: Session, ledger: Ledger, path: Path, file: Path, reason: str) -> None:
    from nel_mesh.agent.configuration import read_text
    from nel_mesh.agent.versions import check

    shared = check(read_text(file), path, file.name)
    newest = ledger.configurations.newest()
    if newest is not None and newest.content == shared:
        _say(session, newest, f"Version {newest.number} says the same already.", is_new=False)
        return
    version = ledger.configurations.add(shared, author=person(), reason=reason or "no reason given")
    _say(session, version, f"Version {version.number} is in the ledger; the agents take it within seconds.")


def _rollback(session: Session, ledger: Ledger, path: Path, what: str | None, reason: str) -> None:
    from nel_mesh.agent.versions import check

    if what is None or not what.isdecimal():
        raise InvalidArgument("rollback: give the number of a version; `nel-mesh agent config history` lists them")
    earlier = ledger.configurations.get(int(what))
    newest = ledger.configurations.newest()
    if newest is not None and newest.content == earlier.content:
        _say(session, newest, f"Version {newest.number} says the same already.", is_new=False)
        return
    shared = check(earlier.content, path, f"version {earlier.number}")
    version = ledger.configurations.add(
        shared, author=person(), reason=reason or f"back to version {earlier.number}", restores=earlier.number
    )
    _say(session, version, f"Version {version.number} says what version {earlier.number} said.")


def _history(session: Session, ledger: Ledger) -> None:
    users: dict[int | None, list[str]] = {}
    for node in ledger.nodes.all():
        if node.ended_at is None:
            users.setdefault(node.configuration, []).append(node.name)
    rows = [
        {**_record(version), "nodes": users.get(version.number, [])} for version in ledger.configurations.all(_HISTORY)
    ]
    session.out.table(
        rows,
        {
            "number": "Version",
            "created_at": "Since",
            "author": "Author",
            "reason": "Reason",
            "sha256": "SHA-256",
            "nodes": "Used by",
        },
        empty="The ledger has no configuration: each agent works by its own file.",
    )


def _diff(session: Session, ledger: Ledger, path: Path, file: Path) -> None:
    from nel_mesh.agent.configuration import read_text
    from nel_mesh.agent.running import Change, differences
    from nel_mesh.agent.versions import in_use, parse_shared, shared_part

    newest = ledger.configurations.newest()
    if newest is None:
        raise InvalidArgument("the ledger has no configuration yet; `nel-mesh agent config push` makes the first")
    shared = shared_part(read_text(file), file.name).strip() + "\n"
    changes = differences(in_use(path, newest), parse_shared(shared, path, file.name))
    if not changes and shared != newest.content:
        changes = [Change("the text", f"version {newest.number}", "other comments, or secrets, that are not shown")]
    show_changes(session, changes)
    if not changes:
        session.out.note(f"{file} says the same as version {newest.number}.")
        return
    session.out.note(
        f"`-` is version {newest.number}, `+` is {file}; `nel-mesh agent config push` makes it the newest."
    )
    raise typer.Exit(ExitCode.CHECK_FAILED)


def _record(version: LedgerConfiguration) -> dict[str, Any]:
    record = dataclasses.asdict(version)
    del record["content"]
    return record


def _say(session: Session, version: LedgerConfiguration, text: str, *, is_new: bool = True) -> None:
    session.out.result({**_record(version), "is_new": is_new}, text, brief=str(version.number))
