"""Control of a sandbox over HTTP: reset it, put messages and reports into inboxes, look inside.

No token is needed, so only a client on this machine is answered, or in a network that the configuration names. The
paths of the official sandbox answer as it does.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from nel_mesh.protocol import wire
from nel_mesh.sandbox import bodies, representations
from nel_mesh.sandbox.configuration import DEFAULT_WORKFLOW_ID, Network, SandboxMailbox
from nel_mesh.sandbox.errors import InvalidRequest, Refusal, json_response
from nel_mesh.sandbox.page import page
from nel_mesh.sandbox.request import RequestLog, RequestSeen
from nel_mesh.sandbox.store import Description, MessageStatus, ReportReason, Store, StoredMessage, not_collected

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_HEALTH: Final = (["health"], ["_status"], ["_ping"], ["healthcheck"], ["messageexchange", "deepping"])
_ABOUT: Final = frozenset(field.name for field in dataclasses.fields(Description))


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """The control operations.

    Args:
        mailboxes: the mailboxes by id.
        store: the messages.
        request_log: the requests.
        networks: where further clients may be, beside this machine.
        reset: forgets everything.
    """

    mailboxes: Mapping[str, SandboxMailbox]
    store: Store
    request_log: RequestLog
    networks: Sequence[Network]
    reset: Callable[[], None]

    async def respond(self, request: Request) -> Response | None:
        """Do a control operation; None if the request is none, or comes from another machine."""
        path = request.url.path.split("/")[1:]
        if request.method == "GET" and path in _HEALTH and self._answers(request):
            return json_response(representations.health(), 1)
        if path[:1] == ["messageexchange"] and path[1:2] in (["admin"], ["mailbox"]):
            path = path[1:]
        if path[:1] not in (["admin"], ["mailbox"]) or not self._answers(request):
            return None
        try:
            return await self._operation(request, path)
        except Refusal as refusal:
            return refusal.response(2 if wire.ACCEPT_V2 in request.headers.get("accept", "") else 1)

    async def _operation(self, request: Request, path: list[str]) -> Response | None:
        match request.method, path:
            case "DELETE", ["admin", "reset"]:
                self.reset()
                return json_response({"message": "all mailboxes reset"}, 1)
            case "DELETE", ["admin", "reset", mailbox_id]:
                self.store.reset_inbox(self._mailbox(mailbox_id).mailbox_id)
                return json_response({"message": f"mailbox {mailbox_id} reset"}, 1)
            case "GET", ["admin"]:
                return page(self.mailboxes.values(), self.store.snapshot(), self.request_log.all())
            case "GET", ["admin", "mailbox", mailbox_id] | ["mailbox", mailbox_id]:
                return json_response(_mailbox_details(self._mailbox(mailbox_id, "Not Found")), 1)
            case "GET", ["admin", "message", message_id]:
                return json_response(self._details(self._message(message_id)), 1)
            case "GET", ["admin", "message", message_id, "content"]:
                return self._content(self._message(message_id))
            case "GET", ["admin", "messages"]:
                return json_response({"messages": [self._details(one) for one in self.store.snapshot()]}, 1)
            case "GET", ["admin", "requests"]:
                return json_response({"requests": [_request_details(one) for one in self.request_log.all()]}, 1)
            case "POST", ["admin", "message"]:
                return json_response({"message_id": self._put_message(await _json(request))}, 1)
            case "POST", ["admin", "report"]:
                return json_response({"message_id": self._put_report(await _json(request))}, 1)
            case "POST", ["admin", "message", message_id, "event"]:
                self._set_status(self._message(message_id), await _json(request))
                return Response()
            case "POST", ["admin", "message", message_id, "expire"]:
                if not self.store.expire(self._message(message_id)):
                    raise Refusal(409, "the message is not in an inbox")
                return Response()
        return None

    def _answers(self, request: Request) -> bool:
        if request.client is None:
            return False
        try:
            address = ipaddress.ip_address(request.client.host)
        except ValueError:
            return False
        # A socket for both versions of IP gives an address of version 4 in this form.
        address = getattr(address, "ipv4_mapped", None) or address
        return address.is_loopback or any(address in network for network in self.networks)

    def _content(self, message: StoredMessage) -> Response:
        """Give the content of a message, decompressed, of all chunks that have arrived."""
        read = bodies.gunzipped if message.description.content_encoding else bodies.plain
        paths = [self.store.body(message, number) for number in range(1, len(message.sizes) + 1)]
        blocks: Iterator[bytes] = (block for path in paths for block in read(path))
        return bodies.BodyResponse(
            blocks, status=200, headers={"content-type": "application/octet-stream"}, length=None, slow=True
        )

    def _mailbox(self, mailbox_id: str, description: str = "mailbox does not exist") -> SandboxMailbox:
        found = self.mailboxes.get(mailbox_id.upper())
        if found is None:
            raise Refusal(404, "there is no such mailbox", description=description)
        return found

    def _message(self, message_id: str) -> StoredMessage:
        found = self.store.find(message_id.upper())
        if found is None:
            raise Refusal(404, "there is no such message", description="Not Found")
        return found

    def _details(self, message: StoredMessage) -> dict[str, Any]:
        return representations.details(message, self.mailboxes.get)

    def _put_message(self, given: dict[str, Any]) -> str:
        recipient = self._mailbox(_text(given, "recipient"))
        sender = self._mailbox(_text(given, "sender") or next(iter(self.mailboxes)))
        content = _text(given, "content").encode()
        if encoded := _text(given, "content_base64"):
            try:
                content = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                raise InvalidRequest("body", "content_base64", "it is not base64") from None
        with self.store.new_upload() as upload:
            upload.write(content)
            upload.close()
            return self.store.add(
                sender=sender.mailbox_id,
                recipient=recipient.mailbox_id,
                description=_description({"workflow_id": DEFAULT_WORKFLOW_ID, **given}),
                total_chunks=1,
                upload=upload,
            ).message_id

    def _put_report(self, given: dict[str, Any]) -> str:
        recipient = self._mailbox(_text(given, "mailbox_id"))
        status = _text(given, "status") or MessageStatus.UNDELIVERABLE.value
        linked = _text(given, "linked_message_id")
        if status == MessageStatus.UNDELIVERABLE.value:
            reason = not_collected(linked)
        elif status == MessageStatus.ERROR.value:
            code, description = _text(given, "code"), _text(given, "description")
            reason = ReportReason(linked_message_id=linked, event="TRANSFER", code=code, description=description)
        else:
            raise InvalidRequest("body", "status", '"undeliverable" or "error" is needed')
        about = _description(given)
        for value in (reason.code, reason.description, linked):
            _check_header("description", value)
        return self.store.add_report(recipient=recipient.mailbox_id, description=about, failure=reason).message_id

    def _set_status(self, message: StoredMessage, given: dict[str, Any]) -> None:
        problem = None
        code, description = _text(given, "code"), _text(given, "description")
        if code or description:
            linked = _text(given, "linked_message_id")
            event = _text(given, "event") or "TRANSFER"
            problem = ReportReason(linked_message_id=linked, event=event, code=code, description=description)
        try:
            self.store.set_status(message, MessageStatus(_text(given, "status").lower()), problem)
        except ValueError as error:
            raise InvalidRequest("body", "status", str(error)) from None


def _mailbox_details(mailbox: SandboxMailbox) -> dict[str, Any]:
    return {
        "mailbox_id": mailbox.mailbox_id,
        "mailbox_name": mailbox.name,
        "billing_entity": mailbox.billing_entity,
        "ods_code": mailbox.ods_code,
        "org_code": mailbox.ods_code,
        "org_name": "",
        "active": True,
    }


def _request_details(seen: RequestSeen) -> dict[str, Any]:
    return {
        "method": seen.method,
        "path": seen.path,
        "operation": seen.operation,
        "mailbox_id": seen.mailbox_id,
        # Without the token, which is a secret for two hours.
        "headers": {name: value for name, value in seen.headers.items() if name != "authorization"},
        "status": seen.status,
        "reason": seen.reason,
        "fault": str(seen.fault) if seen.fault else None,
    }


async def _json(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"a control request may have {MAX_BODY_BYTES} bytes")
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise InvalidRequest("body", "", "a JSON object is needed")
    return given


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest("body", name, "a text is needed")
    return value


def _description(given: dict[str, Any]) -> Description:
    values = {name: _text(given, name) for name in _ABOUT}
    for name, value in values.items():
        _check_header(name, value)
    return Description(**values)


def _check_header(name: str, value: str) -> None:
    fault = wire.header_fault(wire.SUBJECT, value)
    if fault:
        raise InvalidRequest("body", name, fault)
