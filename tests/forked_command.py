"""Ask the server of `command_server.py` to run `nel-mesh` with our arguments, environment, folder and descriptors.

It passes signals on, and ends as the command did. It is copied beside the server's socket, as a program.
A thousand of them are started: `socket`, `signal` and `json` would take longer to import than the interpreter to start.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of
import _socket
import os
import sys

server = _socket.socket(_socket.AF_UNIX)
server.connect(os.path.join(os.path.dirname(__file__), "socket"))  # noqa: PTH118, PTH120 - pathlib takes longer
request = {"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109
descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
server.sendmsg([ascii(request).encode() + b"\n"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
answers = open(server.fileno(), closefd=False)
child = int(answers.readline())
for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
    _signal.signal(number, lambda number, _frame: os.kill(child, number))
status = int(answers.readline())
if status < 0:
    _signal.signal(-status, _signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
