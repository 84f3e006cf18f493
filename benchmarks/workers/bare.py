"""Python's own TLS and nothing else: what no client that is written in Python can be much faster than."""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from measure import job, measured, report

BLOCK = 256 * 1024


def main() -> None:
    """Does the job."""
    asked = job()
    context = ssl.create_default_context(cafile=asked["authority"])
    context.load_cert_chain(asked["client"])
    parts = urlsplit(asked["url"])
    with (
        measured(asked) as result,
        socket.create_connection((parts.hostname, parts.port)) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as connection,
    ):
        (send if asked["operation"] == "send" else receive)(connection, asked)
    report(result)


def send(connection: ssl.SSLSocket, asked: dict[str, Any]) -> None:
    """Each chunk from its file."""
    buffer = memoryview(bytearray(BLOCK))
    for number, part in enumerate(asked["parts"], 1):
        with Path(part).open("rb", buffering=0) as file:
            path = f"/messageexchange/{asked['mailbox']}/outbox{'' if number == 1 else f'/BENCH1/{number}'}"
            length = Path(part).stat().st_size
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n".encode())
            while count := file.readinto(buffer):
                connection.sendall(buffer[:count])
        status = _head(connection)[0].split()[1]
        if status != b"202":
            sys.exit(f"the server said {status!r}")


def receive(connection: ssl.SSLSocket, asked: dict[str, Any]) -> None:
    """All chunks into one file."""
    buffer = memoryview(bytearray(BLOCK))
    with Path(asked["into"]).open("wb", buffering=0) as file:
        for part in asked["parts"]:
            path = f"/messageexchange/{asked['mailbox']}/inbox/{part}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head, rest = _head(connection)
            (length,) = (
                int(line.partition(b":")[2]) for line in head.splitlines() if b"content-length" in line.lower()
            )
            file.write(rest)
            left = length - len(rest)
            while left:
                count = connection.recv_into(buffer, min(left, BLOCK))
                if not count:
                    sys.exit("the connection broke")
                file.write(buffer[:count])
                left -= count


def _head(connection: ssl.SSLSocket) -> tuple[bytes, bytes]:
    """An answer's head, and what came with it of the body; the next answer never comes unasked."""
    text = b""
    while b"\r\n\r\n" not in text:
        block = connection.recv(BLOCK)
        if not block:
            sys.exit("the connection broke")
        text += block
    head, _, rest = text.partition(b"\r\n\r\n")
    return head, rest


if __name__ == "__main__":
    main()
