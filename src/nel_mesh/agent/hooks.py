"""Hooks: tell other systems what happened to a message, by a signed web request or a command.

A call is noted in the transaction of what it tells of, so that none is lost and none is made for what did not happen.
It is made afterwards, and again until it succeeds, each time with the same idempotency key. Web requests are signed as
Standard Webhooks has it (https://www.standardwebhooks.com): headers `webhook-id`, `webhook-timestamp` and
`webhook-signature`, a HMAC-SHA256 with the secret of the hook.

What is said has ids, sizes and places. It has no subject, file name or recipient; a place can end in the name that the
sender gave, so it goes into the body, and never into arguments or headers.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPException
from typing import Any

from sqlalchemy import Connection

from nel_mesh.agent.configuration import AgentConfiguration, MailboxPlan
from nel_mesh.agent.tables import Hook
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.hook_calls import HookCall
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Direction, Event

HOOKED = {
    Event.STORED: "stored",
    Event.CONDEMNED: "quarantined",
    Event.ACCEPTED: "sent",
    Event.COLLECTED: "collected",
    Event.UNDELIVERED: "undelivered",
    Event.REFUSED: "undelivered",
}
"""The steps of a message that hooks are told of, and what they call them."""

_FIRST_RETRY_IN_SECONDS = 5.0
_LONGEST_RETRY_IN_SECONDS = 3600.0
_MAX_ATTEMPTS = 30
"""About a day of trying."""

_AT_ONCE = 100
_HOOKS_AT_ONCE = 8
_RUN_SECONDS = 10.0
"""After so long no further call begins in a run; the next run begins a second later, with what is due then."""


class HookFailed(Exception):
    """A hook could not be called; the text says why, without its address."""


def planner(ledger: Ledger, configuration: Callable[[], AgentConfiguration]) -> Callable[..., None]:
    """Return a listener of the ledger that notes the calls of a message's hooks.

    Args:
        ledger: where they are noted.
        configuration: returns the present one.
    """

    def listen(connection: Connection, message: LedgerMessage, event: Event) -> None:
        name = HOOKED.get(event)
        plan = configuration().mailboxes.get(message.mailbox_id) if name else None
        if name is None or plan is None:
            return
        hooks = hooks_of(plan, message, name)
        if not hooks:
            return
        copies = ledger.messages.copies(connection, message.id) if message.direction is Direction.IN else []
        payload = described(message, name, [copy.location or copy.destination for copy in copies])
        for hook in hooks:
            ledger.hook_calls.add(
                connection,
                event=name,
                hook=hook.digest,
                message=message.id,
                mailbox_id=message.mailbox_id,
                payload=payload,
            )

    return listen


def hooks_of(plan: MailboxPlan, message: LedgerMessage, name: str) -> tuple[Hook, ...]:
    """Return the hooks of the route that a message took."""
    if message.direction is Direction.IN:
        for incoming in plan.options.receive:
            if list(incoming.into) == message.destinations:
                return {"stored": incoming.on_stored, "quarantined": incoming.on_quarantined}.get(name, ())
    elif message.route is not None and message.route < len(plan.options.send):
        route = plan.options.send[message.route]
        return {
            "sent": route.on_sent,
            "collected": route.on_collected,
            "undelivered": route.on_undelivered,
        }.get(name, ())
    return ()


def described(message: LedgerMessage, name: str, locations: Iterable[str]) -> dict[str, Any]:
    """Return what a hook is told."""
    return {
        "type": f"message.{name}",
        "timestamp": message.updated_at.isoformat(),
        "data": {
            "number": message.id,
            "mailbox_id": message.mailbox_id,
            "direction": str(message.direction),
            "state": str(message.state),
            "message_id": message.message_id,
            "message_type": message.message_type,
            "workflow_id": message.workflow_id,
            "sender": message.sender,
            "bytes": message.bytes,
            "status_event": message.status_event,
            "status_code": message.status_code,
            "locations": list(locations),
        },
    }


def configured(configuration: AgentConfiguration) -> dict[str, Hook]:
    """Return every hook of a configuration, by its digest."""
    found: dict[str, Hook] = {}
    for plan in configuration.mailboxes.values():
        for route in (*plan.options.receive, *plan.options.send):
            for name in type(route).model_fields:
                if name.startswith("on_"):
                    found |= {hook.digest: hook for hook in getattr(route, name)}
    return found


class HookCaller:
    """Makes the calls that are due.

    Args:
        ledger: where they are noted.
        configuration: returns the present one.
    """

    def __init__(self, ledger: Ledger, configuration: Callable[[], AgentConfiguration]) -> None:
        self._ledger = ledger
        self._configuration = configuration
        self._guard = threading.Lock()
        self.failures = 0
        """How many attempts failed since the start."""

    def run(self, is_over: Callable[[], bool]) -> None:
        """Make calls that are due now, those of different hooks side by side: one that is slow holds up no other."""
        hooks = configured(self._configuration())
        end = self._ledger.clock.monotonic() + _RUN_SECONDS

        def make_due(digest: str) -> None:
            for due in self._ledger.hook_calls.due(digest, _AT_ONCE):
                if is_over() or self._ledger.clock.monotonic() >= end or not self._make(hooks.get(digest), due):
                    return

        with ThreadPoolExecutor(_HOOKS_AT_ONCE, thread_name_prefix="hooks") as threads:
            list(threads.map(make_due, self._ledger.hook_calls.hooks_due()))

    def _make(self, hook: Hook | None, made: HookCall) -> bool:
        """Make a call; whether the next of this hook is to be made at once."""
        if hook is None:
            self._ledger.hook_calls.failed(made.id, "it is no longer configured", None)
            return True
        try:
            call(hook, made.idempotency_key, made.payload, now=self._ledger.clock.now().timestamp())
        except HookFailed as failure:
            with self._guard:
                self.failures += 1
            wait = min(_LONGEST_RETRY_IN_SECONDS, _FIRST_RETRY_IN_SECONDS * 2.0 ** min(made.attempts, 30))
            again = self._ledger.clock.now() + timedelta(seconds=wait)
            is_last = made.attempts + 1 >= _MAX_ATTEMPTS
            self._ledger.hook_calls.failed(made.id, str(failure), None if is_last else again)
            return False
        self._ledger.hook_calls.done(made.id)
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class TriedHook:
    """How a test call of a hook ended."""

    hook: str
    is_good: bool
    text: str


def try_all(configuration: AgentConfiguration) -> list[TriedHook]:
    """Call every hook with an event of the type `test`."""
    clock = Clock()
    key, now = clock.unique(), clock.now().timestamp()
    tried = []
    for hook in configured(configuration).values():
        name = hook.url.split("?")[0] if hook.url else " ".join(hook.command or ())
        try:
            call(hook, key, {"type": "test", "data": {}}, now=now)
        except HookFailed as failure:
            tried.append(TriedHook(name, is_good=False, text=str(failure)))
        else:
            tried.append(TriedHook(name, is_good=True, text="it answered" if hook.url else "it ended with 0"))
    return tried


def call(hook: Hook, key: str, payload: Mapping[str, Any], *, now: float) -> None:
    """Call a hook.

    Args:
        hook: the hook.
        key: the idempotency key.
        payload: what is said, in the types of JSON.
        now: the time, in seconds of the epoch.

    Raises:
        HookFailed: it did not answer with a 2xx, or the command did not end with 0.
    """
    body = json.dumps(payload, sort_keys=True).encode()
    if hook.command is not None:
        _run(hook, key, str(payload["type"]), body)
    else:
        _post(hook, key, body, int(now))


def _run(hook: Hook, key: str, kind: str, body: bytes) -> None:
    environment = {**os.environ, "NEL_MESH_EVENT": kind, "NEL_MESH_IDEMPOTENCY_KEY": key}
    for name in [name for name in environment if name.upper().startswith("MESH_")]:
        # Passwords of mailboxes are not the hook's business.
        del environment[name]
    try:
        done = subprocess.run(  # noqa: S603 - the command is the administrator's
            list(hook.command or ()),
            input=body,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=hook.timeout_in_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HookFailed(f"the command did not end within {hook.timeout_in_seconds:g} s") from None
    except OSError as error:
        raise HookFailed(f"the command cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        raise HookFailed(f"the command ended with {done.returncode}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the content elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse it."""


def _post(hook: Hook, key: str, body: bytes, now: int) -> None:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "nel-mesh",
        "webhook-id": key,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(_secret(hook), key, now, body),
    }
    request = urllib.request.Request(str(hook.url), data=body, headers=headers, method="POST")  # noqa: S310 - checked
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=hook.timeout_in_seconds) as response:
            response.read(0)
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            raise HookFailed(f"it answered with {error.code}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise HookFailed(
            f"it cannot be reached: {getattr(reason, 'strerror', None) or type(reason).__name__}"
        ) from None


def _secret(hook: Hook) -> bytes:
    if hook.secret_file is None:
        raise HookFailed("it has no secret_file")
    try:
        secret = hook.secret_file.read_bytes().strip()
    except OSError as error:
        raise HookFailed(f"its secret_file cannot be read: {error.strerror}") from None
    if secret.startswith(b"whsec_"):
        with contextlib.suppress(ValueError):
            return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
    return secret


def signature(secret: bytes, key: str, now: int, body: bytes) -> str:
    """Return the signature of a request, by which its receiver knows that it is ours."""
    signed = hmac.new(secret, f"{key}.{now}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"
