"""nginx as a MESH server that keeps up with any client: it takes and drops uploads, and serves prepared chunks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import trustme

from benchmarks import environments
from benchmarks.measuring import running

MAILBOX, PASSWORD, SHARED_KEY = "BENCH01", "password", "BenchKey"
WORKERS = 2

_HEAD = """\
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
load_module {module};
events {{ worker_connections 4096; }}
http {{
  default_type application/octet-stream;
  # What the client has sent, so that each run can be checked: nothing counts that did not arrive.
  log_format sent "$request_method $status $request_length $uri";
  access_log off;
  keepalive_requests 10000000;
  keepalive_timeout 600s;
  client_max_body_size 0;
  # A chunk is read whole into memory that the worker has had before (see _ENVIRONMENT), and never goes to disk.
  client_body_buffer_size 101m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  output_buffers 2 256k;
  open_file_cache max=4096 inactive=600s;
  open_file_cache_valid 600s;
  tcp_nodelay on;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_certificate {folder}/server.pem;
  ssl_certificate_key {folder}/server.pem;
  ssl_client_certificate {folder}/ca.pem;
  ssl_verify_client on;
  map $arg_continue_from $page {{ default $arg_continue_from; "" 0; }}
"""

_SERVER = """\
  server {{
    listen 127.0.0.1:{port} ssl backlog=1024;
    location = /messageexchange/_ping {{ return 200 '{{}}'; }}
    location = /messageexchange/{mailbox} {{ return 200 '{{}}'; }}
    location /messageexchange/{mailbox}/outbox {{
      access_log {folder}/sent.log sent;
      echo_read_request_body;
      echo_exec @taken;
    }}
    location @taken {{
      access_log {folder}/sent.log sent;
      default_type application/json;
      return 202 '{{"message_id": "20261122100000000000_BENCH1"}}';
    }}
    location = /messageexchange/{mailbox}/inbox {{
      root {folder}/inbox;
      default_type application/vnd.mesh.v2+json;
      try_files /$page.json =404;
    }}
    location ~ /status/acknowledged$ {{ access_log {folder}/sent.log sent; return 200 '{{}}'; }}
"""

_ENVIRONMENT = {
    # Memory for a chunk is taken again and again instead of being mapped, zeroed and given back each time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A message that waits in the inbox: a file for each chunk, served as it is.

    Attributes:
        message_id: its id.
        chunks: the files.
        gzipped: whether they are gzip.
        rate: how fast each response comes at most, such as `100m`, bytes a second; empty for no limit.
        headers: further Mex headers.
    """

    message_id: str
    chunks: Sequence[Path]
    gzipped: bool = False
    rate: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Server:
    """A running nginx.

    Attributes:
        port: where it listens.
        authority: a PEM file: whom a client must trust.
        client: a PEM file: the client's certificate and key, made for this run alone.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.authority = folder / "ca.pem"
        self.client = folder / "client.pem"
        self._folder = folder
        self._log = folder / "sent.log"

    def received(self) -> tuple[int, int]:
        """How many requests to store or acknowledge something have succeeded since the last call, and their bytes."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        # Emptied, not replaced: nginx appends to the file that it has open.
        os.truncate(self._log, 0)
        taken = [line.split() for line in lines]
        refused = [line for line in taken if line[1] not in ("200", "202")]
        if refused:
            raise RuntimeError(f"nginx refused: {refused[0]}")
        return len(taken), sum(int(line[2]) for line in taken)

    def cpu_seconds(self) -> float:
        """How much of a processor nginx has used so far."""
        ticks = 0
        master = int((self._folder / "nginx.pid").read_text())
        for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def nginx(
    folder: Path, messages: Sequence[Prepared] = (), *, inbox: int = 0, small: Path | None = None
) -> Iterator[Server]:
    """Starts nginx with these messages, and `inbox` small ones that the inbox lists; stops it at the end.

    The inbox cannot remember: it lists the same messages again after they were acknowledged.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("bench.mesh-client.test", common_name="bench.mesh-client.test")
    # The folder is its owner's alone.
    server.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    client.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    _write_inbox(folder / "inbox", inbox)
    (folder / "sent.log").touch()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    (folder / "nginx.conf").write_text(_configuration(folder, port, messages, small))
    command = [environments.nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running(command, log=folder / "output.log", environment=_ENVIRONMENT) as process:
        _wait_for(port, process, folder / "output.log")
        yield Server(port, folder)


def _configuration(folder: Path, port: int, messages: Sequence[Prepared], small: Path | None) -> str:
    parts = [
        _HEAD.format(
            folder=folder,
            workers=WORKERS,
            module=environments.ECHO_MODULE,
            # Started by root, its workers would be somebody who may not read a checkout.
            user="user root;" if os.geteuid() == 0 else "",
        ),
        _SERVER.format(folder=folder, port=port, mailbox=MAILBOX),
    ]
    parts += [location for message in messages for location in _locations(message)]
    if small is not None:
        parts.append(_small(small))
    return "".join([*parts, "  }\n}\n"])


def _locations(message: Prepared) -> Iterator[str]:
    """A location for each chunk. Static files are 200; an error page of one's own choice is how nginx says 206."""
    total = len(message.chunks)
    for number, file in enumerate(message.chunks, 1):
        path = f"/messageexchange/{MAILBOX}/inbox/{message.message_id}" + (f"/{number}" if number > 1 else "")
        headers = {
            "Mex-MessageID": message.message_id,
            "Mex-From": "X26ABC1",
            "Mex-To": MAILBOX,
            "Mex-WorkflowID": "BENCH",
            "Mex-FileName": f"{message.message_id}.dat",
            "Mex-MessageType": "DATA",
            "Mex-Chunk-Range": f"{number}:{total}",
            **({"Content-Encoding": "gzip"} if message.gzipped else {}),
            **(message.headers if number == 1 else {}),
        }
        limit = f"limit_rate {message.rate}; " if message.rate else ""
        serve = f"{limit}root {file.parent}; try_files /{file.name} =404;" + "".join(
            f' add_header {name} "{value}";' for name, value in headers.items()
        )
        if number == total:
            yield f"    location = {path} {{ {serve} }}\n"
        else:
            name = f"@{message.message_id}_{number}"
            yield f"    location = {path} {{ error_page 418 =206 {name}; return 418; }}\n"
            yield f"    location {name} {{ {serve} }}\n"


def _small(file: Path) -> str:
    """All the inbox's messages are one file."""
    return f"""\
    location ~ ^/messageexchange/{MAILBOX}/inbox/(?<id>S[0-9]+)$ {{
      root {file.parent};
      try_files /{file.name} =404;
      add_header Mex-MessageID $id;
      add_header Mex-From X26ABC1;
      add_header Mex-To {MAILBOX};
      add_header Mex-WorkflowID BENCH;
      add_header Mex-FileName "$id.dat";
      add_header Mex-MessageType DATA;
    }}
"""


def _write_inbox(folder: Path, count: int, page: int = 500) -> None:
    """The inbox's pages, as MESH gives them when it is not told how long a page may be."""
    folder.mkdir()
    ids = [f"S{number:06d}" for number in range(count)]
    for start in range(0, max(count, 1), page):
        path = f"/messageexchange/{MAILBOX}/inbox"
        links = {"self": path}
        if start + page < count:
            links["next"] = f"{path}?continue_from={start + page}"
        content = {"messages": ids[start : start + page], "links": links, "approx_inbox_count": count}
        (folder / f"{start}.json").write_text(json.dumps(content))


def _wait_for(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start:\n{output.read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("nginx does not listen")
