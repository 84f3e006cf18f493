"""Logging in and out. The page after it is always the first one: no address is taken from the visitor."""

from __future__ import annotations

from starlette.responses import Response

from nel_mesh.console.accounts import LoginRefused
from nel_mesh.console.guard import COOKIE
from nel_mesh.console.sessions import form_token, new_token
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import form, one


def _login_page(visit: Visit, fault: str = "", status: int = 200) -> Response:
    # The form of one who has no session yet needs a token too; it is no session's.
    token = visit.token or new_token()
    response = visit.page("login.html", title="Log in", status=status, fault=fault, login_token=form_token(token))
    if not visit.token:
        _set_cookie(visit, response, token)
    return response


def _show(visit: Visit) -> Response:
    return visit.go("/") if visit.visitor is not None else _login_page(visit)


def _log_in(visit: Visit) -> Response:
    address = visit.request.client.host if visit.request.client is not None else ""
    password = visit.form.get("password", "") if visit.form is not None else ""
    try:
        user = visit.site.accounts.log_in(
            visit.field("name", longest=200),
            password if isinstance(password, str) else "",
            visit.field("code", longest=20),
            address=address,
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


def _set_cookie(visit: Visit, response: Response, token: str) -> None:
    # Without an age: it goes when the browser is closed.
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=_is_tls(visit))


def _is_tls(visit: Visit) -> bool:
    return visit.request.url.scheme == "https"


PAGES = [one("/login", _show, None), form("/login", _log_in, None), form("/logout", _log_out, None)]
