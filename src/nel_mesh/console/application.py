"""The web application: every page that there is, each behind the guard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from nel_mesh._version import __version__
from nel_mesh.console import acting, audit, content, live, logging_in, message, messages, now, people, places, sending
from nel_mesh.console.guard import Headed, Page, guarded
from nel_mesh.console.site import Site, Visit, static_file
from nel_mesh.console.tables import Table, one

TABLES: list[Table] = [*messages.TABLES, *places.TABLES, *audit.TABLES, *people.TABLES]
"""Every table, in the order of the pages."""

_STATIC = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}


def openapi() -> dict[str, Any]:
    """Return what the pages under `/api` are, in OpenAPI's terms."""
    paths = {f"/api/{table.name}": table.openapi() for table in TABLES}
    for page in PAGES:
        if page.is_api and page.path not in paths and page.method == "GET":
            said = {"summary": _summary(page), "responses": {"200": {"description": "A JSON object."}}}
            paths[page.path.replace(":int", "")] = {"get": said}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nel-mesh console",
            "version": __version__,
            "description": "What the console shows, as JSON. It takes the cookie of a session, as the pages do.",
        },
        "paths": paths,
    }


def _summary(page: Page) -> str:
    return page.path.removeprefix("/api/").partition("/")[0].capitalize()


def _openapi(visit: Visit) -> Response:
    return JSONResponse(openapi())


PAGES: list[Page] = [
    *logging_in.PAGES,
    *now.PAGES,
    *(page for table in TABLES for page in table.pages()),
    *messages.PAGES,
    *acting.PAGES,
    *message.PAGES,
    *content.PAGES,
    *places.PAGES,
    *sending.PAGES,
    *audit.PAGES,
    *people.PAGES,
    one("/api/openapi.json", _openapi),
]
"""Every page and action; the security test goes through them all."""


def application(site: Site, *, hosts: list[str]) -> Headed:
    """Return the web application.

    Args:
        site: what its pages share.
        hosts: the names by which it may be asked.
    """
    routes = [Route(page.path, guarded(site, page), methods=[page.method]) for page in PAGES]
    routes += [Route(f"/static/{name}", _static(name, kind)) for name, kind in _STATIC.items()]
    routes.append(Route("/live", live.endpoint(site)))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _fault, Exception: _bug})
    return Headed(app, hosts)


def _static(name: str, kind: str) -> Callable[[Request], Response]:
    content = static_file(name)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    def endpoint(request: Request) -> Response:
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return endpoint


def _fault(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return PlainTextResponse("There is no such page." if status == 404 else "Not done.", status_code=status)


def _bug(request: Request, error: Exception) -> Response:
    return PlainTextResponse("This is a bug in nel-mesh; please report it.", status_code=500)
