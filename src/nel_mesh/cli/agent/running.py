"""Run the agent, and check its configuration."""

from __future__ import annotations

import _thread
import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.agent.app import ConfigOption, agent_extra, app, configuration_in_use, configuration_of, path_of
from nel_mesh.cli.agent.console import served_console
from nel_mesh.cli.app import Command
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import Session, session_of
from nel_mesh.cli.text import local_time

if TYPE_CHECKING:
    from nel_mesh.agent.configuration import AgentConfiguration
    from nel_mesh.agent.running import Change
    from nel_mesh.agent.service import Agent


@app.command(cls=Command)
def run(
    ctx: typer.Context,
    config: ConfigOption = None,
    java_config: Annotated[
        Path | None,
        typer.Option("--java-config", metavar="FILE", help="The Java client's meshclient.cfg, in place of --config."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Send what is there, look into each inbox once, and end.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what one round would do; nothing is changed.")
    ] = False,
    console: Annotated[
        bool, typer.Option("--console", help="Serve the console too; so does `[agent] console` in the configuration.")
    ] = False,
) -> None:
    """Run the agent, until it is told to stop.

    Ctrl-C or SIGTERM end it once the messages that are under way are done, or resumable. SIGHUP loads the
    configuration again; if that has faults, the present one stays. Logs go to stderr.

    \b
    Examples:
      nel-mesh agent run
      nel-mesh agent run --config /etc/nel-mesh/agent.toml
      nel-mesh agent run --console
      nel-mesh agent run --once
      nel-mesh agent run --dry-run
      nel-mesh agent run --java-config /opt/mesh/meshclient.cfg
    """
    session = session_of(ctx)
    with agent_extra():
        from nel_mesh.agent.java.configuration import load_any, load_java
    if dry_run:
        _dry_run(session, load_java(java_config) if java_config is not None else configuration_in_use(config))
        return
    with agent_extra():
        from nel_mesh.fleet.agents import make_agent
    _log(session)
    agent = make_agent(
        java_config or path_of(config), read=load_java if java_config is not None else load_any, on_lost=_end_at_once
    )

    def ready() -> None:
        count = len(agent.configuration.mailboxes)
        session.out.note(f"The agent works on {count} mailbox{'' if count == 1 else 'es'}. Ctrl-C ends it.")

    with _signals(agent), contextlib.ExitStack() as stack:
        if not once and (console or agent.configuration.agent.console is not None):
            stack.enter_context(served_console(session, lambda: agent.configuration, None))
        agent.run(once=once, on_ready=ready)
    session.out.note("The agent has ended.")


@app.command(cls=Command)
def check(ctx: typer.Context, config: ConfigOption = None) -> None:
    """Check the configuration, and what it names.

    Every fault of the file is listed, with its line. Then folders are tried, and each mailbox is asked for a
    handshake. Exit code 14: something failed.

    \b
    Example:
      nel-mesh agent check --config agent.toml
    """
    session = session_of(ctx)
    with agent_extra():
        from nel_mesh.agent.checking import steps
    failed = False
    for step in steps(configuration_of(config)):
        failed = failed or not step.is_good
        word, style = ("ok", "32") if step.is_good else ("failed", "31")
        text = f"{word:7} {step.name}{f': {step.text}' if step.text else ''}"
        session.out.result(dataclasses.asdict(step), text, brief=text, style=style)
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command(cls=Command)
def hooks(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="test", help="Call each hook with an event of the type `test`.")],
    config: ConfigOption = None,
) -> None:
    """Try the hooks of the configuration.

    Exit code 14: one failed.

    \b
    Example:
      nel-mesh agent hooks test
    """
    session = session_of(ctx)
    if action != "test":
        raise typer.BadParameter(f"expected test, not {action}")
    configuration = configuration_in_use(config)
    from nel_mesh.agent.hooks import try_all

    tried = try_all(configuration)
    for one in tried:
        word, style = ("ok", "32") if one.is_good else ("failed", "31")
        text = f"{word:7} {one.hook}: {one.text}"
        session.out.result(dataclasses.asdict(one), text, brief=text, style=style)
    if not tried:
        session.out.note("The configuration has no hooks.")
    if not all(one.is_good for one in tried):
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command(cls=Command)
def diff(ctx: typer.Context, config: ConfigOption = None) -> None:
    """Compare the configuration in use with the file.

    The agent writes into its data folder what it works by. Passwords are not in it: a file with them, or a
    certificate, counts as changed when it is another version than was loaded. Exit code 14: something differs.

    \b
    Example:
      nel-mesh agent diff
    """
    session = session_of(ctx)
    configuration = configuration_in_use(config)
    from nel_mesh.agent.running import compare

    found = compare(configuration)
    who = "The agent works" if found.is_running else "No agent is running; the last one worked"
    session.out.note(f"{who} by what was loaded at {local_time(found.loaded_at)}.")
    show_changes(session, found.changes)
    if not found.changes:
        session.out.note("The file says the same.")
        return
    session.out.note("Try it with `nel-mesh agent check`; then SIGHUP has it loaded.")
    raise typer.Exit(ExitCode.CHECK_FAILED)


def show_changes(session: Session, changes: Sequence[Change]) -> None:
    """Show what differs between two configurations."""
    for change in changes:
        before, after = ("(not shown)", "(not shown)") if change.is_private else (change.before, change.after)
        record = {"name": change.name, "before": before, "after": after, "needs_restart": change.needs_restart}
        when = " (takes a restart)" if change.needs_restart else ""
        text = f"{change.name}{when}\n  - {_value(before)}\n  + {_value(after)}"
        session.out.result(record, text, brief=change.name)


def _value(value: object) -> str:
    return "(not set)" if value is None else str(value)


def _dry_run(session: Session, configuration: AgentConfiguration) -> None:
    from nel_mesh.agent.dry_run import plan_of

    count = 0
    failed = False
    for one in plan_of(configuration):
        count += 1
        failed = failed or one.action == "fail"
        what = one.message_id or (f"a file in {one.folder}" if one.folder else "")
        more = " and ".join(one.places) or one.text
        text = f"{one.mailbox_id}: {one.action} {what}{f': {more}' if more else ''}"
        session.out.result(dataclasses.asdict(one), text, brief=text)
    if not count:
        session.out.note("There is nothing to do.")
    session.out.note("This was a dry run: nothing was changed.")
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _end_at_once(reason: str) -> None:
    """End this process: another one has its work, and it must not go on with any of it."""
    print(f"Ended: {reason}. Its supervisor starts it again.", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(ExitCode.TRY_LATER)


@contextlib.contextmanager
def _signals(agent: Agent) -> Iterator[None]:
    """Stop the agent on SIGINT and SIGTERM, hard after its time limit; load its configuration again on SIGHUP."""
    limit = agent.configuration.agent.stop_within_in_seconds

    # In threads of their own, and not by `threading`: a handler may interrupt the main thread while that has the very
    # lock which `stop` and `reload` wait for.
    def stop(number: int, frame: object) -> None:
        _thread.start_new_thread(_end_after, (limit, 128 + number))
        _thread.start_new_thread(agent.stop, ())

    def reload(number: int, frame: object) -> None:
        _thread.start_new_thread(agent.reload, ())

    names = {"SIGINT": stop, "SIGTERM": stop, "SIGBREAK": stop, "SIGHUP": reload}
    before = {}
    for name, handler in names.items():
        if hasattr(signal, name):
            number = getattr(signal, name)
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _end_after(seconds: float, code: int) -> None:
    """End this process, if it has not ended by then. What is cut off is resumed by the next agent, as after a kill."""
    time.sleep(seconds)
    os._exit(code)


def _log(session: Session) -> None:
    import logging

    logger = logging.getLogger("nel_mesh")
    if session.quiet or any(type(handler) is logging.StreamHandler for handler in logger.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
