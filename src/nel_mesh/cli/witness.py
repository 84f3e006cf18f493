"""`nel-mesh witness`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.failures import CommandFailed, missing_extra
from nel_mesh.cli.session import Session, session_of

if TYPE_CHECKING:
    from nel_mesh.witness.record import ScenarioResult
    from nel_mesh.witness.trial import Parties

_STYLES = {"passed": "32", "failed": "31;1", "waiting": "33;1"}


def witness(
    ctx: typer.Context,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="NUMBER...", help="Scenarios; default: those not passed yet.")
    ] = None,
    in_sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Against a sandbox that is started for it, not the settings' server.")
    ] = False,
    recipient: Annotated[
        Path | None,
        typer.Option("--recipient-settings", metavar="FILE", help="Settings of the recipient. Default: the same."),
    ] = None,
    report: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the report.")] = Path("witness"),
    workflow_id: Annotated[
        str, typer.Option("--workflow-id", metavar="ID", help="Workflow id of the messages.")
    ] = "NEL_MESH_WITNESS",
    volume: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Messages of scenario 601.")] = 100,
) -> None:
    """Run the scenarios of a witness test, and report.

    It sends test messages, and acknowledges no others. A run that was cut off goes on where it ended. Exit code 14: a
    scenario failed, or has not ended.

    \b
    Examples:
      nel-mesh witness --sandbox
      nel-mesh witness --recipient-settings second.toml --report witness
      nel-mesh witness 703
    """
    from nel_mesh.witness.record import WitnessRecord
    from nel_mesh.witness.trial import Verdict

    session = session_of(ctx)
    record = WitnessRecord(report)

    def tell(result: ScenarioResult) -> None:
        text = f"{result.verdict:8} {result.number} {result.title}{f': {result.reason}' if result.reason else ''}"
        told = {name: getattr(result, name) for name in ("number", "title", "notes", "reason")}
        session.out.result(
            {**told, "verdict": str(result.verdict)},
            text,
            brief=None if result.verdict is Verdict.PASSED else text,
            style=_STYLES[result.verdict],
        )

    with _sandbox(workflow_id, volume) if in_sandbox else _parties(session, recipient, workflow_id, volume) as parties:
        record.run(parties, numbers or (), on_result=tell)
    session.out.note(f"The report is in {record.html_path}.")
    if any(result.verdict is not Verdict.PASSED for result in record.results.values()):
        raise typer.Exit(ExitCode.CHECK_FAILED)


@contextlib.contextmanager
def _parties(session: Session, recipient: Path | None, workflow_id: str, volume: int) -> Iterator[Parties]:
    from nel_mesh import MeshSettings
    from nel_mesh.witness.trial import Parties

    settings = session.load_settings() if recipient is None else MeshSettings.from_file(recipient)
    yield Parties(sender=session.load_settings, recipient=settings, workflow_id=workflow_id, volume=volume)


@contextlib.contextmanager
def _sandbox(workflow_id: str, volume: int) -> Iterator[Parties]:
    from nel_mesh.witness.trial import Parties

    try:
        from nel_mesh.sandbox import sandbox
    except ImportError as error:
        raise CommandFailed(missing_extra("sandbox")) from error
    with sandbox() as mesh:
        sender, other, *_ = mesh.mailbox_ids

        def settings(**keywords: Any) -> Any:
            return mesh.settings(sender, **keywords)

        yield Parties(
            sender=settings,
            recipient=mesh.settings(other),
            workflow_id=workflow_id,
            volume=volume,
            advance=mesh.advance,
        )
