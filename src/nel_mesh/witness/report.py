"""The report of the scenarios, as one page without scripts, to be read and printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 1rem/1.5 Arial, sans-serif; color: #212b32; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 1rem }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #d8dde0;
  overflow-wrap: anywhere }
.passed { color: #00602b } .failed { color: #a00 } .waiting { color: #6b4400 }
.passed, .failed, .waiting { font-weight: bold }
section { break-inside: avoid; border-top: 4px solid #005eb8; margin-top: 2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1rem } dd { margin: 0 }
@media print { body { max-width: none; margin: 0; font-size: 10pt } }
"""
_OF_THE_RUN = ("server", "mailboxes", "written_at", "nel_mesh", "python", "openssl", "system")
_OF_A_REQUEST = ("at", "mailbox_id", "method", "path", "message_id", "status", "milliseconds", "bytes", "failure")
_MOST_REQUESTS = 60
"""Of a scenario with more, only the first and the last are in the page; all are in `witness.json`."""


def html_of(record: Mapping[str, Any]) -> str:
    """Return the page of a record; everything in it is escaped."""
    scenarios = record["scenarios"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Witness scenarios</title>',
        f"<style>{_STYLE}</style></head><body><h1>Witness scenarios</h1>",
        "<p>Run by nel-mesh with real requests. The numbers are those of the tests of NEL.MESH; the list of "
        "NHS England was not available. Passwords, keys, headers and content are not in this report.</p>",
        _facts(record, _OF_THE_RUN),
        _table(
            ("number", "scenario", "expected", "verdict"),
            ((one["number"], one["title"], one["expected"], _Verdict(one["verdict"])) for one in scenarios),
        ),
    ]
    for one in scenarios:
        parts.append(f"<section><h2>{escape(str(one['number']))} {escape(one['title'])}</h2>")
        parts.append(f"<p>{_cell(_Verdict(one['verdict']))} {escape(one['reason'])}</p>")
        parts.append(_facts(one, ("expected", "began_at", "ended_at")))
        parts.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in one["notes"]) + "</ul>")
        requests = one["requests"]
        if len(requests) > _MOST_REQUESTS:
            half = _MOST_REQUESTS // 2
            parts.append(f"<p>{len(requests)} requests; the first and last {half}:</p>")
            requests = [*requests[:half], *requests[-half:]]
        rows = (tuple(request[name] for name in _OF_A_REQUEST) for request in requests)
        parts.append(_table(tuple(name.replace("_", " ") for name in _OF_A_REQUEST), rows))
        parts.append("</section>")
    parts.append("</body></html>\n")
    return "\n".join(parts)


class _Verdict(str):
    """A verdict, which is marked by its kind."""


def _facts(values: Mapping[str, Any], names: Iterable[str]) -> str:
    rows = (f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(values[name]))}</dd>" for name in names)
    return f"<dl>{''.join(rows)}</dl>"


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    text = escape("" if value is None else str(value))
    return f'<span class="{text}">{text}</span>' if isinstance(value, _Verdict) else text
