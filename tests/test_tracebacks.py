"""R24: a traceback with locals, as rich, pytest and Sentry show one, holds no secret and no patient data.

Each test makes a call fail in the middle, and renders the error with the locals of every frame below its own code.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import pkgutil
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

import nel_mesh
from nel_mesh import MeshError, MeshSettings, MessageMetadata, ReceivedFile, Report, SendReceipt, Tracking
from nel_mesh.sandbox import Sandbox
from nel_mesh.tracebacks import clear_locals
from scripted_server import ScriptedServer, Step
from secrecy import PASSWORD, at_scripted, found
from variants import Connector, settings_for

Scripted = Callable[..., tuple[Any, ScriptedServer]]

CONTENT = b"the content about Mrs Jones, " * 200
PRIVATE = {"subject": "Mrs Jones's results", "file_name": "jones-9434765919.csv", "partner_id": "partner-of-jones"}
TO: dict[str, Any] = {"to": "RECIPIENT1", "workflow_id": "WF", **PRIVATE}
SECRET = (PASSWORD, "TestKey", "NHSMESH ", "RECIPIENT1", "about Mrs Jones", *PRIVATE.values())

TESTS = str(Path(__file__).parent)

METADATA = {
    "mex-from": "X26ABC3",
    "mex-to": "RECIPIENT1",
    "mex-messageid": "M1",
    "mex-messagetype": "DATA",
    "mex-workflowid": "WF",
    "mex-subject": PRIVATE["subject"],
    "mex-filename": PRIVATE["file_name"],
    "mex-partnerid": PRIVATE["partner_id"],
}


def rendered(error: BaseException) -> str:
    """The traceback with locals, without the frames of the tests, which are as a user's."""
    shown = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True)
    lines = [
        f"{frame.filename}:{frame.lineno} {name} = {value}"
        for frame in frames_of(shown)
        for name, value in (frame.locals or {}).items()
    ]
    return "\n".join([*shown.format_exception_only(), *lines])


def frames_of(shown: traceback.TracebackException | None) -> list[traceback.FrameSummary]:
    if shown is None:
        return []
    frames = [frame for frame in shown.stack if not frame.filename.startswith(TESTS)]
    inside = [frame for one in shown.exceptions or () for frame in frames_of(one)]
    return [*frames, *inside, *frames_of(shown.__cause__), *frames_of(shown.__context__)]


def leaks(error: BaseException, *more: str) -> list[str]:
    """Lines of the rendered traceback with something private."""
    wanted = [*SECRET, *more]
    return [line[:300] for line in rendered(error).splitlines() if found([line], wanted)]


def has_frames(error: BaseException) -> bool:
    """Whether there is anything of the client's own to be searched."""
    return bool(frames_of(traceback.TracebackException(type(error), error, error.__traceback__)))


FAILED_SENDS: dict[str, list[Step]] = {
    "refused": [Step(417, body=b'{"messageID": "", "errorEvent": "SEND", "errorCode": "12"}')],
    "not authorised": [Step(403)],
    "dropped": [Step(drop=True)],
    "dropped in the body": [Step(read=100, drop=True)],
    "no HTTP": [Step(raw=b"SSH-2.0-x\r\n\r\n")],
    "no JSON": [Step(202, body=b"<html>")],
    "a later chunk refused": [Step(202, body=b'{"message_id": "M1"}'), Step(417)],
}


@pytest.mark.parametrize("steps", FAILED_SENDS.values(), ids=FAILED_SENDS)
@pytest.mark.parametrize("form", ["bytes", "path", "file", "send_file"])
def test_r24_a_send_that_fails(scripted: Scripted, steps: list[Step], form: str, tmp_path: Path) -> None:
    mesh, server = scripted(*steps, max_attempts=1, max_chunk_size_in_megabytes=0.003)
    path = tmp_path / PRIVATE["file_name"]
    path.write_bytes(CONTENT)
    with pytest.raises(MeshError) as caught, path.open("rb") as file:
        if form == "send_file":
            mesh.send_file(path, **TO, resume=tmp_path)
        else:
            mesh.send_message({"bytes": CONTENT, "path": path, "file": file}[form], **TO, compress=True)
    assert leaks(caught.value, *at_scripted(server)) == []


@pytest.mark.parametrize(
    "wrong",
    [{"subject": f"{PRIVATE['subject']} é"}, {"to": "RECIPIENT1" * 20}, {"file_name": "jones-9434765919.csv" * 20}],
    ids=["subject", "to", "file_name"],
)
def test_r24_an_argument_that_is_wrong(scripted: Scripted, wrong: dict[str, str]) -> None:
    mesh, _ = scripted(Step(500))
    with pytest.raises(MeshError) as caught:
        mesh.send_message(CONTENT, **{**TO, **wrong})
    assert leaks(caught.value) == []


def test_r24_content_that_cannot_be_read(scripted: Scripted, tmp_path: Path) -> None:
    mesh, _ = scripted(Step(500))
    with pytest.raises(MeshError) as caught:
        mesh.send_message(tmp_path / PRIVATE["file_name"], **TO)
    # The error itself names the file that the caller asked for; its frames do not.
    assert [line for line in leaks(caught.value) if " = " in line] == []


def test_r24_progress_that_raises(scripted: Scripted) -> None:
    def progress(done: Any) -> None:
        raise LookupError("in progress")

    mesh, _ = scripted(Step(202, body=b'{"message_id": "M1"}'))
    with pytest.raises(LookupError) as caught:
        mesh.send_message(CONTENT, **TO, progress=progress)
    assert leaks(caught.value) == []


def chunk(body: bytes, **more: Any) -> Step:
    return Step(200, {**METADATA, "mex-chunk-range": "1:1"}, body, **more)


CUT = b"HTTP/1.1 200 OK\r\n%scontent-length: 9000\r\n\r\n%s" % (
    b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in METADATA.items()),
    CONTENT,
)

FAILED_RECEIVES: dict[str, Step] = {
    "cut": Step(raw=CUT),
    "another message": Step(200, {**METADATA, "mex-messageid": "M2"}, CONTENT),
    "another checksum": Step(200, {**METADATA, "mex-content-checksum": f"MD5:{'0' * 32}"}, CONTENT),
    "not gzip": Step(200, {**METADATA, "content-encoding": "gzip"}, CONTENT),
    "gone": Step(410, METADATA, b'{"errorDescription": "expired"}'),
    "a chunk range that is wrong": Step(206, {**METADATA, "mex-chunk-range": "3:2"}, CONTENT),
}


def read(mesh: Any) -> None:
    with mesh.retrieve_message("M1") as message:
        message.read()


def read_blocks(mesh: Any) -> None:
    with mesh.retrieve_message("M1") as message:
        for _ in message:
            pass


CASES = [
    (form, fault)
    for form in ("receive_file", "read", "blocks", "save", "metadata", "receive_messages")
    for fault in FAILED_RECEIVES
    if form == "receive_file"
    or (form == "receive_messages" and fault != "gone")
    or (form != "receive_messages" and fault in ("another message", "gone"))
    or (form not in ("receive_messages", "metadata") and fault != "another checksum")
]
"""A checksum is compared by some of them, metadata has no content, and to be gone is no failure of a loop."""


@pytest.mark.parametrize(("form", "fault"), CASES, ids=lambda value: value)
def test_r24_a_receive_that_fails(scripted: Scripted, form: str, fault: str, tmp_path: Path) -> None:
    step = FAILED_RECEIVES[fault]
    inbox = Step(200, body=b'{"messages": ["M1"]}')
    steps = [inbox, step, step, Step(200, body=b'{"messages": []}')] if form == "receive_messages" else [step]
    mesh, server = scripted(*steps, max_attempts=1)
    folder = tmp_path / PRIVATE["file_name"]

    def save() -> None:
        with mesh.retrieve_message("M1") as message:
            message.save(folder / "x")

    def receive_messages() -> None:
        for failed in mesh.receive_messages(folder).failed:
            raise failed.error

    forms: dict[str, Callable[[], object]] = {
        "receive_file": lambda: mesh.receive_file("M1", folder),
        "read": lambda: read(mesh),
        "blocks": lambda: read_blocks(mesh),
        "save": save,
        "metadata": lambda: mesh.message_metadata("M1"),
        "receive_messages": receive_messages,
    }
    with pytest.raises(MeshError) as caught:
        forms[form]()
    assert leaks(caught.value, *at_scripted(server)) == []
    assert has_frames(caught.value) is (form != "receive_messages")


@pytest.mark.parametrize("form", ["track_message", "lookup_endpoint", "list_messages", "resolve_send"])
@pytest.mark.parametrize(
    "body", [b'{"recipient": "RECIPIENT1", ', b'["RECIPIENT1"]', b'{"message_id": {"RECIPIENT1": 1}}']
)
def test_r24_an_answer_that_is_wrong(scripted: Scripted, form: str, body: bytes) -> None:
    mesh, server = scripted(Step(200, METADATA, body), max_attempts=1)
    arguments = {"lookup_endpoint": ("A12345", "WF"), "list_messages": ()}.get(form, ("M1",))
    with pytest.raises(MeshError) as caught:
        getattr(mesh, form)(*arguments)
    assert leaks(caught.value, *at_scripted(server)) == []


@pytest.mark.parametrize("reply", [Step(407), Step(502), Step(drop=True), Step(raw=b"x\r\n\r\n")])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_r24_a_proxy_that_fails(
    connect: Connector, serve: Callable[..., ScriptedServer], mesh_sandbox: Sandbox, reply: Step, scheme: str
) -> None:
    proxy = serve(reply).url.replace("://", "://user:proxy-password@")
    settings = (
        settings_for("http://mesh.example", max_attempts=1, proxy=proxy, allow_plain_http=True)
        if scheme == "http"
        else mesh_sandbox.settings("X26ABC1", max_attempts=1, proxy=proxy)
    )
    mesh = connect(settings)
    with pytest.raises(MeshError) as caught:
        mesh.send_message(CONTENT, **TO)
    secret = base64.b64encode(b"user:proxy-password").decode()
    assert leaks(caught.value, "proxy-password", secret) == []


def test_r24_a_connection_that_fails(connect: Connector) -> None:
    mesh = connect(settings_for("http://127.0.0.1:1", max_attempts=1, proxy="http://user:proxy-password@127.0.0.1:1"))
    with pytest.raises(MeshError) as caught:
        mesh.send_message(CONTENT, **TO)
    assert leaks(caught.value, "proxy-password") == []


def test_r24_settings_that_are_wrong(tmp_path: Path) -> None:
    wrong = {"password": PASSWORD, "shared_key": "TestKey", "mailbox_id": "X26ABC1", "url": "no address"}
    with pytest.raises(MeshError) as caught:
        MeshSettings(**wrong)  # type: ignore[arg-type] # wrong on purpose
    assert leaks(caught.value) == []
    file = tmp_path / "mesh.toml"
    file.write_text("".join(f'{name} = "{value}"\n' for name, value in wrong.items()))
    with pytest.raises(MeshError) as caught:
        MeshSettings.from_file(file)
    assert leaks(caught.value) == []


PRIVATE_FIELDS = {
    "body",
    "content",
    "file_name",
    "headers",
    "key",
    "location",
    "partner_id",
    "password",
    "proxy",
    "recipient",
    "shared_key",
    "subject",
    "to",
}


def values_of_the_package() -> Iterator[tuple[type, str, object]]:
    """Each field, with its type, of each dataclass and model that a repr shows."""
    for module in pkgutil.walk_packages(nel_mesh.__path__, "nel_mesh."):
        # What a sandbox holds is a test's.
        if module.name.endswith("__main__") or ".sandbox" in module.name:
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if not isinstance(kind, type) or kind.__module__ != module.name:
                continue
            if dataclasses.is_dataclass(kind):
                yield from ((kind, field.name, field.type) for field in dataclasses.fields(kind) if field.repr)
            elif issubclass(kind, pydantic.BaseModel):
                yield from ((kind, name, field.annotation) for name, field in kind.model_fields.items() if field.repr)


def test_r24_no_repr_shows_private_fields() -> None:
    shown = {
        f"{kind.__name__}.{name}"
        for kind, name, annotation in values_of_the_package()
        if name in PRIVATE_FIELDS and "SecretStr" not in str(annotation)
    }
    # The path of a key's file.
    assert shown <= {"Answers.key"}


HIDING = [
    Tracking(message_id="M1", recipient="RECIPIENT1", local_id="L1", file_name=PRIVATE["file_name"], status="accepted"),
    MessageMetadata(message_id="M1", recipient="RECIPIENT1", subject=PRIVATE["subject"]),
    Report(message_id="M1", recipient="RECIPIENT1", file_name=PRIVATE["file_name"]),
    SendReceipt(message_id="M1", local_id="RECIPIENT1", chunks=1, bytes=1, bytes_on_wire=1),
    ReceivedFile(
        location=PRIVATE["file_name"],
        metadata=MessageMetadata(message_id="M1", subject=PRIVATE["subject"]),
        bytes=1,
        verified=None,
    ),
]


@pytest.mark.parametrize("value", HIDING, ids=lambda value: type(value).__name__)
def test_a32_a_value_says_what_it_hides_and_how_to_see_it(value: object) -> None:
    for shown in (repr(value), str(value), repr([value])):
        assert found([shown], SECRET) == []
        assert "=<hidden>" in shown
        assert "M1" in shown
    assert "to see a hidden value, read its attribute" in str(value)


def test_a32_a_value_that_hides_nothing_does_not_say_so() -> None:
    tracking = Tracking(message_id="M1", status="accepted")
    assert "recipient=None" in repr(tracking)
    assert "hidden" not in str(tracking) + repr(tracking)
    assert Tracking(message_id="M1", recipient="RECIPIENT1").model_dump()["recipient"] == "RECIPIENT1"


def test_r24_the_search_finds_what_a_local_holds() -> None:
    """The search can fail."""

    def below(subject: str) -> None:
        raise LookupError("below")

    below.__code__ = below.__code__.replace(co_filename="elsewhere.py")
    with pytest.raises(LookupError) as caught:
        below(PRIVATE["subject"])
    (line,) = leaks(caught.value)
    assert "subject = " in line


def test_the_callers_own_frames_keep_their_locals(connect: Connector) -> None:
    mesh = connect(settings_for("http://127.0.0.1:1", max_attempts=1))

    def fail(patients: int) -> None:
        raise LookupError(patients)

    def send(batch: int) -> None:
        try:
            fail(batch)
        except LookupError:
            mesh.send_message(CONTENT, **TO)

    with pytest.raises(MeshError) as caught:
        send(12345)
    error: BaseException | None = caught.value
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    while error is not None:
        frames += [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        error = error.__context__
    own = {frame.f_code.co_name: frame.f_locals for frame in frames if frame.f_code.co_filename == __file__}
    assert own["send"]["batch"] == 12345
    if connect.variant == "sync":  # in another thread, where the async client is, it is not the context
        assert own["fail"]["patients"] == 12345


def test_what_goes_on_later_is_not_ended() -> None:
    """An error that a coroutine keeps, and goes on after."""
    kept: list[KeyError] = []

    async def worker() -> str:
        try:
            dict[str, int]()["missing"]
        except KeyError as error:
            kept.append(error)
        await sleep()
        return "done"

    @types.coroutine
    def sleep() -> Iterator[None]:
        yield

    coroutine = worker()
    coroutine.send(None)
    clear_locals(kept[0])
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == "done"
