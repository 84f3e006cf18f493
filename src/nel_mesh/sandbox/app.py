"""The MESH API as an ASGI app: one call in, one answer out.

The path is read, then the token checked, then the operation done; only then is the answer sent. What comes
between the work and its answer, such as a fault, belongs in `__call__`.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nel_mesh.sandbox import inbox, lookup, outbox, routes
from nel_mesh.sandbox.authorisation import Guard
from nel_mesh.sandbox.configuration import SandboxConfiguration
from nel_mesh.sandbox.context import Context
from nel_mesh.sandbox.journal import Journal, RequestSeen
from nel_mesh.sandbox.refusals import Invalid, Refusal
from nel_mesh.sandbox.routes import Operation
from nel_mesh.sandbox.store import Store

_HANDLERS = {
    Operation.PING: lookup.ping,
    Operation.HANDSHAKE: lookup.handshake,
    Operation.LOOKUP_ENDPOINT: lookup.lookup_endpoint,
    Operation.SEARCH_WORKFLOW: lookup.search_workflow,
    Operation.LIST_MESSAGES: inbox.list_messages,
    Operation.COUNT_MESSAGES: inbox.count_messages,
    Operation.RETRIEVE_MESSAGE: inbox.retrieve,
    Operation.RETRIEVE_CHUNK: inbox.retrieve,
    Operation.MESSAGE_METADATA: inbox.metadata,
    Operation.ACKNOWLEDGE_MESSAGE: inbox.acknowledge,
    Operation.SEND_MESSAGE: outbox.send_message,
    Operation.SEND_CHUNK: outbox.send_chunk,
    Operation.TRACK_MESSAGE: outbox.track_message,
    Operation.TRACK_BY_LOCAL_ID: outbox.track_by_local_id,
}


class SandboxApp:
    """The ASGI app. It needs no lifespan events; whoever makes it closes its store."""

    def __init__(self, configuration: SandboxConfiguration, store: Store) -> None:
        self.configuration = configuration
        self.store = store
        self.journal = Journal(configuration.requests_remembered)
        self.guard = Guard(configuration.mailboxes, configuration.shared_key, configuration.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        seen = RequestSeen(
            method=request.method,
            path=_path_as_sent(scope),
            operation=None,
            mailbox_id="",
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        )
        self.journal.note(seen)
        try:
            answer = await self._answer(request, seen)
        except ClientDisconnect:
            return
        seen.status = answer.status_code
        await answer(scope, receive, send)

    async def _answer(self, request: Request, seen: RequestSeen) -> Response:
        version = 1
        try:
            version = _version(seen.headers.get("accept", ""))
            call = routes.find(request.method, request.scope["raw_path"])
            seen.operation, seen.mailbox_id = call.operation.value, call.mailbox_id
            if call.operation not in routes.OPEN:
                self.guard.admit(call.mailbox_id, seen.headers.get("authorization"))
            context = Context(self.configuration, self.store, call, request, seen.headers, version)
            return await _HANDLERS[call.operation](context)
        except Refusal as refusal:
            return refusal.answer(version)


def _path_as_sent(scope: Scope) -> str:
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _version(accept: str) -> int:
    """The API version that an `Accept` header asks for (MESH API, "API Versioning")."""
    asked = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if "application/vnd.mesh.v2+json" in asked:
        return 2
    unknown = [part for part in asked if "vnd.mesh" in part and part != "application/vnd.mesh.v1+json"]
    if unknown:
        raise Invalid("header", "accept", "there is no such version of the API")
    return 1
