"""Who may use the console, and the configuration as the agent has it: read only, without secrets."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.responses import JSONResponse, Response

from nel_mesh import InvalidArgument
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.tables import Hook, ReceiveRoute, SendRoute
from nel_mesh.console.places import without_secrets
from nel_mesh.console.roles import Right, Role
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import Column, Rows, Table, form, one


def _users(visit: Visit, limit: int) -> Rows:
    rows = [
        {
            **dataclasses.asdict(user),
            "role": str(user.role),
            "state": "disabled" if user.disabled_at is not None else "active",
        }
        for user in visit.site.accounts.all()
    ]
    return Rows(rows=rows, values={"roles": list(Role)})


def _change(visit: Visit) -> Response:
    name, action, reason = visit.field("name", required=True), visit.field("action", required=True), visit.reason()
    if name == visit.user.name:
        raise InvalidArgument("your own account cannot be changed here; another administrator does it")
    match action:
        case "disable":
            visit.site.accounts.disable(name, actor=visit.user.actor, reason=reason)
        case "enable":
            visit.site.accounts.enable(name, actor=visit.user.actor, reason=reason)
        case "change":
            role, content = visit.field("role"), visit.field("content")
            if role and role not in list(Role):
                raise InvalidArgument(f"role: expected one of {', '.join(Role)}")
            visit.site.accounts.change(
                name,
                role=Role(role) if role else None,
                sees_content={"yes": True, "no": False}.get(content),
                actor=visit.user.actor,
                reason=reason,
            )
        case _:
            raise InvalidArgument("action: expected disable, enable or change")
    return visit.go("/users")


def shown_settings(configuration: AgentConfiguration) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the settings by section. Secrets, and what can hold one, are left out or named as being there."""
    sections = [
        ("Agent", _fields(configuration.agent.model_dump(), hidden=("ledger", "alive_url"))),
        ("Console", _fields(configuration.console.model_dump())),
        ("Defaults", _fields(configuration.defaults.model_dump())),
    ]
    for plan in configuration.mailboxes.values():
        pairs = [
            ("server", without_secrets(plan.settings.url)),
            ("poll interval in seconds", f"{plan.poll_interval_in_seconds:g}"),
            ("shadow", "yes" if plan.options.shadow else "no"),
            ("contact", plan.options.contact or ""),
        ]
        pairs += [(f"receive {number}", _receive(route)) for number, route in enumerate(plan.options.receive, 1)]
        pairs += [(f"send {number}", _send(route)) for number, route in enumerate(plan.options.send, 1)]
        sections.append((f"Mailbox {plan.mailbox_id}", pairs))
    return sections


def _fields(values: dict[str, Any], *, hidden: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    pairs = []
    for name, value in values.items():
        text = "" if value is None or value == () else str(value)
        if name in hidden:
            text = "given; not shown" if value else ""
        pairs.append((name.replace("_", " "), text))
    return pairs


def _receive(route: ReceiveRoute) -> str:
    wanted = [f"{name} {getattr(route, name)}" for name in ("workflow_id", "sender") if getattr(route, name) != "*"]
    places = ", ".join(without_secrets(place) for place in route.into)
    return f"{'; '.join(wanted) or 'everything'} into {places}{_hooks(route.on_stored + route.on_quarantined)}"


def _send(route: SendRoute) -> str:
    said = f"from {route.folder}, layout {route.layout}"
    if route.workflow_id:
        said += f", workflow {route.workflow_id}"
    return said + _hooks(route.on_sent + route.on_collected + route.on_undelivered)


def _hooks(hooks: tuple[Hook, ...]) -> str:
    return f", {len(hooks)} hooks" if hooks else ""


def _settings(visit: Visit) -> Response:
    configuration = visit.site.configuration()
    sections = shown_settings(configuration)
    return visit.page(
        "settings.html",
        title="Settings",
        sections=sections,
        file=str(configuration.path),
        version=visit.ledger.configurations.newest(),
        nodes=[one for one in visit.ledger.nodes.all() if one.ended_at is None],
    )


def _settings_json(visit: Visit) -> Response:
    return JSONResponse({name: dict(pairs) for name, pairs in shown_settings(visit.site.configuration())})


TABLES = (
    Table(
        name="users",
        title="Users",
        template="users.html",
        right=Right.PEOPLE,
        columns=(
            Column("name", "Name"),
            Column("role", "Role", "word"),
            Column("sees_content", "Sees content", "flag"),
            Column("state", "State", "state"),
            Column("created_at", "Made", "time"),
            Column("last_login_at", "Last login", "time"),
        ),
        read=_users,
    ),
)

PAGES = [
    form("/users/change", _change, Right.MANAGE),
    one("/settings", _settings, Right.MANAGE),
    one("/api/settings", _settings_json, Right.MANAGE),
]
