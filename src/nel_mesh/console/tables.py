"""Tables: each is told once, and shown as a page, as CSV and as JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from nel_mesh.console.guard import Handler, Page
from nel_mesh.console.roles import Right
from nel_mesh.console.site import Visit

Row = Mapping[str, Any]
Found = TypeVar("Found")

_JSON_TYPES = {"time": ("string", "date-time"), "number": ("integer", None), "flag": ("boolean", None)}


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: its name in CSV and JSON, and its key in a row.
        title: its heading.
        kind: how it is shown: `message` and `mailbox` lead to a page, `state` has a mark, a `word` is short.
        is_shown: whether the page has it; CSV and JSON do in any case.
    """

    name: str
    title: str
    kind: Literal["text", "word", "time", "number", "size", "flag", "state", "message", "mailbox"] = "text"
    is_shown: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a table, or a page of them.

    Attributes:
        rows: the rows.
        next_before: the number to go on before; None if there are no more, or the table has no pages.
        values: what the template needs besides.
    """

    rows: Sequence[Row]
    next_before: int | None = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def page_of(
    found: Sequence[Found], limit: int, row: Callable[[Found], Row], number: Callable[[Found], int], **values: Any
) -> Rows:
    """Return a page of what was found, newest first; where one more was found than the limit, there is another page."""
    shown = found[:limit]
    next_before = number(shown[-1]) if len(found) > limit else None
    return Rows(rows=[row(one) for one in shown], next_before=next_before, values=values)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, and where it is shown.

    Attributes:
        name: its name; the page is `/NAME`, the rest `/NAME.csv` and `/api/NAME`.
        title: the heading of its page.
        columns: its columns.
        read: reads the rows; is told how many at most.
        right: what its visitor must have.
        template: the template of its page.
        empty: said if there is no row.
        parameters: the names in the address that choose rows.
    """

    name: str
    title: str
    columns: Sequence[Column]
    read: Callable[[Visit, int], Rows]
    right: Right = Right.LOOK
    template: str = "table.html"
    empty: str = "There is none."
    parameters: Sequence[str] = ()

    def pages(self) -> list[Page]:
        """Return its pages."""
        return [
            Page(f"/{self.name}", self._page, self.right),
            Page(f"/{self.name}.csv", self._csv, self.right),
            Page(f"/api/{self.name}", self._json, self.right),
        ]

    def _page(self, visit: Visit) -> Response:
        found = self.read(visit, 50)
        return visit.page(
            self.template,
            title=self.title,
            table=self,
            columns=[column for column in self.columns if column.is_shown],
            rows=found.rows,
            next_page=_next(visit, found),
            query=visit.request.url.query,
            **found.values,
        )

    def _csv(self, visit: Visit) -> Response:
        found = self.read(visit, 10_000)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([column.name for column in self.columns])
        for row in found.rows:
            writer.writerow([_cell(row.get(column.name)) for column in self.columns])
        headers = {"content-disposition": f'attachment; filename="{self.name}.csv"'}
        if found.next_before is not None:
            headers["x-next"] = _next(visit, found) or ""
        return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)

    def _json(self, visit: Visit) -> Response:
        found = self.read(visit, _limit(visit))
        rows = [{column.name: plain(row.get(column.name)) for column in self.columns} for row in found.rows]
        now = visit.ledger.clock.now().isoformat()
        return JSONResponse({"looked_at": now, "rows": rows, "next_before": found.next_before})

    def openapi(self) -> dict[str, Any]:
        """Return what OpenAPI says of it."""
        properties = {}
        for column in self.columns:
            kind, form = _JSON_TYPES.get(column.kind, ("integer" if column.kind == "size" else "string", None))
            said: dict[str, Any] = {"type": [kind, "null"], "description": column.title}
            properties[column.name] = said | ({"format": form} if form else {})
        body = {
            "type": "object",
            "properties": {
                "looked_at": {"type": "string", "format": "date-time"},
                "rows": {"type": "array", "items": {"type": "object", "properties": properties}},
                "next_before": {"type": ["integer", "null"], "description": "give it as `before` for the next page"},
            },
        }
        return {
            "get": {
                "summary": self.title,
                "parameters": [
                    {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
                    for name in self.parameters
                ],
                "responses": {
                    "200": {"description": "The rows.", "content": {"application/json": {"schema": body}}},
                    "401": {"description": "Nobody has logged in."},
                    "403": {"description": f"The right `{self.right}` is missing."},
                    "503": {"description": "The ledger cannot be read."},
                },
            }
        }


def one(path: str, handler: Handler, right: Right | None = Right.LOOK) -> Page:
    """Return a page that is no table."""
    return Page(path, handler, right)


def form(path: str, handler: Handler, right: Right | None = Right.LOOK, **more: int) -> Page:
    """Return an action, which a form asks for."""
    return Page(path, handler, right, "POST", **more)


def plain(value: Any) -> Any:
    """Return a value in the types of JSON; times in UTC."""
    return value.isoformat() if isinstance(value, datetime) else value


def _limit(visit: Visit) -> int:
    return min(1000, max(1, visit.number("limit") or 50))


def _next(visit: Visit, found: Rows) -> str | None:
    if found.next_before is None:
        return None
    left = [(name, value) for name, value in visit.request.query_params.multi_items() if name != "before"]
    return f"{visit.request.url.path}?{urlencode([*left, ('before', found.next_before)])}"


def _cell(value: Any) -> Any:
    """Return a value for a spreadsheet, which must not take it for a formula."""
    value = plain(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
