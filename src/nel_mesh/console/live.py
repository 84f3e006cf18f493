"""Server-sent events: a page is told when something has happened, and fetches itself again.

A page says what was the newest event when it was made, so nothing is missed that happens before it listens. When its
connection was lost, the browser says the same as Last-Event-ID (HTML Standard, section Server-sent events).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nel_mesh import MeshError
from nel_mesh.console.guard import COOKIE, UNAVAILABLE, logger
from nel_mesh.console.site import Site

_LOOK_EVERY_SECONDS = 1.0
_STEP_SECONDS = 0.2
_MOST_LISTENERS = 100


def endpoint(site: Site) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of the events; it ends with the session."""
    listeners = 0

    def is_open(token: str) -> bool:
        name = site.sessions.user_of(token, touch=False)
        return name is not None and site.accounts.get(name) is not None

    async def events(request: Request, token: str) -> AsyncIterator[dict[str, str]]:
        nonlocal listeners
        listeners += 1
        try:
            yield {"event": "ready", "data": ""}
            last = _last_seen(request)
            while True:
                # While the ledger cannot be read, the page waits: it would not listen again by itself.
                with contextlib.suppress(MeshError):
                    if not await run_in_threadpool(is_open, token):
                        break
                    newest = str(await run_in_threadpool(site.ledger.search.last_event))
                    if newest != last:
                        last = newest
                        yield {"event": "change", "data": "", "id": newest}
                end = anyio.current_time() + _LOOK_EVERY_SECONDS
                while anyio.current_time() < end:
                    if site.stopping.is_set():
                        return
                    await anyio.sleep(_STEP_SECONDS)
            yield {"event": "over", "data": ""}
        finally:
            listeners -= 1

    async def answer(request: Request) -> Response:
        token = request.cookies.get(COOKIE, "")
        try:
            if not await run_in_threadpool(is_open, token):
                return PlainTextResponse("log in first", status_code=401)
        except MeshError as error:
            logger.error("/live: %s", error.reason)
            return PlainTextResponse(UNAVAILABLE, status_code=503)
        if listeners >= _MOST_LISTENERS:
            return PlainTextResponse("too many pages are open", status_code=503)
        return EventSourceResponse(events(request, token), ping=15, headers={"cache-control": "no-store"})

    return answer


def _last_seen(request: Request) -> str:
    return request.headers.get("last-event-id") or request.query_params.get("since", "")
