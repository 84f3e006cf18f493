"""`nel-mesh sandbox serve`: a MESH server on this machine, to develop and test against."""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.failures import CommandFailed, missing_extra
from nel_mesh.cli.session import Session, session_of
from nel_mesh.io.signals import told_to_stop

if TYPE_CHECKING:
    from nel_mesh.sandbox import Mailbox, Sandbox, SandboxConfiguration

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _sandbox() -> None:
    """A MESH server on this machine, for development.

    \b
    Example:
      nel-mesh sandbox serve --settings-folder mesh-settings
    """


@app.command()
def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8700,
    mailboxes: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", metavar="ID[:ODS]", help="A mailbox, in place of the three default ones; repeatable."
        ),
    ] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="No TLS.")] = False,
    data_folder: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to keep bodies while it runs.")] = None,
    settings_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a settings file for each mailbox, for its owner only.")
    ] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="FAULT",
            help="What is to go wrong: OPERATION:WHICH:EFFECT[=VALUE][,NAME=VALUE...], WHICH a number or * for every; "
            "repeatable.",
        ),
    ] = None,
    fault_files: Annotated[
        list[Path] | None, typer.Option("--faults", metavar="FILE", help="A JSON or TOML file of faults; repeatable.")
    ] = None,
    inbox_life_in_seconds: Annotated[
        float, typer.Option("--inbox-life", metavar="SECONDS", min=1, help="How long a message waits.")
    ] = 5 * 24 * 3600.0,
) -> None:
    """Serves MESH on this machine until it is told to stop.

    Strict, with mutual TLS; certificates are made at each start. For invented data only. It prints settings for the
    first mailbox as environment variables, or the settings files that it wrote.

    \b
    Examples:
      nel-mesh sandbox serve --settings-folder mesh-settings
      nel-mesh sandbox serve --mailbox LAB01 --fault send_message:2:lose-answer
    """
    session = session_of(ctx)
    try:
        from nel_mesh.sandbox import DEFAULT_MAILBOXES, Fault, Sandbox, SandboxConfiguration
        from nel_mesh.sandbox.faults import faults_from_file
    except ImportError as error:
        raise CommandFailed(missing_extra("sandbox")) from error
    try:
        configuration = SandboxConfiguration(
            mailboxes=tuple(map(_mailbox, mailboxes or ())) or DEFAULT_MAILBOXES,
            host=host,
            port=port,
            tls=not plain_http,
            data_folder=data_folder,
            faults=(
                *(fault for path in fault_files or () for fault in faults_from_file(path)),
                *map(Fault.parse, faults or ()),
            ),
            inbox_life=timedelta(seconds=inbox_life_in_seconds),
        )
        server = Sandbox(configuration)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    _serve(session, server, configuration, settings_folder)


def _mailbox(text: str) -> Mailbox:
    from nel_mesh.sandbox import Mailbox

    mailbox_id, _, ods_code = text.partition(":")
    return Mailbox(mailbox_id=mailbox_id, ods_code=ods_code or "X26")


def _serve(
    session: Session, server: Sandbox, configuration: SandboxConfiguration, settings_folder: Path | None
) -> None:
    try:
        with told_to_stop() as wait, server:
            written = server.write_settings(settings_folder) if settings_folder else []
            _greet(session, server, written)
            wait()
    except OSError as error:
        if error.filename is None and error.strerror:
            error.filename = f"{configuration.host} port {configuration.port}"
        raise
    session.out.note("Stopped.")


def _greet(session: Session, server: Sandbox, written: list[Path]) -> None:
    from nel_mesh.sandbox.client_settings import in_a_shell

    first = server.mailbox_ids[0]
    lines = [f"MESH sandbox at {server.url}", f"Mailboxes: {', '.join(server.mailbox_ids)}", ""]
    if written:
        lines += ["Settings:", *(f"  {path}" for path in written), ""]
        lines.append(f"Try: nel-mesh --settings {shlex.quote(str(written[0]))} handshake")
    else:
        lines.append(f"Settings for {first} (--settings-folder writes them for every mailbox):")
        lines += in_a_shell(server.environment(first))
    if server.faults:
        lines += ["", "Faults:", *(f"  {fault}" for fault in server.faults)]
    session.out.result(
        {
            "url": server.url,
            "mailboxes": list(server.mailbox_ids),
            "settings": [str(path) for path in written],
            "environment": {} if written else server.environment(first),
            "faults": [str(fault) for fault in server.faults],
        },
        "\n".join([*lines, "", "Ctrl-C stops it."]),
        brief=server.url,
    )
