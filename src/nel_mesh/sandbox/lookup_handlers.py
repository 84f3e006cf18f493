"""Handlers of ping, handshake and look-ups."""

from __future__ import annotations

import secrets

from starlette.responses import Response

from nel_mesh.protocol import wire
from nel_mesh.sandbox import representations
from nel_mesh.sandbox.configuration import SandboxMailbox
from nel_mesh.sandbox.errors import InvalidRequest, json_response
from nel_mesh.sandbox.request import RequestContext


async def ping(context: RequestContext) -> Response:
    """Answer a ping, as the official sandbox; the MESH API does not document it, and it needs no token."""
    return json_response(representations.health(), 1)


async def handshake(context: RequestContext) -> Response:
    """Validate a mailbox (MESH API, "Validate a mailbox (Handshake)")."""
    missing = [name for name in (wire.CLIENT_VERSION, wire.OS_NAME, wire.OS_VERSION) if not context.header(name)]
    if missing:
        raise InvalidRequest.missing("header", *missing)
    if context.version == 2:
        return Response()
    return context.json({"mailboxId": context.call.mailbox_id})


async def check_for_update(context: RequestContext) -> Response:
    """Tell the Java client that there is no update of it."""
    return Response()


async def lookup_endpoint(context: RequestContext) -> Response:
    """List the mailboxes of an organisation that receive a workflow (MESH API, "Look up MESH address")."""
    ods_code = context.call.ods_code.strip().upper()
    if not ods_code:
        raise InvalidRequest("path", "ods_code", "it is empty")
    found = [box for box in _receivers(context) if box.ods_code.upper() == ods_code]
    if context.version == 2:
        return context.json(_results(found))
    return context.json(
        {
            "query_id": secrets.token_hex(16),
            "results": [{"address": box.mailbox_id, "description": box.name, "endpoint_type": "MESH"} for box in found],
        }
    )


async def search_workflow(context: RequestContext) -> Response:
    """List the mailboxes that receive a workflow (MESH API, "Lookup by workflow"); both versions have one form."""
    return json_response(_results(_receivers(context)), context.version)


def _receivers(context: RequestContext) -> list[SandboxMailbox]:
    workflow_id = context.call.workflow_id.strip()
    if not workflow_id:
        raise InvalidRequest("path", "workflow_id", "it is empty")
    mailboxes, workflows = context.configuration.mailboxes, context.configuration.workflows
    if not workflows:
        return list(mailboxes)
    receivers = {box for flow in workflows if flow.workflow_id == workflow_id for box in flow.receivers}
    return [box for box in mailboxes if box.mailbox_id in receivers]


def _results(mailboxes: list[SandboxMailbox]) -> dict[str, list[dict[str, str]]]:
    return {"results": [{"mailbox_id": box.mailbox_id, "mailbox_name": box.name} for box in mailboxes]}
