"""`nel-mesh sandbox serve`: a MESH server on this machine, to develop and test against."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.app import Command, Group
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.failures import CommandFailed, missing_extra, simple
from nel_mesh.cli.session import SIGNAL_WAIT_SECONDS, VARIABLE, Session, session_of

if TYPE_CHECKING:
    from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox, Workflow

app = typer.Typer(cls=Group, add_completion=False, rich_markup_mode=None)


@app.callback()
def _sandbox() -> None:
    """Run a MESH server on this machine.

    \b
    Example:
      nel-mesh sandbox serve --settings-folder mesh-settings
    """


@app.command(cls=Command, context_settings={"auto_envvar_prefix": "NEL_MESH_SANDBOX"})
def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", min=0, max=65535, help="Port; 0 takes a free one.")] = 8700,
    mailboxes: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox",
            metavar="ID[:ODS[:PASSWORD]]",
            help="A mailbox, in place of the three default ones; repeatable.",
        ),
    ] = None,
    mailboxes_file: Annotated[
        Path | None,
        typer.Option("--mailboxes", metavar="FILE", help="Mailboxes, as the official sandbox's mailboxes.jsonl."),
    ] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Serve without TLS.")] = False,
    no_client_certificates: Annotated[
        bool, typer.Option("--no-client-certificates", help="TLS for clients without a certificate too.")
    ] = False,
    data_folder: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Keep messages, certificates and settings files in this folder."),
    ] = None,
    server_names: Annotated[
        list[str] | None,
        typer.Option("--server-name", metavar="NAME", help="A further name for the server's certificate; repeatable."),
    ] = None,
    settings_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a settings file for each mailbox, readable by you alone.")
    ] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="FAULT",
            help="A fault to inject: OPERATION:WHICH:EFFECT[=VALUE][,NAME=VALUE...], WHICH a number or * for every; "
            "repeatable.",
        ),
    ] = None,
    inbox_life_in_seconds: Annotated[
        float,
        typer.Option(
            "--inbox-life",
            metavar="SECONDS",
            min=1,
            show_default=False,
            help="How long a message waits in an inbox. Default: 5 days.",
        ),
    ] = 5 * 24 * 3600.0,
    compress_downloads: Annotated[
        bool, typer.Option("--compress-downloads", help="Gzip plain content for receivers that accept it.")
    ] = False,
    shared_key: Annotated[str, typer.Option(metavar="KEY", help="The shared key, an invented one.")] = "TestKey",
    workflows: Annotated[
        list[str] | None,
        typer.Option(
            "--workflow",
            metavar="ID[:TO,...[:FROM,...]]",
            help="A workflow with its recipients and senders, all mailboxes by default; other workflow ids are then "
            "refused. Repeatable.",
        ),
    ] = None,
    workflows_file: Annotated[
        Path | None,
        typer.Option("--workflows", metavar="FILE", help="Workflows, as the official sandbox's workflows.jsonl."),
    ] = None,
    no_enforce_workflows: Annotated[
        bool, typer.Option("--no-enforce-workflows", help="Use workflows for look-ups alone; refuse no message.")
    ] = False,
    report_unregistered_recipients: Annotated[
        bool,
        typer.Option(
            "--report-unregistered-recipients",
            help="Send a report after a message to an unknown mailbox was refused, as the live service seems to do.",
        ),
    ] = False,
    handshake_by_get: Annotated[
        bool, typer.Option("--handshake-by-get", help="Accept a handshake by GET, as some clients send it.")
    ] = False,
    ids_in_any_case: Annotated[
        bool, typer.Option("--ids-in-any-case", help="Accept mailbox ids and message ids in lower case.")
    ] = False,
    acknowledged_readable: Annotated[
        bool, typer.Option("--acknowledged-readable", help="Serve a message again after its acknowledgement.")
    ] = False,
    rich_lists: Annotated[
        bool, typer.Option("--rich-lists", help="Serve inbox/rich and outbox/rich, as the official sandbox.")
    ] = False,
    update_check: Annotated[
        bool, typer.Option("--update-check", help="Answer the Java client's question for updates.")
    ] = False,
    control: Annotated[
        bool, typer.Option("--control", help="Serve /health and /admin to this machine, without a token.")
    ] = False,
    control_from: Annotated[
        list[str] | None,
        typer.Option(
            "--control-from",
            metavar="NETWORK",
            help="A network that gets --control too, such as 172.16.0.0/12; repeatable.",
        ),
    ] = None,
    compatible: Annotated[
        bool,
        typer.Option(
            "--compatible",
            help="Behave as the official sandbox: --control, --handshake-by-get, --no-client-certificates, "
            "--no-enforce-workflows, --ids-in-any-case, --acknowledged-readable, --rich-lists, --update-check, "
            "--compress-downloads.",
        ),
    ] = False,
    reports: Annotated[
        list[str] | None,
        typer.Option(
            "--report",
            metavar="MAILBOX[:MESSAGE-ID]",
            help="Put a report of a message that was not delivered into this inbox; repeatable.",
        ),
    ] = None,
) -> None:
    """Serve MESH until Ctrl-C or SIGTERM.

    The server is strict and uses mutual TLS, with new certificates at each start unless --data keeps them. Use it for
    invented data only. It writes a settings file for each mailbox. Without --data or --settings-folder, all is
    removed when it stops.
    Each option can also come from the environment, by the name beside it.

    \b
    Examples:
      nel-mesh sandbox serve --settings-folder mesh-settings
      nel-mesh sandbox serve --mailbox LAB01 --fault send_message:2:lose-response
      nel-mesh sandbox serve --compatible --mailboxes mailboxes.jsonl
    """
    session = session_of(ctx)
    try:
        from nel_mesh.sandbox import (
            DEFAULT_MAILBOXES,
            Sandbox,
            SandboxConfiguration,
            read_mailboxes,
            read_workflows,
        )
    except ImportError as error:
        raise CommandFailed(missing_extra("sandbox")) from error
    try:
        boxes = (*map(_mailbox, mailboxes or ()), *(read_mailboxes(mailboxes_file) if mailboxes_file else ()))
        boxes = boxes or DEFAULT_MAILBOXES
        flows = [_workflow(text, [box.mailbox_id for box in boxes]) for text in workflows or ()]
        configuration = SandboxConfiguration(
            mailboxes=boxes,
            workflows=[*flows, *(read_workflows(workflows_file) if workflows_file else ())],
            enforce_workflows=not no_enforce_workflows,
            report_unregistered_recipients=report_unregistered_recipients,
            handshake_by_get=handshake_by_get,
            ids_in_any_case=ids_in_any_case,
            acknowledged_readable=acknowledged_readable,
            rich_lists=rich_lists,
            update_check=update_check,
            control=control,
            control_from=control_from or (),
            compatible=compatible,
            compress_downloads=compress_downloads,
            shared_key=shared_key,
            host=host,
            port=port,
            tls=not plain_http,
            client_certificates=not no_client_certificates,
            data_folder=data_folder,
            server_names=server_names or (),
            faults=faults or (),
            inbox_life=timedelta(seconds=inbox_life_in_seconds),
        )
        server = Sandbox(configuration)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    known = server.mailbox_ids
    for mailbox_id, _ in map(_report, reports or ()):
        if mailbox_id not in known:
            raise typer.BadParameter(f"--report {mailbox_id}: there is no such mailbox; there are {', '.join(known)}")
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        _start(stack, server, configuration)
        kept = settings_folder or (data_folder / "settings" if data_folder else None)
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nel-mesh-sandbox-")))
        written = server.write_settings(folder)
        for mailbox_id, linked_message_id in map(_report, reports or ()):
            server.deliver_report(mailbox_id, linked_message_id=linked_message_id)
        _greet(session, server, written, kept=kept is not None)
        while True:
            time.sleep(SIGNAL_WAIT_SECONDS)
    session.out.note("Stopped.")


def _mailbox(text: str) -> SandboxMailbox:
    from nel_mesh.sandbox import SandboxMailbox

    mailbox_id, _, rest = text.partition(":")
    ods_code, _, password = rest.partition(":")
    return SandboxMailbox(mailbox_id=mailbox_id, ods_code=ods_code or "X26", password=password or "password")


def _workflow(text: str, mailbox_ids: list[str]) -> Workflow:
    from nel_mesh.sandbox import Workflow

    workflow_id, _, rest = text.partition(":")
    receivers, _, senders = rest.partition(":")
    named = [part.split(",") if part else mailbox_ids for part in (receivers, senders)]
    for mailbox_id in {*named[0], *named[1]} - {*mailbox_ids}:
        raise ValueError(f"--workflow {workflow_id}: there is no mailbox {mailbox_id!a:.40}")
    return Workflow(workflow_id=workflow_id, receivers=tuple(named[0]), senders=tuple(named[1]))


def _report(text: str) -> tuple[str, str]:
    mailbox_id, _, message_id = text.partition(":")
    return mailbox_id, message_id or "20200101000000000000_000000"


def _start(stack: contextlib.ExitStack, server: Sandbox, configuration: SandboxConfiguration) -> None:
    try:
        stack.enter_context(server)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        # Of a file, or of the folder of temporary files that is not there.
        if error.filename is not None or error.errno == errno.ENOENT:
            raise
        text = (
            f"Cannot listen on {configuration.host} port {configuration.port}: {error.strerror or error}. "
            "Stop the program that uses the port, or choose another one: `--port 0` takes a free one."
        )
        raise CommandFailed(simple(ExitCode.FILE, "cannot_listen", text)) from error


def _greet(session: Session, server: Sandbox, written: list[Path], *, kept: bool) -> None:
    first = server.mailbox_ids[0]
    lines = [f"MESH sandbox at {server.url}", f"Mailboxes: {', '.join(server.mailbox_ids)}"]
    leniencies = [
        f"--{'' if value else 'no-'}{name.replace('_', '-')}"
        for name, value in server.configuration.leniencies().items()
    ]
    lines += [f"Not strict: {', '.join(leniencies)}"] if leniencies else []
    lines.append("")
    lines.append("Settings:" if kept else "Settings, until it stops (--settings-folder keeps them):")
    lines += [f"  {path}" for path in written]
    lines += ["", f"In another terminal, as {first}:"]
    lines += [*in_a_shell({VARIABLE: str(written[0].absolute())}), "nel-mesh handshake"]
    if server.faults:
        lines += ["", "Faults:", *(f"  {fault}" for fault in server.faults)]
    session.out.result(
        {
            "url": server.url,
            "mailboxes": list(server.mailbox_ids),
            "settings": [str(path) for path in written],
            "environment": server.environment(first),
            "faults": [str(fault) for fault in server.faults],
            "leniencies": leniencies,
        },
        "\n".join([*lines, "", "Ctrl-C stops it."]),
        brief=server.url,
    )


def in_a_shell(values: dict[str, str]) -> list[str]:
    """Make the commands that set these variables, for PowerShell on Windows, else for a POSIX shell."""
    if os.name == "nt":
        return ["$env:{} = '{}'".format(name, value.replace("'", "''")) for name, value in values.items()]
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
