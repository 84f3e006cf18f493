"""The command `nel-mesh-sandbox`: a MESH server on this machine until it is told to stop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import nel_mesh.sandbox
from nel_mesh.io.signals import told_to_stop
from nel_mesh.sandbox.configuration import DEFAULT_MAILBOXES, INBOX_LIFE, Mailbox, SandboxConfiguration
from nel_mesh.sandbox.faults import Fault, faults_from_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 when it was stopped, 1 when it could not start."""
    options = _parser().parse_args(arguments)
    try:
        with told_to_stop() as wait:
            _serve(options, wait)
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"nel-mesh-sandbox: {_reason(error, options)}\n")
        return 1
    sys.stdout.write("stopped\n")
    return 0


def _serve(options: argparse.Namespace, wait: Callable[[], None]) -> None:
    faults = [fault for path in options.faults for fault in faults_from_file(path)]
    configuration = SandboxConfiguration(
        mailboxes=tuple(options.mailbox or DEFAULT_MAILBOXES),
        shared_key=options.shared_key,
        host=options.host,
        port=options.port,
        tls=not options.plain_http,
        data_folder=options.data_folder,
        inbox_life=INBOX_LIFE if options.inbox_life is None else options.inbox_life,
        faults=(*faults, *options.fault),
    )
    known = {mailbox.mailbox_id for mailbox in configuration.mailboxes}
    for mailbox_id, _ in options.report:
        if mailbox_id not in known:
            raise ValueError(f"--report {mailbox_id}: there is no such mailbox")
    with nel_mesh.sandbox.Sandbox(configuration) as server:
        written = server.write_settings(options.settings_folder) if options.settings_folder else []
        for mailbox_id, linked_message_id in options.report:
            server.deliver_report(mailbox_id, linked_message_id=linked_message_id)
        sys.stdout.write(_greeting(server, written))
        sys.stdout.flush()
        wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nel-mesh-sandbox",
        description="A strict MESH server for development and tests, with mutual TLS. Everything that it is told "
        "here is thrown away with it: never give it a real password or shared key.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=8700, help="the port; 0 takes a free one (default 8700)")
    parser.add_argument("--plain-http", action="store_true", help="no TLS")
    parser.add_argument("--data-folder", type=Path, help="where to keep bodies while it runs")
    parser.add_argument(
        "--mailbox",
        type=_mailbox,
        action="append",
        metavar="ID[:PASSWORD[:ODS]]",
        help="a mailbox, in place of the three default ones; may be repeated",
    )
    parser.add_argument("--shared-key", default="TestKey", help="the shared key (default TestKey)")
    parser.add_argument(
        "--settings-folder", type=Path, help="write an appsettings file for each mailbox, for its owner only"
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="OPERATION:WHICH:EFFECT[=VALUE][,NAME=VALUE...]",
        help="something that is to go wrong, such as send_message:2:lose-answer or retrieve_message:*:delay=0.5; may "
        "be repeated. WHICH is the how many-th such request, or * for every. Effects: "
        + ", ".join(nel_mesh.sandbox.Effect),
    )
    parser.add_argument(
        "--faults", type=Path, action="append", default=[], help="a JSON or TOML file of faults; may be repeated"
    )
    parser.add_argument(
        "--inbox-life",
        type=_seconds,
        metavar="SECONDS",
        help="how long a message waits to be acknowledged before its sender gets a report (default: 5 days)",
    )
    parser.add_argument(
        "--report",
        type=_report,
        action="append",
        default=[],
        metavar="MAILBOX[:MESSAGE-ID]",
        help="put a report that a message was not delivered into a mailbox's inbox at the start; may be repeated",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a number from 0 to 65535 is needed")
    return int(text)


def _mailbox(text: str) -> Mailbox:
    mailbox_id, _, rest = text.partition(":")
    password, _, ods_code = rest.partition(":")
    try:
        return Mailbox(mailbox_id=mailbox_id, password=password or "password", ods_code=ods_code or "X26")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError("a number of seconds is needed") from None


def _report(text: str) -> tuple[str, str]:
    mailbox_id, _, message_id = text.partition(":")
    return mailbox_id, message_id or "20200101000000000000_000000"


def _greeting(server: nel_mesh.sandbox.Sandbox, written: list[Path]) -> str:
    from nel_mesh.sandbox.client_settings import in_a_shell  # of the extra, like the server

    first = server.mailbox_ids[0]
    lines = [
        f"MESH sandbox at {server.url}",
        f"mailboxes: {', '.join(server.mailbox_ids)}",
        "",
    ]
    if written:
        lines += ["settings for each mailbox:", *(f"  {path}" for path in written), ""]
        lines += [
            "from nel_mesh import MeshClient, MeshSettings",
            f"with MeshClient(MeshSettings.from_file({str(written[0])!r})) as mesh:",
            "    mesh.handshake()",
        ]
    else:
        lines.append(f"settings for {first} (--settings-folder writes them for every mailbox):")
        lines += in_a_shell(server.environment(first))
    if server.faults:
        lines += ["", "faults:", *(f"  {fault}" for fault in server.faults)]
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])


def _reason(error: Exception, options: argparse.Namespace) -> str:
    if isinstance(error, OSError) and error.filename is None:
        return f"cannot listen on {options.host} port {options.port}: {error.strerror or error}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
