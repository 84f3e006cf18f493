"""The MESH API as an ASGI app.

A request is routed, its token verified, its operation done; only then is the response sent. A request with a due fault
goes to `fault_injection`, which does the operation or not, and responds in place of the app.
"""

from __future__ import annotations

import contextlib
from datetime import UTC
from email.utils import format_datetime

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from nel_mesh.sandbox import fault_injection, inbox_handlers, lookup_handlers, outbox_handlers, rich_handlers, routes
from nel_mesh.sandbox.authorisation import TokenVerifier
from nel_mesh.sandbox.configuration import SandboxConfiguration
from nel_mesh.sandbox.control import Control
from nel_mesh.sandbox.errors import InvalidRequest, Refusal
from nel_mesh.sandbox.faults import FaultPlan, as_faults
from nel_mesh.sandbox.operations import OPEN, Operation
from nel_mesh.sandbox.request import RequestContext, RequestLog, RequestSeen
from nel_mesh.sandbox.routes import Call
from nel_mesh.sandbox.store import Store

_HANDLERS = {
    Operation.PING: lookup_handlers.ping,
    Operation.HANDSHAKE: lookup_handlers.handshake,
    Operation.LOOKUP_ENDPOINT: lookup_handlers.lookup_endpoint,
    Operation.SEARCH_WORKFLOW: lookup_handlers.search_workflow,
    Operation.LIST_MESSAGES: inbox_handlers.list_messages,
    Operation.COUNT_MESSAGES: inbox_handlers.count_messages,
    Operation.RETRIEVE_MESSAGE: inbox_handlers.retrieve,
    Operation.RETRIEVE_CHUNK: inbox_handlers.retrieve,
    Operation.MESSAGE_METADATA: inbox_handlers.metadata,
    Operation.ACKNOWLEDGE_MESSAGE: inbox_handlers.acknowledge,
    Operation.SEND_MESSAGE: outbox_handlers.send_message,
    Operation.SEND_CHUNK: outbox_handlers.send_chunk,
    Operation.TRACK_MESSAGE: outbox_handlers.track_message,
    Operation.TRACK_BY_LOCAL_ID: outbox_handlers.track_by_local_id,
    Operation.RICH_INBOX: rich_handlers.rich_inbox,
    Operation.RICH_OUTBOX: rich_handlers.rich_outbox,
    Operation.CHECK_FOR_UPDATE: lookup_handlers.check_for_update,
}


class SandboxApp:
    """The ASGI app. It needs no lifespan events; its caller closes the store."""

    def __init__(self, configuration: SandboxConfiguration, store: Store, faults: FaultPlan) -> None:
        self.configuration = configuration
        self.store = store
        self.faults = faults
        self.request_log = RequestLog(configuration.requests_remembered)
        # Not by the movable clock: no client's clock moves with it.
        self.tokens = TokenVerifier(
            configuration.mailboxes,
            configuration.shared_key,
            configuration.clock,
            ids_in_any_case=configuration.ids_in_any_case,
        )
        self._control = None
        if configuration.control:
            mailboxes = {mailbox.mailbox_id: mailbox for mailbox in configuration.mailboxes}
            self._control = Control(mailboxes, store, self.request_log, configuration.control_networks(), self.reset)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        send = self._with_date(send)
        request = Request(scope, receive)
        seen = RequestSeen(
            method=request.method,
            path=_path_as_sent(scope),
            operation=None,
            mailbox_id="",
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            at=self.store.now(),
        )
        if self._control is not None and (done := await self._control.respond(request)) is not None:
            await done(scope, receive, send)
            return
        self.request_log.add(seen)
        self.store.keep_time()
        try:
            faulted = None if self.faults.empty else self._faulted_request(request, seen, send)
            if faulted is not None:
                await fault_injection.inject(faulted)
                return
            response = await self._respond(request, seen)
            seen.status = response.status_code
            await response(scope, receive, send)
        except ClientDisconnect:
            return

    def _with_date(self, send: Send) -> Send:
        """Add the time by which messages expire to the head of each response."""

        async def send_dated(event: Message) -> None:
            if event["type"] == "http.response.start":
                date = format_datetime(self.store.now().astimezone(UTC), usegmt=True).encode()
                event = {**event, "headers": [(b"date", date), *event.get("headers", ())]}
            await send(event)

        return send_dated

    def reset(self) -> None:
        """Forget every message, request, used token and fault; plan the faults of the configuration again."""
        self.faults.replace(as_faults(self.configuration.faults))
        self.store.reset()
        self.request_log.clear()
        self.tokens.forget()

    def _route(self, request: Request) -> Call:
        return routes.find(request.method, request.scope["raw_path"], self.configuration)

    def _faulted_request(
        self, request: Request, seen: RequestSeen, send: Send
    ) -> fault_injection.FaultedRequest | None:
        """The request with the fault that is due for it; None if there is none."""
        try:
            call = self._route(request)
        except Refusal:
            return None
        due = self.faults.take(call.operation, call.message_id, call.chunk())
        if due is None:
            return None
        seen.operation, seen.mailbox_id = call.operation.value, call.mailbox_id

        async def work(what: Call) -> Response:
            return await self._respond(request, seen, what)

        def consume_token() -> None:
            if call.operation not in OPEN:
                with contextlib.suppress(Refusal):
                    self.tokens.verify(call.mailbox_id, seen.headers.get("authorization"))

        message = self.store.find(call.message_id)
        return fault_injection.FaultedRequest(
            scope=request.scope,
            receive=request.receive,
            send=send,
            seen=seen,
            call=call,
            due=due,
            chunks=message.total_chunks if message else 0,
            work=work,
            consume_token=consume_token,
        )

    async def _respond(self, request: Request, seen: RequestSeen, instead: Call | None = None) -> Response:
        """Do the operation of a request, or another one in its place, and return the response."""
        version = 1
        try:
            version = _version(seen.headers.get("accept", ""))
            call = self._route(request)
            seen.operation, seen.mailbox_id = call.operation.value, call.mailbox_id
            if call.operation not in OPEN:
                self.tokens.verify(call.mailbox_id, seen.headers.get("authorization"))
            call = instead or call
            context = RequestContext(self.configuration, self.store, call, request, seen.headers, version)
            return await _HANDLERS[call.operation](context)
        except Refusal as refusal:
            seen.reason = refusal.reason
            return refusal.response(version)


def _path_as_sent(scope: Scope) -> str:
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _version(accept: str) -> int:
    """Parse the API version of an `Accept` header (MESH API, "API Versioning")."""
    asked = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if "application/vnd.mesh.v2+json" in asked:
        return 2
    unknown = [part for part in asked if "vnd.mesh" in part and part != "application/vnd.mesh.v1+json"]
    if unknown:
        raise InvalidRequest("header", "accept", "there is no such version of the API")
    return 1
