"""Control of a sandbox over HTTP."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from raw_mesh import RawMesh

from nel_mesh.sandbox import Sandbox, SandboxConfiguration, sandbox

pytest_plugins = ["raw_fixtures"]


@pytest.fixture(scope="module")
def controlled_session() -> Iterator[RawMesh]:
    with sandbox(tls=False, control=True) as mesh, RawMesh(mesh) as raw:
        yield raw


@pytest.fixture
def controlled(controlled_session: RawMesh) -> RawMesh:
    """Plain HTTP to an empty sandbox with control."""
    controlled_session.mesh.reset()
    return controlled_session


def control(raw: RawMesh, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
    return raw.http.request(method, path, json=content)


PATHS = [
    ("GET", "/health"),
    ("GET", "/messageexchange/deepping"),
    ("DELETE", "/messageexchange/admin/reset"),
    ("DELETE", "/admin/reset"),
    ("GET", "/admin/messages"),
    ("POST", "/admin/report"),
]


def test_it_is_off_by_default(raw: RawMesh) -> None:
    raw.send()
    assert {raw.http.request(method, path).status_code for method, path in PATHS} <= {404, 405}
    assert len(raw.inbox()) == 1


@pytest.mark.parametrize("path", ["/health", "/_status", "/_ping", "/healthcheck", "/messageexchange/deepping"])
def test_health(controlled: RawMesh, path: str) -> None:
    assert controlled.http.get(path).json()["status"] == "running"
    assert controlled.mesh.requests() == [], "probes do not push requests out of the log"


@pytest.mark.parametrize("prefix", ["", "/messageexchange"])
def test_reset_of_one_and_of_all(prefix: str) -> None:
    with sandbox(tls=False, control=True, faults=["ping:respond=503"]) as mesh, RawMesh(mesh) as raw:
        for to in ("X26ABC2", "X26ABC3"):
            raw.send(to=to)
        assert control(raw, "DELETE", f"{prefix}/admin/reset/x26abc2").status_code == 200
        assert control(raw, "DELETE", f"{prefix}/admin/reset/NONE").status_code == 404
        assert [len(raw.inbox(mailbox_id)) for mailbox_id in ("X26ABC2", "X26ABC3")] == [0, 1]
        raw.http.get("/messageexchange/_ping")
        mesh.advance(timedelta(days=6))
        assert control(raw, "DELETE", f"{prefix}/admin/reset").status_code == 200
        assert (mesh.messages(), mesh.requests(), len(mesh.pending_faults)) == ([], [], 1)
        assert control(raw, "DELETE", f"{prefix}/admin/other").status_code == 404


def test_put_a_message(controlled: RawMesh) -> None:
    text = {"recipient": "X26ABC2", "content": "results", "workflow_id": "PATH", "subject": "s", "file_name": "a.csv"}
    data = {"recipient": "X26ABC2", "sender": "X26ABC3", "content_base64": "AAH/"}
    ids = [control(controlled, "POST", "/admin/message", given).json()["message_id"] for given in (text, data)]
    assert controlled.inbox() == ids
    assert [controlled.mesh.content(one) for one in ids] == [b"results", b"\x00\x01\xff"]
    headers = [controlled.get(one).headers for one in ids]
    assert [headers[0][name] for name in ("mex-from", "mex-workflowid", "mex-filename")] == ["X26ABC1", "PATH", "a.csv"]
    assert headers[1]["mex-workflowid"] == "SANDBOX_TEST", "as deliver_message has it: MESH always gives one"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"recipient": "NONE", "content": "x"}, 404),
        ({"recipient": "X26ABC2", "content_base64": "%"}, 400),
        ({"recipient": "X26ABC2", "subject": "a\nb"}, 400),
        ({"recipient": "X26ABC2", "subject": 1}, 400),
        ([], 400),
    ],
)
def test_a_message_that_cannot_be_put(controlled: RawMesh, given: Any, status: int) -> None:
    answer = control(controlled, "POST", "/admin/message", given)
    assert (answer.status_code, answer.headers["x-sandbox-reason"] != "") == (status, True)
    assert controlled.mesh.messages() == []


def test_put_reports(controlled: RawMesh) -> None:
    given = {
        "mailbox_id": "X26ABC1",
        "code": "21",
        "description": "broken",
        "workflow_id": "W",
        "linked_message_id": "L",
    }
    ids = [
        control(controlled, "POST", "/messageexchange/admin/report", given | {"status": status}).json()["message_id"]
        for status in ("error", "undeliverable")
    ]
    assert control(controlled, "POST", "/admin/report", given | {"status": "other"}).status_code == 400
    headers = [controlled.get(one, mailbox_id="X26ABC1").headers for one in ids]
    assert [(one["mex-statuscode"], one["mex-linkedmsgid"]) for one in headers] == [("21", "L"), ("14", "L")]
    assert headers[0]["mex-statusdescription"] == "broken"


def test_set_a_status_and_expire(controlled: RawMesh) -> None:
    first, second = (controlled.send().json()["message_id"] for _ in range(2))
    event = f"/admin/message/{first}/event"
    failed = {"status": "error", "code": "EPL-1", "description": "d"}
    assert control(controlled, "POST", event, failed).status_code == 200
    assert controlled.inbox() == [second]
    assert controlled.get(first).status_code == 410
    tracked = controlled.track(first).json()
    assert [tracked[name] for name in ("status", "status_code", "status_success")] == ["error", "EPL-1", False]
    assert control(controlled, "POST", event, {"status": "accepted"}).status_code == 200
    assert controlled.inbox() == [first, second], "in its old place"
    for status in ("uploading", "nonsense"):
        assert control(controlled, "POST", event, {"status": status}).status_code == 400
    expire = f"/admin/message/{second}/expire"
    assert [control(controlled, "POST", expire).status_code for _ in range(2)] == [200, 409]
    assert controlled.track(second).json()["status"] == "undeliverable"
    assert len(controlled.inbox("X26ABC1")) == 1, "the report"
    assert control(controlled, "POST", "/admin/message/NONE/expire").status_code == 404


def test_a_failure_without_a_reason_is_a_failure(controlled: RawMesh) -> None:
    def track_after(message_id: str, **given: str) -> list[Any]:
        control(controlled, "POST", f"/admin/message/{message_id}/event", given)
        new, old = controlled.track(message_id).json(), controlled.track(message_id, version=1).json()
        return [new["status_success"], old["statusSuccess"], new["status_code"]]

    first, second = (controlled.send().json()["message_id"] for _ in range(2))
    assert track_after(first, status="undeliverable") == [False, "ERROR", "14"]
    assert track_after(second, status="error") == [False, "ERROR", ""]
    assert track_after(second, status="error", code="21") == [False, "ERROR", "21"]
    assert track_after(second, status="undeliverable") == [False, "ERROR", "21"]
    assert track_after(second, status="accepted") == [True, "SUCCESS", "00"]


def test_an_error_is_in_the_version_asked_for(controlled: RawMesh) -> None:
    url, newer = "/admin/mailbox/NONE", {"accept": "application/vnd.mesh.v2+json"}
    assert controlled.http.get(url, headers=newer).json() == {"detail": [{"event": "", "code": "", "msg": "Not Found"}]}
    assert controlled.http.get(url).json()["errorDescription"] == "Not Found"


def test_a_message_that_was_put_back_expires_at_its_new_time(controlled: RawMesh) -> None:
    mesh = controlled.mesh
    first = controlled.send().json()["message_id"]
    event = f"/admin/message/{first}/event"
    control(controlled, "POST", event, {"status": "acknowledged"})
    mesh.advance(timedelta(days=4))
    control(controlled, "POST", event, {"status": "accepted"})
    mesh.advance(timedelta(days=4))
    assert mesh.messages(status="accepted") != []
    mesh.advance(timedelta(days=1))
    assert [message.message_id for message in mesh.messages(status="undeliverable")] == [first]
    mesh.advance(timedelta(days=24))
    assert first in {message.message_id for message in mesh.messages()}
    mesh.advance(timedelta(days=1, seconds=1))
    assert first not in {message.message_id for message in mesh.messages()}


def test_look_inside(controlled: RawMesh) -> None:
    sent = controlled.send(b"12345", headers={"mex-filename": "a.dat"}).json()["message_id"]
    one = control(controlled, "GET", f"/messageexchange/admin/message/{sent.lower()}").json()
    assert [one[name] for name in ("filename", "file_size", "status", "message_type")] == [
        "a.dat",
        5,
        "Accepted",
        "Data",
    ]
    assert [message["message_id"] for message in control(controlled, "GET", "/admin/messages").json()["messages"]] == [
        sent
    ]
    assert control(controlled, "GET", "/admin/message/NONE").status_code == 404
    (request,) = control(controlled, "GET", "/admin/requests").json()["requests"]
    assert (request["operation"], request["status"], request["mailbox_id"]) == ("send_message", 202, "X26ABC1")
    assert "authorization" not in request["headers"]
    for path in (
        "/admin/mailbox/X26ABC3",
        "/messageexchange/mailbox/x26abc3",
        "/messageexchange/admin/mailbox/X26ABC3",
    ):
        assert control(controlled, "GET", path).json()["ods_code"] == "X27"
    assert control(controlled, "GET", "/admin/mailbox/NONE").status_code == 404


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_read_the_content_of_a_message(controlled: RawMesh, encoding: str) -> None:
    chunks = [b"first ", b"second"]
    given = [gzip.compress(chunk) for chunk in chunks] if encoding else chunks
    sent = controlled.mesh.deliver_message("X26ABC2", given, content_encoding=encoding)
    answer = control(controlled, "GET", f"/admin/message/{sent}/content")
    assert (answer.status_code, answer.content) == (200, b"first second")
    assert controlled.mesh.messages(status="accepted") != [], "it stays in the inbox"
    assert control(controlled, "GET", "/admin/message/NONE/content").status_code == 404


def test_the_content_of_what_has_none_or_is_damaged(controlled: RawMesh) -> None:
    report = controlled.mesh.deliver_report("X26ABC1", linked_message_id="L")
    answer = control(controlled, "GET", f"/admin/message/{report}/content")
    assert (answer.status_code, answer.content) == (200, b"")
    damaged = controlled.mesh.deliver_message("X26ABC2", b"no gzip", content_encoding="gzip")
    with pytest.raises(httpx2.TransportError):
        control(controlled, "GET", f"/admin/message/{damaged}/content")


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("client", "networks", "status"),
    [
        (("192.0.2.1", 1), [], 404),
        (("testclient", 1), ["0.0.0.0/0", "::/0"], 404),
        (None, ["0.0.0.0/0"], 404),
        (("192.0.2.1", 1), ["198.51.100.0/24", "192.0.2.0/24"], 200),
        (("::ffff:192.0.2.1", 1), ["192.0.2.0/24"], 200),
        (("203.0.113.1", 1), ["198.51.100.0/24", "192.0.2.0/24"], 404),
        (("127.0.0.2", 1), ["192.0.2.0/24"], 200),
        (("::1", 1), [], 200),
    ],
)
async def test_which_machines_are_answered(client: tuple[str, int] | None, networks: list[str], status: int) -> None:
    with sandbox(tls=False, control=True, control_from=networks) as mesh:
        said: list[Any] = []

        async def keep(message: Any) -> None:
            said.append(message)

        for path in (b"/admin/messages", b"/health"):
            scope: dict[str, Any] = {
                "type": "http",
                "method": "GET",
                "path": path.decode(),
                "raw_path": path,
                "query_string": b"",
                "headers": [],
                "client": client,
            }
            await app(mesh)(scope, _nothing, keep)
        assert [message["status"] for message in said if "status" in message] == [status, status]


def test_networks_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="control_from: 'everybody' is no address or network"):
        SandboxConfiguration(control=True, control_from=["everybody"])
    with pytest.raises(ValueError, match="control_from: it needs control"):
        SandboxConfiguration(control_from=["192.0.2.0/24"])
    assert SandboxConfiguration(compatible=True, control_from=["192.0.2.1/24"]).control


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def app(mesh: Sandbox) -> Any:
    return mesh._running_app()


def test_a_page_to_look_into_the_mailboxes(controlled: RawMesh) -> None:
    given = {"recipient": "X26ABC2", "content": "some results", "file_name": "<script>alert(1)</script>.csv"}
    message_id = control(controlled, "POST", "/admin/message", given).json()["message_id"]
    controlled.get("20200101000000000000_000000")
    response = control(controlled, "GET", "/admin")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    for text in ("X26ABC1", message_id, "&lt;script&gt;", "<td>accepted</td>", "retrieve_message", "<td>404</td>"):
        assert text in response.text
    assert "<script" not in response.text
    assert "NHSMESH" not in response.text
