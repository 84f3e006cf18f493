"""What stands before every page: the host, the session, the right, the form, and the headers of each response."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from nel_mesh import InvalidArgument, MeshError
from nel_mesh.console.accounts import User
from nel_mesh.console.roles import Right
from nel_mesh.console.sessions import is_form_token
from nel_mesh.console.site import Site, Visit

logger = logging.getLogger("nel_mesh.console")

UNAVAILABLE = (
    "The console cannot read its ledger, so nothing is shown and nothing was done. Try again in a minute. "
    "If this stays, tell who runs nel-mesh: the log of the console says why."
)
"""No more, as nobody has logged in: the reason names the database."""

COOKIE = "nel_mesh_console"
LIVE_HEADER = "x-nel-mesh-live"
"""Sent by the script that refreshes a page: such a request does not keep a session alive."""

_MAX_FORM_BYTES = 2_000_000
_MAX_FIELDS = 2_500

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

Handler = Callable[[Visit], Response]

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A page, or an action.

    Attributes:
        path: its address.
        handler: what makes the response; called in a worker thread.
        right: what its visitor must have; None: anybody may.
        method: GET, or POST with a form.
        max_bytes: how long its form may be.
    """

    path: str
    handler: Handler
    right: Right | None = Right.LOOK
    method: str = "GET"
    max_bytes: int = _MAX_FORM_BYTES

    @property
    def is_api(self) -> bool:
        """Whether a program reads it."""
        return self.path.startswith("/api/")


class Headed:
    """Checks the host of each request, and adds the headers to each response.

    Args:
        app: the application.
        hosts: the names by which it may be asked.
    """

    def __init__(self, app: _App, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = {host.casefold() for host in hosts}

    async def __call__(self, scope: _Scope, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    if name != "cache-control" or name not in headers:
                        headers[name] = value
                if scope["scheme"] == "https":
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        if _host_name(Headers(scope=scope).get("host", "")) not in self._hosts:
            text = "The console is not reached by this name. Add it to `hosts` in the table [console]."
            await PlainTextResponse(text, status_code=400)(scope, receive, send_headed)
            return
        await self._app(scope, receive, send_headed)


def _host_name(host: str) -> str | None:
    """Return the name in a header Host, in small letters; None if it holds more than a name and a port."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return name if parts.netloc == host and "@" not in host else None


def guarded(site: Site, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a page, with everything that stands before it."""

    async def endpoint(request: Request) -> Response:
        token = request.cookies.get(COOKIE, "")
        try:
            user = await run_in_threadpool(_user, site, request, token)
        except MeshError as error:
            return await run_in_threadpool(_unavailable, Visit(site, request, None, token), page, error)
        visit = Visit(site, request, user, token)
        if page.right is not None and user is None:
            if page.is_api:
                return JSONResponse({"error": "log in first"}, status_code=401)
            return RedirectResponse("/login", status_code=303)
        if page.right is not None and user is not None and not user.may(page.right):
            return await run_in_threadpool(_refused, visit, page, 403, "Your role does not allow this.")
        if page.method == "POST":
            try:
                form = await _form(request, page.max_bytes)
            except (HTTPException, ClientDisconnect):
                return await run_in_threadpool(_refused, visit, page, 400, "The form cannot be read.")
            if form is None:
                return await run_in_threadpool(_refused, visit, page, 413, "The form is too long.")
            if not _is_own(request, token, form):
                text = "The form is not of this session, or too old. Open the page again."
                return await run_in_threadpool(_refused, visit, page, 403, text)
            visit = dataclasses.replace(visit, form=form)
        try:
            return await run_in_threadpool(_answer, visit, page)
        finally:
            if visit.form is not None:
                await visit.form.close()

    return endpoint


def _user(site: Site, request: Request, token: str) -> User | None:
    name = site.sessions.user_of(token, touch=LIVE_HEADER not in request.headers) if token else None
    return site.accounts.get(name) if name is not None else None


async def _form(request: Request, max_bytes: int) -> FormData | None:
    """Return the form; None if it is too long, as announced or as it comes."""
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal() or int(announced) > max_bytes:
        return None
    return await request.form(max_fields=_MAX_FIELDS, max_files=1)


def _is_own(request: Request, token: str, form: FormData) -> bool:
    """Whether a form comes from a page of this session. The cookie's SameSite is one more wall."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return False
    given = form.get("form_token")
    return bool(token) and isinstance(given, str) and is_form_token(token, given)


def _answer(visit: Visit, page: Page) -> Response:
    if _has_nul(visit):
        return _refused(visit, page, 400, "The address or the form has a NUL character in it: take it out.")
    try:
        if visit.visitor is not None and page.method == "GET" and not page.is_api:
            # Before anything is read for the page: what happens after this, the page is told of.
            visit = dataclasses.replace(visit, newest_event=visit.ledger.search.last_event())
        return page.handler(visit)
    except InvalidArgument as error:
        return _refused(visit, page, 400, error.reason)
    except MeshError as error:
        if visit.visitor is None:
            return _unavailable(visit, page, error)
        return _refused(visit, page, 503, str(error))
    except Exception as error:
        logger.exception("%s: this is a bug in nel-mesh; please report it", page.path)
        text = f"This is a bug in nel-mesh ({type(error).__name__}). The log has more; please report it."
        return _refused(visit, page, 500, text)


def _has_nul(visit: Visit) -> bool:
    """Whether there is a character that PostgreSQL keeps in no text."""
    given = visit.form.values() if visit.form is not None else ()
    texts = [value if isinstance(value, str) else value.filename or "" for value in given]
    return any("\0" in text for text in (visit.request.scope["path"], *visit.request.query_params.values(), *texts))


def _unavailable(visit: Visit, page: Page, error: MeshError) -> Response:
    logger.error("%s: %s", page.path, error.reason)
    return _refused(visit, page, 503, UNAVAILABLE)


def _refused(visit: Visit, page: Page, status: int, text: str) -> Response:
    if page.is_api:
        return JSONResponse({"error": text}, status_code=status)
    return visit.page("refused.html", status=status, title="Not done", text=text, is_form=page.method == "POST")
