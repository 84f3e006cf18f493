"""Logging in and out. The page after it is always the first one: no address is taken from the visitor."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from nel_mesh import InvalidArgument, StorageError
from nel_mesh.console.accounts import LoginRefused
from nel_mesh.console.guard import COOKIE
from nel_mesh.console.sessions import form_token, new_token
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import form, one

if TYPE_CHECKING:
    from nel_mesh.console.openid import OpenId

_OPENID_COOKIE = "nel_mesh_console_openid"
_KEPT = ("state", "nonce", "code_verifier")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43,128}")
_TOO_MANY = "Too many logins were begun from your address. Try again in a few minutes."


def _login_page(visit: Visit, fault: str = "", status: int = 200) -> Response:
    # The form of one who has no session yet needs a token too; it is no session's.
    token = visit.token or new_token()
    openid = visit.site.configuration().console.openid is not None
    response = visit.page(
        "login.html", title="Log in", status=status, fault=fault, login_token=form_token(token), openid=openid
    )
    if not visit.token:
        _set_cookie(visit, response, token)
    return response


def _show(visit: Visit) -> Response:
    return visit.go("/") if visit.visitor is not None else _login_page(visit)


def _log_in(visit: Visit) -> Response:
    password = visit.form.get("password", "") if visit.form is not None else ""
    try:
        user = visit.site.accounts.log_in(
            visit.field("name", longest=200),
            password if isinstance(password, str) else "",
            visit.field("code", longest=20),
            address=_address(visit),
        )
    except LoginRefused as refused:
        return _login_page(visit, refused.reason, 403)
    if visit.visitor is not None:
        visit.site.sessions.end(visit.token, actor=visit.visitor.actor)
    response = visit.go("/")
    _set_cookie(visit, response, visit.site.sessions.begin(user.name))
    return response


def _log_out(visit: Visit) -> Response:
    if visit.visitor is not None:
        visit.site.sessions.end(visit.token, actor=visit.visitor.actor)
    response = visit.go("/login")
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_is_tls(visit))
    return response


def _begin_openid(visit: Visit) -> Response:
    if not visit.site.pace.allows(_address(visit), visit.ledger.clock.now()):
        return _login_page(visit, _TOO_MANY, 429)
    try:
        address, kept = _server(visit).begin()
    except StorageError as error:
        return _login_page(visit, error.reason, 503)
    response = RedirectResponse(address, status_code=303)
    # In the browser's own cookie: who has not logged in writes nothing here. Its secrets are those of this one login,
    # and of this browser. Lax: it has to come back from another site.
    response.set_cookie(
        _OPENID_COOKIE,
        ".".join(kept[name] for name in _KEPT),
        max_age=600,
        path="/login",
        httponly=True,
        samesite="lax",
        secure=_is_tls(visit),
    )
    return response


def _finish_openid(visit: Visit) -> Response:
    if not visit.site.pace.allows(_address(visit), visit.ledger.clock.now()):
        return _login_page(visit, _TOO_MANY, 429)
    parts = visit.request.cookies.get(_OPENID_COOKIE, "").split(".")
    if len(parts) != len(_KEPT) or not all(_TOKEN.fullmatch(part) for part in parts):
        return _login_page(visit, "That login is over. Begin it again.", 403)
    kept = dict(zip(_KEPT, parts, strict=True))
    state = visit.field("state", longest=500)
    if not hmac.compare_digest(state.encode(), kept["state"].encode()):
        return _login_page(visit, "That login was begun in another window. Begin it again.", 403)
    try:
        try:
            name = _server(visit).finish(visit.field("code", longest=4000), kept, visit.ledger.clock.now().timestamp())
        except StorageError as error:
            return _login_page(visit, error.reason, 503)
        user = visit.site.accounts.log_in_by_openid(name)
    except LoginRefused as refused:
        return _login_page(visit, refused.reason, 403)
    # A page, and no redirect: the session's cookie is not sent on a way that began at another site.
    response = visit.page("welcome.html", title="Logged in", name=user.name)
    _set_cookie(visit, response, visit.site.sessions.begin(user.name))
    response.delete_cookie(_OPENID_COOKIE, path="/login", httponly=True, samesite="lax", secure=_is_tls(visit))
    return response


def _server(visit: Visit) -> OpenId:
    options = visit.site.configuration().console.openid
    if options is None:
        raise InvalidArgument("there is no login by OpenID Connect; it is set up in the table [console.openid]")
    # Needed by few, and slow to load.
    from nel_mesh.console.openid import OpenId

    # The host has been checked: it is one of the console's own names.
    return OpenId(options, f"{visit.request.url.scheme}://{visit.request.headers['host']}")


def _address(visit: Visit) -> str:
    return visit.request.client.host if visit.request.client is not None else ""


def _set_cookie(visit: Visit, response: Response, token: str) -> None:
    # Without an age: it goes when the browser is closed.
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=_is_tls(visit))


def _is_tls(visit: Visit) -> bool:
    return visit.request.url.scheme == "https"


PAGES = [
    one("/login", _show, None),
    form("/login", _log_in, None),
    one("/login/openid", _begin_openid, None),
    one("/login/openid/back", _finish_openid, None),
    form("/logout", _log_out, None),
]
