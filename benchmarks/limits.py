"""What this machine can do at all: the walls that a client runs into, whoever wrote it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from isal import isal_zlib

from benchmarks.comparing import Bench
from benchmarks.material import MIB, Material
from benchmarks.measuring import median_of
from benchmarks.rows import Row, Sizes, receive_plain, send_plain
from benchmarks.table import markdown

_WINDOW = 31
"""zlib's way to ask for gzip."""


def measure(bench: Bench, material: Material, sizes: Sizes, folder: Path) -> str:
    """Each on one core, alone."""
    content = material.csv(64).read_bytes()
    packed = zlib.compress(content, 6, wbits=_WINDOW)
    zeros = zlib.compress(bytes(len(content)), 6, wbits=_WINDOW)
    size = len(content) / 1e6
    found = {
        "TLS 1.3's cipher, AES-256-GCM, in blocks of 16 KiB": _cipher("aes-256-gcm"),
        "AES-128-GCM": _cipher("aes-128-gcm"),
        "isal: compress the CSV (level 1)": size / _best(lambda: isal_zlib.compress(content, 1, wbits=_WINDOW)),
        "isal: decompress the CSV": size / _best(lambda: isal_zlib.decompress(packed, wbits=_WINDOW)),
        "isal: decompress zeros": size / _best(lambda: isal_zlib.decompress(zeros, wbits=_WINDOW)),
        "zlib: compress the CSV (level 9)": size / _best(lambda: zlib.compress(content, 9, wbits=_WINDOW), rounds=1),
        "zlib: decompress the CSV": size / _best(lambda: zlib.decompress(packed, wbits=_WINDOW)),
        "SHA-256": size / _best(lambda: hashlib.sha256(content)),
        "copy in memory": size / _best(lambda: bytearray(content)),
        "write a file on disk, not durable": size / _best(lambda: _write(folder, content, durable=False)),
        "write a file on disk, durable (fsync)": size / _best(lambda: _write(folder, content, durable=True)),
        "write a file in memory (/dev/shm)": size / _best(lambda: _write(Path("/dev/shm"), content, durable=False)),
        "loopback, no TLS": size / _best(lambda: _loopback(content)),
    }
    for what, make in (("upload", send_plain), ("download into memory", _receive_plain)):
        row = make(material, sizes)
        runs = bench.compare(row, 3, ["bare", "curl"]).runs
        for client, done in runs.items():
            name = "Python's ssl and nothing else" if client == "bare" else "curl"
            found[f"{name}: {what}, TLS to nginx"] = row.megabytes / median_of(done)
    return markdown(("the limits", "MB/s"), [[name, f"{rate:,.0f}"] for name, rate in found.items()])


def _receive_plain(material: Material, sizes: Sizes) -> Row:
    return receive_plain(material, sizes, "memory")


def _best(work: Callable[[], object], rounds: int = 5) -> float:
    """The shortest time: a limit is what it can do when nothing disturbs it."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _cipher(name: str) -> float:
    """By OpenSSL's own measure, in MB/s of processor time."""
    program = shutil.which("openssl")
    if program is None:
        return 0.0
    command = [program, "speed", "-seconds", "2", "-evp", name, "-bytes", "16384"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"([\d.]+)k\s*$", output)
    return float(match.group(1)) / 1000 if match else 0.0


def _write(folder: Path, content: bytes, *, durable: bool) -> None:
    path = folder / "limit.bin"
    try:
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(content), MIB):
                file.write(content[start : start + MIB])
            if durable:
                os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def _loopback(content: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = threading.Thread(target=_send, args=(server.getsockname(), content))
        sender.start()
        connection, _ = server.accept()
        buffer = bytearray(256 * 1024)
        with connection:
            while connection.recv_into(buffer):
                pass
        sender.join()


def _send(address: tuple[str, int], content: bytes) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(content)
