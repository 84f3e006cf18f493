"""The command `nel-mesh-sandbox`: a MESH server on this machine until it is told to stop."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import nel_mesh.sandbox
from nel_mesh.sandbox.configuration import DEFAULT_MAILBOXES, Mailbox, SandboxConfiguration


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 when it was stopped, 1 when it could not start."""
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _serve(options, stopped)
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"nel-mesh-sandbox: {_reason(error, options)}\n")
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.stdout.write("stopped\n")
    return 0


def _serve(options: argparse.Namespace, stopped: threading.Event) -> None:
    configuration = SandboxConfiguration(
        mailboxes=tuple(options.mailbox or DEFAULT_MAILBOXES),
        shared_key=options.shared_key,
        host=options.host,
        port=options.port,
        tls=not options.plain_http,
        data_folder=options.data_folder,
    )
    with nel_mesh.sandbox.Sandbox(configuration) as server:
        written = server.write_settings(options.settings_folder) if options.settings_folder else []
        sys.stdout.write(_greeting(server, written))
        sys.stdout.flush()
        stopped.wait()


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


def _greeting(server: nel_mesh.sandbox.Sandbox, written: list[Path]) -> str:
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
        lines += [f"export {name}={shlex.quote(value)}" for name, value in server.environment(first).items()]
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])


def _reason(error: Exception, options: argparse.Namespace) -> str:
    if isinstance(error, OSError) and error.filename is None:
        return f"cannot listen on {options.host} port {options.port}: {error.strerror or error}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
