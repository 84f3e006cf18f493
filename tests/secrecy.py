"""Search logs and events for secrets and patients' data; conftest.py does so at the end of every test.

Private is all that a test's servers were asked and have answered: tokens, subjects, file names, recipients, content;
and the secrets of the tests' clients. Each record of the logger `nel_mesh` is searched: its text, its extras and its
traceback; and each event of the clients that `Connector` makes.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import re
import threading
from collections.abc import Iterable, Mapping

from nel_mesh.instrumentation import Event
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer

PASSWORD = "canary-password"
"""Of the clients for scripted servers, which ask for none."""

ALWAYS = (PASSWORD, "TestKey", "NHSMESH ", "PRIVATE KEY")

_PRIVATE = ("authorization", "proxy-authorization", "mex-subject", "mex-filename", "mex-to", "mex-partnerid")
_SHORTEST, _SHORTEST_CONTENT = 5, 8
"""Of what is looked for: less is found in any text, or, such as `content`, in the lines of a traceback."""

_BEGINNING = 40
"""How much of a content is looked for."""

_CONTENT = re.compile(r"/inbox/[\w-]+(/\d+)?$")
_USUAL = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Listener(logging.Handler):
    """Keeps what is logged, and the events of clients that have `receive` as a hook, as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._said: list[str] = []
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        self._keep(text_of(record))

    def receive(self, event: Event) -> None:
        self._keep(text_of_event(event))

    def _keep(self, said: str) -> None:
        with self._guard:
            self._said.append(said)

    def take(self) -> list[str]:
        """What has been logged, and the events, since the last time."""
        with self._guard:
            said, self._said = self._said, []
        return said


LISTENER = Listener()


def text_of(record: logging.LogRecord) -> str:
    """All that a record says, but for the client's own mailbox, which may be another's recipient."""
    parts = [record.getMessage()]
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    extras = {name: value for name, value in vars(record).items() if name not in _USUAL}
    own = extras.pop("mesh_mailbox_id", None)
    assert own is None or _is_mailbox_id(own), own
    return "\n".join([*parts, *(f"{name}={value!r}" for name, value in extras.items())])


def text_of_event(event: Event) -> str:
    """All that an event holds, but for the client's own mailbox, as in `text_of`."""
    fields = dataclasses.asdict(event)
    own = fields.pop("mailbox_id")
    assert _is_mailbox_id(own), own
    return f"{type(event).__name__} {fields} {str(event).replace(repr(own), '')}"


def _is_mailbox_id(text: object) -> bool:
    return re.fullmatch(r"[\w-]{1,20}", str(text)) is not None


def found(said: Iterable[str], private: Iterable[str]) -> list[str]:
    """What is private, and was said."""
    everything = "\n".join(said)
    wanted = {text for text in private if len(text) >= _SHORTEST} | set(ALWAYS)
    return sorted(text for text in wanted if text in everything)


def unprintable(said: Iterable[str]) -> list[str]:
    """Texts that a terminal or a log must not get: control characters, and lines without a limit (R10)."""
    lines = (line for text in said for line in text.split("\n"))
    return sorted({line[:200] for line in lines if len(line) > 20_000 or not line.isprintable()})


def at_scripted(server: ScriptedServer) -> Iterable[str]:
    """What is private of what a scripted server was asked, and what it has answered."""
    for seen in list(server.seen):
        yield from _in_headers(seen.headers)
        if seen.body:
            yield _beginning(seen.body)
    for path, step in list(server.given):
        yield from _in_headers({name.lower(): value for name, value in step.headers.items()})
        if _CONTENT.search(path) and step.body:
            yield _beginning(step.body)


def at_sandbox(server: Sandbox) -> Iterable[str]:
    """What is private of what a sandbox was asked, and what it holds."""
    for request in server.requests():
        yield from _in_headers(request.headers)
    for message in server.messages():
        yield message.recipient
        yield from (message.description.subject, message.description.file_name)
        if 0 < sum(message.sizes) < 100_000:
            yield _beginning(b"".join(server.chunks(message.message_id)))


def _in_headers(headers: Mapping[str, str]) -> Iterable[str]:
    yield from (headers[name] for name in _PRIVATE if name in headers)
    scheme, _, credentials = headers.get("proxy-authorization", "").partition(" ")
    if scheme == "Basic":
        yield base64.b64decode(credentials).decode().partition(":")[2]


def _beginning(content: bytes) -> str:
    return content[:_BEGINNING].decode("latin-1") if len(content) >= _SHORTEST_CONTENT else ""
