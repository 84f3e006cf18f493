"""Acting on messages and mailboxes: first what it would do, then, with a reason, the same once."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.responses import Response

from nel_mesh import InvalidArgument
from nel_mesh.console.roles import Right
from nel_mesh.console.selections import OPEN_FIELDS, read_filter
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import form
from nel_mesh.ledger.actions import ACTIONS, Effect
from nel_mesh.ledger.mailbox_actions import MAILBOX_ACTIONS
from nel_mesh.ledger.search import Filter

MOST_AT_ONCE = 2_000
"""How many messages one action may be about."""

_MOST_SHOWN = 100


def _chosen(visit: Visit) -> list[int]:
    """Return the messages that a form is about: those that are marked, or all that its search finds."""
    if visit.field("which") == "all":
        found = list(visit.ledger.search.numbers(_search_of(visit), limit=MOST_AT_ONCE + 1))
    else:
        marked = visit.form.getlist("number") if visit.form is not None else []
        if not all(isinstance(one, str) and one.isdecimal() and len(one) < 18 for one in marked):
            raise InvalidArgument("number: expected numbers of messages")
        found = sorted({int(str(one)) for one in marked})
    if not found:
        raise InvalidArgument("no message is chosen: mark some, or choose all that the search finds")
    if len(found) > MOST_AT_ONCE:
        raise InvalidArgument(f"more than {MOST_AT_ONCE:,} messages at once: narrow the search down")
    return found


def _search_of(visit: Visit) -> Filter:
    """Return the search of the page that the form was on."""
    if key := visit.field("view"):
        return visit.site.selections.search(visit.user.name, key)
    return read_filter(parse_qs(visit.field("query", longest=5000)), names=OPEN_FIELDS)


def _preview(visit: Visit) -> Response:
    action = visit.field("action", required=True)
    if action not in ACTIONS:
        raise InvalidArgument(f"action: expected one of {', '.join(ACTIONS)}")
    numbers = _chosen(visit)
    effects = visit.ledger.actions.preview(action, numbers)
    allowed = [effect.message.id for effect in effects if not effect.is_refused]
    key = ""
    if allowed:
        # Just these: what the search finds later is not part of what the person has seen.
        key = visit.site.selections.keep(visit.user.name, {"action": action, "numbers": allowed})
    return _effects(visit, "preview.html", f"{action.capitalize()}: preview", action, effects, key)


def _run(visit: Visit) -> Response:
    reason = visit.reason()
    taken = visit.site.selections.take(visit.user.name, visit.field("selection", required=True), holding="numbers")
    action = str(taken["action"])
    effects = visit.ledger.actions.run(action, taken["numbers"], actor=visit.user.actor, reason=reason)
    return _effects(visit, "done.html", f"{action.capitalize()}: done", action, effects)


def _effects(
    visit: Visit, template: str, title: str, action: str, effects: list[Effect], selection: str = ""
) -> Response:
    refused = [effect for effect in effects if effect.is_refused]
    allowed = [effect for effect in effects if not effect.is_refused]
    return visit.page(
        template,
        title=title,
        action=action,
        allowed=allowed[:_MOST_SHOWN],
        refused=refused[:_MOST_SHOWN],
        allowed_count=len(allowed),
        refused_count=len(refused),
        selection=selection,
    )


def _mailbox_preview(visit: Visit) -> Response:
    action, mailbox_id = visit.field("action", required=True), visit.request.path_params["mailbox_id"]
    if action not in MAILBOX_ACTIONS:
        raise InvalidArgument(f"action: expected one of {', '.join(MAILBOX_ACTIONS)}")
    effect = visit.ledger.mailbox_actions.preview(action, mailbox_id)
    return visit.page("mailbox_preview.html", title=f"{action.capitalize()}: preview", action=action, effect=effect)


def _mailbox_run(visit: Visit) -> Response:
    action, mailbox_id = visit.field("action", required=True), visit.request.path_params["mailbox_id"]
    reason = visit.reason()
    effect = visit.ledger.mailbox_actions.run(action, mailbox_id, actor=visit.user.actor, reason=reason)
    if effect.is_refused:
        raise InvalidArgument(effect.text)
    return visit.go(f"/mailboxes/{effect.mailbox_id}")


PAGES = [
    form("/messages/preview", _preview, Right.ACT),
    form("/messages/run", _run, Right.ACT),
    form("/mailboxes/{mailbox_id}/preview", _mailbox_preview, Right.ACT),
    form("/mailboxes/{mailbox_id}/run", _mailbox_run, Right.ACT),
]
