"""Plain HTTP to a sandbox, with none of either client in it: the same for both servers."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import json
import ssl
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from measure import job, measured, report


class Mailbox:
    """One connection, for one mailbox."""

    def __init__(self, asked: dict[str, Any], mailbox_id: str) -> None:
        parts = urlsplit(asked["url"])
        self._id = mailbox_id
        self._key = asked["shared_key"].encode()
        self._password = asked["password"]
        if parts.scheme == "https":
            context = ssl.create_default_context(cadata=asked["authority_pem"])
            context.load_cert_chain(asked["client"])
            self._http: http.client.HTTPConnection = http.client.HTTPSConnection(parts.netloc, context=context)
        else:
            self._http = http.client.HTTPConnection(parts.netloc)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """One request, and all of its answer."""
        given = {
            "Authorization": self._token(),
            "Accept": "application/vnd.mesh.v2+json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        self._http.request(method, f"/messageexchange/{self._id}{path}", body, given)
        answer = self._http.getresponse()
        content = answer.read()
        if answer.status not in (200, 202):
            sys.exit(f"{method} {path}: {answer.status} {content[:200]!r}")
        return content

    def _token(self) -> str:
        nonce, now = uuid.uuid4(), datetime.now(UTC).strftime("%Y%m%d%H%M")
        text = f"{self._id}:{nonce}:0:{self._password}:{now}"
        digest = hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
        return f"NHSMESH {self._id}:{nonce}:0:{now}:{digest}"


def main() -> None:
    """Does the job."""
    asked = job()
    with measured(asked) as result:
        JOBS[asked["operation"]](asked)
    report(result)


def send(asked: dict[str, Any]) -> None:
    """Sends messages of one size, over so many connections."""
    content = bytes(asked["size"])
    numbers = iter(range(asked["count"]))

    def hand(_: int) -> None:
        mailbox = Mailbox(asked, "X26ABC1")
        for _ in numbers:
            _send(mailbox, content)

    with ThreadPoolExecutor(asked["at_once"]) as pool:
        list(pool.map(hand, range(asked["at_once"])))


def converse(asked: dict[str, Any]) -> None:
    """Sends, lists, gets and acknowledges each."""
    content = bytes(asked["size"])
    alice, bob = Mailbox(asked, "X26ABC1"), Mailbox(asked, "X26ABC2")
    for _ in range(asked["count"]):
        _send(alice, content)
    for number in itertools.count():
        ids = json.loads(bob.ask("GET", "/inbox"))["messages"]
        if not ids:
            break
        for message_id in ids:
            if len(bob.ask("GET", f"/inbox/{message_id}")) != asked["size"]:
                sys.exit(f"{message_id} is not what was sent")
            bob.ask("PUT", f"/inbox/{message_id}/status/acknowledged")
        if number > asked["count"]:
            sys.exit("the inbox does not become empty")


def _send(mailbox: Mailbox, content: bytes) -> None:
    headers = {"Mex_To": "X26ABC2", "Mex_WorkflowID": "BENCH", "Content_Type": "application/octet-stream"}
    mailbox.ask("POST", "/outbox", content, **headers)


JOBS = {"send": send, "converse": converse}

if __name__ == "__main__":
    main()
