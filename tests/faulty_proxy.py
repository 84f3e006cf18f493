"""An HTTP proxy before a real store, which breaks chosen requests: cut, unanswered, or answered by itself."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from http_peers import LONG, Peer, Server, response


@dataclasses.dataclass
class Break:
    """What is done to requests whose first line matches.

    Attributes:
        pattern: a regular expression for the request line, such as `PUT .*partNumber=2`.
        how: `cut` in the middle of the request, `lose-response` of one that the store has carried out, `respond` in
            place of the store, or `call` something first.
        times: how many requests.
        status, body: for `respond`.
        before: for `call`.
    """

    pattern: str
    how: str
    times: int = 1
    status: int = 503
    body: bytes = b""
    before: Callable[[], object] | None = None


def store_error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


class FaultyProxy:
    """See the module; `url` is its address, and `seen` has the request lines."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._guard = threading.Lock()
        self.breaks: list[Break] = []
        self.seen: list[str] = []
        self.url = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        with Server(self._serve) as server:
            self.url = server.url
            yield self

    def add(self, pattern: str, how: str, **more: Any) -> None:
        self.breaks.append(Break(pattern, how, **more))

    def count(self, pattern: str) -> int:
        """How many requests have come whose first line matches."""
        return sum(re.search(pattern, line) is not None for line in self.seen)

    def _due(self, line: str) -> Break | None:
        with self._guard:
            self.seen.append(line)
            for one in self.breaks:
                if one.times and re.search(one.pattern, line):
                    one.times -= 1
                    return one
        return None

    def _serve(self, peer: Peer) -> None:
        with socket.create_connection(self._target, LONG) as upstream:
            upstream.settimeout(LONG)
            store = Peer(upstream)
            while head := peer.head():
                line = head.split(b"\r\n", 1)[0].decode()
                due = self._due(line)
                if due is not None and due.how == "cut":
                    peer.reset()
                    return
                if re.search(rb"(?i)\r\nexpect: ", head):
                    peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = re.sub(rb"(?i)\r\nexpect: [^\r]*", b"", head)
                body = peer.take(_length(head))
                if due is not None and due.before is not None:
                    due.before()
                if due is not None and due.how == "respond":
                    answer = response(due.body, due.status, "Content-Type: application/xml")
                    peer.send(answer.removesuffix(due.body) if line.startswith("HEAD") else answer)
                    continue
                store.send(head + b"\r\n" + body)
                answer = _response(store, line)
                if due is not None and due.how == "lose-response":
                    peer.reset()
                    return
                if due is not None and due.how == "cut-response":
                    peer.send(answer[: len(answer) // 2])
                    peer.reset()
                    return
                peer.send(answer)


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


def _line(store: Peer) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += store.take(1)
    return line


def _response(store: Peer, line: str) -> bytes:
    head = store.head()
    if line.startswith("HEAD") or re.match(rb"HTTP/1.1 (1|204|304)", head):
        return head + b"\r\n"
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        body = b""
        while True:
            size = _line(store)
            block = store.take(int(size, 16) + 2)
            body += size + block
            if int(size, 16) == 0:
                return head + b"\r\n" + body
    return head + b"\r\n" + store.take(_length(head))
