"""Write a configuration of the agent: a new one, or that of a Java client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nel_mesh.cli.agent.app import ConfigOption, agent_extra, app, path_of
from nel_mesh.cli.app import Command
from nel_mesh.cli.session import session_of


@app.command(cls=Command)
def init(
    ctx: typer.Context,
    config: ConfigOption = None,
    settings: Annotated[
        str | None, typer.Option("--mailbox-settings", metavar="FILE", help="Settings file of the mailbox.")
    ] = None,
    into: Annotated[str | None, typer.Option(metavar="PLACE", help="Folder or URL of received messages.")] = None,
    outgoing: Annotated[str | None, typer.Option("--from", metavar="DIR", help="Folder of files to be sent.")] = None,
    to: Annotated[str | None, typer.Option(metavar="MAILBOX", help="Recipient of those files.")] = None,
    workflow_id: Annotated[
        str | None, typer.Option("--workflow-id", metavar="ID", help="Workflow id of those files.")
    ] = None,
) -> None:
    """Create a configuration for one mailbox, and ask for what no option gives.

    Without a terminal it asks nothing. An existing file is not replaced.

    \b
    Examples:
      nel-mesh agent init
      nel-mesh agent init --mailbox-settings mesh.toml --into in
    """
    from nel_mesh.check.private_files import already_exists, write_private
    from nel_mesh.cli import prompts
    from nel_mesh.settings import MeshSettings

    session = session_of(ctx)
    path = path_of(config)
    if path.exists():
        raise already_exists(path, "or name another with --config")
    asker = prompts.Asker(json=session.json)
    file = asker.required("--mailbox-settings", settings, "Settings file of the mailbox", Path, default="mesh.toml")
    mailbox_id = MeshSettings.from_file(file).mailbox_id
    place = asker.required("--into", into, "Folder or URL for received messages", str, default="in")
    folder = asker.optional("--from", outgoing, "Folder of files to send (empty: none)", Path)
    # Paths in the file begin at its folder.
    base = Path() if path.parent == Path() else Path.cwd()
    text = f"[mailboxes.{mailbox_id}]\nsettings = {_quoted(base / file)}\n\n"
    text += f"[[mailboxes.{mailbox_id}.receive]]\ninto = {_quoted(place if '://' in place else base / place)}\n"
    if folder is not None:
        recipient = asker.required("--to", to, "Recipient of those files", prompts.mailbox_id)
        workflow = asker.required("--workflow-id", workflow_id, "Their workflow id", str)
        text += f"\n[[mailboxes.{mailbox_id}.send]]\nfrom = {_quoted(base / folder)}\n"
        text += f"to = {_quoted(recipient)}\nworkflow_id = {_quoted(workflow)}\n"
    write_private(path, text.encode(), replace=False)
    note = f"{path} was written. Next: nel-mesh agent check --config {path}"
    session.out.result({"path": str(path), "mailbox_id": mailbox_id}, note, brief=str(path))


def _quoted(value: object) -> str:
    import json

    return json.dumps(str(value), ensure_ascii=False)


@app.command(name="import-java", cls=Command)
def import_java(
    ctx: typer.Context,
    java_config: Annotated[Path, typer.Argument(metavar="FILE", help="The Java client's meshclient.cfg.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new files.")] = Path("nel-mesh"),
) -> None:
    """Write our configuration for the folders of a Java client.

    A settings file for each mailbox has its passwords, and only you can read it. Nothing of the Java client is changed.

    \b
    Example:
      nel-mesh agent import-java /opt/mesh/meshclient.cfg --output /etc/nel-mesh
    """
    from nel_mesh.check.private_files import already_exists, write_private

    session = session_of(ctx)
    with agent_extra():
        from nel_mesh.agent.java.configuration import converted, read_configuration
    files = converted(read_configuration(java_config), output)
    for name in files:
        if (output / name).exists():
            raise already_exists(output / name, "or name another folder with --output")
    for name, text in files.items():
        write_private(output / name, text.encode())
    path = output / "agent.toml"
    note = f"{path} was written. Next: nel-mesh agent check --config {path}"
    session.out.result({"path": str(path), "files": sorted(files)}, note, brief=str(path))
