"""Ask the server of `command_server.py` to run `nel-mesh` with our arguments, environment, folder and descriptors.

It passes signals on, and ends as the command did. It is copied beside the server's socket, as a program.
"""

import json
import os
import signal
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.path.join(os.path.dirname(__file__), "socket"))  # noqa: PTH118, PTH120 - pathlib takes longer
    request = {"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109
    socket.send_fds(server, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
    answers = server.makefile()
    child = int(answers.readline())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    status = int(answers.readline())
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
