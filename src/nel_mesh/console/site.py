"""The site: what its pages share, and one visit to a page of it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from nel_mesh import InvalidArgument
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.contacts import Contacts
from nel_mesh.console import wording
from nel_mesh.console.accounts import Accounts, User
from nel_mesh.console.chain_checks import ChainChecks
from nel_mesh.console.roles import Right
from nel_mesh.console.selections import Selections
from nel_mesh.console.sessions import Sessions, form_token
from nel_mesh.console.visitors import Pace
from nel_mesh.ledger.ledger import Ledger

NAVIGATION = (
    ("/", "Now", Right.LOOK),
    ("/mailboxes", "Mailboxes", Right.LOOK),
    ("/messages", "Messages", Right.LOOK),
    ("/outgoing", "Outgoing", Right.LOOK),
    ("/reports", "Reports", Right.LOOK),
    ("/destinations", "Destinations", Right.LOOK),
    ("/nodes", "Nodes", Right.LOOK),
    ("/certificates", "Certificates", Right.LOOK),
    ("/send", "Send", Right.ACT),
    ("/audit", "Audit", Right.AUDIT),
    ("/users", "Users", Right.PEOPLE),
    ("/settings", "Settings", Right.MANAGE),
)
"""The pages that every page leads to, and the right that each asks for."""

_MOST_OPENID = 100


class Site:
    """What the pages share.

    Args:
        ledger: the agent's, opened.
        configuration: returns the agent's, as it is now.
        accounts: who may log in; default: those of the ledger.
    """

    def __init__(
        self, ledger: Ledger, configuration: Callable[[], AgentConfiguration], accounts: Accounts | None = None
    ) -> None:
        self.ledger = ledger
        self.configuration = configuration
        self.accounts = accounts or Accounts(ledger)
        options = configuration().console
        self.sessions = Sessions(
            ledger, idle=timedelta(minutes=options.idle_minutes), longest=timedelta(hours=options.session_hours)
        )
        self.selections = Selections(ledger)
        self.pace = Pace(_MOST_OPENID, timedelta(minutes=5))
        """Of logins by OpenID Connect: each asks the organisation's server, and nobody has logged in yet."""
        self.stopping = threading.Event()
        """Set when the console is about to end; what would go on without end ends by itself."""
        self.chain_checks = ChainChecks(ledger, self.stopping)
        self._templates = Environment(
            loader=PackageLoader("nel_mesh.console"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= wording.FILTERS

    @property
    def data(self) -> Path:
        """The folder of the agent's ledger."""
        return self.configuration().data

    @property
    def contacts(self) -> Contacts:
        """Who to call, by the configuration as it is now."""
        return Contacts(self.configuration())

    def render(self, template: str, **values: Any) -> str:
        """Return a page as text; everything in it is escaped."""
        return self._templates.get_template(template).render(**values)


def static_file(name: str) -> bytes:
    """Return a file of the folder `static`."""
    return (files("nel_mesh.console") / "static" / name).read_bytes()


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page.

    Attributes:
        site: the site.
        request: the request.
        visitor: who asks; None if nobody has logged in.
        token: that of the session; empty if there is none.
        form: the form, of a POST.
        newest_event: the number of the newest event when the page was begun.
    """

    site: Site
    request: Request
    visitor: User | None
    token: str = dataclasses.field(repr=False)
    form: FormData | None = dataclasses.field(default=None, repr=False)
    newest_event: int = 0

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self.site.ledger

    @property
    def user(self) -> User:
        """Who asks, of a page that needs a right."""
        if self.visitor is None:
            raise RuntimeError("this page is for those who have logged in")
        return self.visitor

    def page(self, template: str, *, title: str, status: int = 200, **values: Any) -> Response:
        """Return a page.

        Args:
            template: the name of its template.
            title: its title.
            status: the HTTP status.
            values: what the template needs.
        """
        user = self.visitor
        text = self.site.render(
            template,
            title=title,
            user=user,
            path=self.request.url.path,
            address=self._address(),
            navigation=[(path, name) for path, name, right in NAVIGATION if user is not None and user.may(right)],
            may={str(right): user is not None and user.may(right) for right in Right},
            form_token=form_token(self.token) if self.token else "",
            looked_at=self.ledger.clock.now(),
            newest_event=self.newest_event,
            **values,
        )
        return HTMLResponse(text, status_code=status)

    def _address(self) -> str:
        """Return the address of this page, or of the one that the form was on."""
        url = self.request.url
        if self.request.method == "POST":
            # A form leads to its own page, as that of Send, or to one below it.
            is_page = url.path in [path for path, _, _ in NAVIGATION]
            return url.path if is_page else url.path.rpartition("/")[0] or "/"
        return url.path + (f"?{url.query}" if url.query else "")

    def go(self, address: str) -> Response:
        """Lead to another page of this site, after a form was sent."""
        return RedirectResponse(address, status_code=303)

    def field(self, name: str, *, required: bool = False, longest: int = 1000) -> str:
        """Return a field of the form, or of the address. Raises InvalidArgument."""
        source: Any = self.form if self.form is not None else self.request.query_params
        value = source.get(name, "")
        text = value.strip() if isinstance(value, str) else ""
        if required and not text:
            raise InvalidArgument(f"{name.replace('_', ' ')}: it is empty; fill it in")
        if len(text) > longest:
            raise InvalidArgument(f"{name.replace('_', ' ')}: at most {longest} characters")
        return text

    def reason(self) -> str:
        """Return the reason that was given for an action. Raises InvalidArgument if there is none."""
        return self.field("reason", required=True, longest=500)

    def fields(self) -> dict[str, list[str]]:
        """Return every field of the form, or of the address."""
        source: Any = self.form if self.form is not None else self.request.query_params
        found: dict[str, list[str]] = {}
        for name, value in source.multi_items():
            if isinstance(value, str):
                found.setdefault(name, []).append(value)
        return found

    def upload(self, name: str) -> UploadFile:
        """Return a file of the form. Raises InvalidArgument if there is none."""
        value = self.form.get(name) if self.form is not None else None
        if not isinstance(value, UploadFile) or not value.filename:
            raise InvalidArgument(f"{name}: choose a file")
        return value

    def number(self, name: str) -> int | None:
        """Return a number of the address; None if it is not there. Raises InvalidArgument."""
        text = self.field(name)
        if not text:
            return None
        if not text.isdecimal() or len(text) > 17:
            raise InvalidArgument(f"{name}: expected a number")
        return int(text)

    def path_number(self) -> int:
        """Return the number in the path. Raises InvalidArgument."""
        number = int(self.request.path_params["number"])
        if number >= 10**17:
            raise InvalidArgument("the ledger has no such message")
        return number
