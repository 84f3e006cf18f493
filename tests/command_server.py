"""Run the command without its imports, in children of a process that has imported it.

Nine tenths of what a short command costs are imports, and the end of an interpreter that has them; the tests run a
thousand commands. The children are real processes, with pipes, a folder and an environment of their own. What an
import or the interpreter's end does, or costs, is not tested through here, nor what happens to a process that is
killed: `python -m nel_mesh.cli` is for that.

    subprocess.run([forked_nel_mesh(), "inbox"], env=environment, cwd=folder)

A request to the server is a dict as a line of Python, with the descriptors 0 to 2 of whoever asks. The answers are the
number of the child and its exit status. `forked_command.py` asks; when it is killed, so is the child, a moment later.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import gc
import importlib
import os
import pkgutil
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_CLIENT = Path(__file__).with_name("forked_command.py")

WARNINGS = "NEL_MESH_TEST_WARNINGS"
"""What becomes of a warning, if not an error: an old version of a package can warn of a new one of another."""


@functools.cache
def forked_nel_mesh() -> Path:
    """Return a program `nel-mesh`, in a folder of its own. It works until this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="nel-")
    program = Path(folder.name, "nel-mesh")
    # -I and -S: neither the environment nor what is installed is of concern to it.
    program.write_text(f"#!{sys.executable} -IS\n{_CLIENT.read_text(encoding='utf-8')}", encoding="utf-8")
    program.chmod(0o700)
    command = [sys.executable, "-W", os.environ.get(WARNINGS, "error"), __file__, str(program.with_name("socket"))]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"

    def close() -> None:
        server.communicate(timeout=20)
        folder.cleanup()

    atexit.register(close)
    return program


def _serve(address: str) -> dict[str, Any] | None:
    """Fork a child for each request. Return the request in the child, or None when stdin is closed."""
    children: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        os.write(1, b"ready\n")
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    line, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
                    while not line.endswith(b"\n"):
                        line += connection.recv(1 << 20)
                    child = os.fork()
                    if child == 0:
                        for number, descriptor in enumerate(descriptors):
                            os.dup2(descriptor, number)
                        for descriptor in (*descriptors, *children):
                            os.close(descriptor)
                        for other in (connection, *children.values()):
                            other.close()
                        request: dict[str, Any] = ast.literal_eval(line.decode())
                        return request
                    for descriptor in descriptors:
                        os.close(descriptor)
                    connection.sendall(b"%d\n" % child)
                    ended = os.pidfd_open(child)
                    children[ended] = connection
                    selector.register(ended, selectors.EVENT_READ, child)
                    selector.register(connection, selectors.EVENT_READ, child)
                elif isinstance(key.fileobj, socket.socket):
                    if key.fileobj in children.values():
                        selector.unregister(key.fileobj)
                        os.kill(key.data, signal.SIGKILL)
                else:
                    _, status = os.waitpid(key.data, 0)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    with children.pop(key.fd) as connection, contextlib.suppress(OSError, KeyError):
                        selector.unregister(connection)
                        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(request: dict[str, Any]) -> None:
    """Make this process one that was started with the request."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    random.seed()
    # As the interpreter makes them where they are pipes.
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = open(0, encoding=encoding, closefd=False)
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)
    sys.stderr = open(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)
    sys.argv = ["nel-mesh", *request["arguments"]]


_ended_with: list[int] = []


def _end_at_once() -> None:
    """End a child whose command has ended, before the interpreter takes down its modules one after another."""
    if _ended_with:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_ended_with[0])


if __name__ == "__main__":
    # What is registered first is called last: after all threads have ended and what the command itself registered.
    atexit.register(_end_at_once)
    import nel_mesh.agent
    import nel_mesh.cli
    import nel_mesh.ledger
    import nel_mesh.sandbox
    from nel_mesh.cli.__main__ import main

    for package in (nel_mesh.agent, nel_mesh.cli, nel_mesh.ledger):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for public, names in ((nel_mesh, nel_mesh.__all__), (nel_mesh.sandbox, nel_mesh.sandbox.__all__)):
        for name in names:  # what is loaded when it is first asked for
            getattr(public, name)
    gc.collect()
    gc.freeze()
    given = _serve(sys.argv[1])
    if given is not None:
        _become(given)
        _ended_with.append(main())
        sys.exit(_ended_with[0])
