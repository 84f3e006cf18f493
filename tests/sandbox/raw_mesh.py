"""Plain HTTP to a sandbox, with a fresh token on each request. None of our client is in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx2

from nel_mesh.protocol import token
from nel_mesh.sandbox import Sandbox

V2 = "application/vnd.mesh.v2+json"


class RawMesh:
    """Speaks to a sandbox as any mailbox of it."""

    def __init__(self, mesh: Sandbox) -> None:
        self.mesh = mesh
        verify: Any = mesh.client_context() if mesh.configuration.tls else True
        self.http = httpx2.Client(
            base_url=mesh.url, verify=verify, trust_env=False, timeout=20, headers={"accept-encoding": ""}
        )

    def __enter__(self) -> RawMesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def token(
        self,
        mailbox_id: str = "X26ABC1",
        *,
        nonce: str | None = None,
        nonce_count: int = 0,
        now: datetime | None = None,
        password: str | None = None,
        shared_key: str | None = None,
    ) -> str:
        return token.authorization(
            mailbox_id=mailbox_id,
            password=password or "password",
            shared_key=shared_key or "TestKey",
            nonce=nonce or str(uuid.uuid4()),
            nonce_count=nonce_count,
            now=now or self.mesh.configuration.clock(),
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        mailbox_id: str = "X26ABC1",
        version: int = 2,
        content: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        authorization: str | None = None,
    ) -> httpx2.Response:
        all_headers = {
            "authorization": authorization or self.token(mailbox_id),
            "accept": V2 if version == 2 else "application/json",
        }
        return self.http.request(
            method,
            f"/messageexchange/{mailbox_id}{path}",
            headers=all_headers | (headers or {}),
            content=content,
        )

    def send(
        self,
        content: bytes | Iterator[bytes] = b"content",
        *,
        to: str = "X26ABC2",
        mailbox_id: str = "X26ABC1",
        version: int = 2,
        headers: dict[str, str] | None = None,
        **more_headers: str,
    ) -> httpx2.Response:
        """Sends a message; keywords are headers, with _ for -."""
        named = _named(headers, more_headers)
        return self.request(
            "POST",
            "/outbox",
            mailbox_id=mailbox_id,
            version=version,
            content=content,
            headers={"mex-to": to, "mex-workflowid": "TEST"} | named,
        )

    def send_chunk(
        self,
        message_id: str,
        number: int,
        total: int,
        content: bytes | Iterator[bytes] = b"content",
        *,
        mailbox_id: str = "X26ABC1",
        version: int = 2,
        headers: dict[str, str] | None = None,
        **more_headers: str,
    ) -> httpx2.Response:
        named = _named(headers, more_headers)
        return self.request(
            "POST",
            f"/outbox/{message_id}/{number}",
            mailbox_id=mailbox_id,
            version=version,
            content=content,
            headers={"mex-chunk-range": f"{number}:{total}"} | named,
        )

    def inbox(self, mailbox_id: str = "X26ABC2") -> list[str]:
        ids: list[str] = self.request("GET", "/inbox", mailbox_id=mailbox_id).json()["messages"]
        return ids

    def get(
        self,
        message_id: str,
        number: int | None = None,
        *,
        mailbox_id: str = "X26ABC2",
        version: int = 2,
        **headers: str,
    ) -> httpx2.Response:
        named = _named(None, headers)
        tail = "" if number is None else f"/{number}"
        return self.request("GET", f"/inbox/{message_id}{tail}", mailbox_id=mailbox_id, version=version, headers=named)

    def acknowledge(self, message_id: str, *, mailbox_id: str = "X26ABC2", version: int = 2) -> httpx2.Response:
        return self.request("PUT", f"/inbox/{message_id}/status/acknowledged", mailbox_id=mailbox_id, version=version)

    def track(self, message_id: str, *, mailbox_id: str = "X26ABC1", version: int = 2) -> httpx2.Response:
        return self.request("GET", f"/outbox/tracking?messageID={message_id}", mailbox_id=mailbox_id, version=version)


def _named(headers: dict[str, str] | None, more: dict[str, str]) -> dict[str, str]:
    return (headers or {}) | {name.replace("_", "-"): value for name, value in more.items()}
