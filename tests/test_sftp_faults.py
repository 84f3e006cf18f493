"""Messages into a server of SFTP that lacks what it may lack, and whose operations fail: nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nel_mesh import IntegrityError, MeshClient, ReceiveResult, SftpDestination, StorageError
from nel_mesh.models import MessageMetadata
from nel_mesh.sandbox import Sandbox
from sftp_server import EXTENSIONS, FAILURE, NO_SPACE, PERMISSION_DENIED, FaultyServer
from store_messages import MIB, content_of, deliver

CHUNKS = [content_of(length) for length in (1_200_000, 100, 700_000)]
CONTENT = b"".join(CHUNKS)
ALL = frozenset(EXTENSIONS)
FSYNC, LINK, POSIX_RENAME, STATVFS = EXTENSIONS
EVERY = int(os.environ.get("NEL_MESH_TEST_EVERY", "23"))
"""Of the operations that can fail, one in so many is tried."""


@pytest.fixture
def server(faulty_sftp: FaultyServer) -> FaultyServer:
    return faulty_sftp


def receive(mesh: Sandbox, server: FaultyServer) -> ReceiveResult:
    """Receive as a machine does that has never seen this server."""
    with MeshClient(mesh.settings("X26ABC2")) as bob:
        return bob.receive_messages(server.url("in"))


def is_acknowledged(mesh: Sandbox) -> bool:
    return [message.status for message in mesh.messages(recipient="X26ABC2")] == ["acknowledged"]


LACKING = [
    pytest.param({FSYNC}, False, id="no fsync"),
    pytest.param({LINK}, False, id="no links"),
    pytest.param({LINK}, True, id="no links, rename replaces"),
    pytest.param({POSIX_RENAME}, False, id="no posix-rename"),
    pytest.param({POSIX_RENAME}, True, id="no posix-rename, rename replaces"),
    pytest.param(ALL, False, id="no extensions"),
    pytest.param({*ALL, "limits@openssh.com"}, True, id="no extensions or limits, rename replaces"),
]


@pytest.mark.filterwarnings("ignore:.*cannot make files durable")
@pytest.mark.parametrize(("without", "rename_replaces"), LACKING)
def test_a_server_that_lacks(
    mesh_sandbox: Sandbox, server: FaultyServer, without: set[str], rename_replaces: bool
) -> None:
    """The message is stored and known; and a file of others that has the name of the next one is kept."""
    server.without, server.rename_replaces = frozenset(without), rename_replaces
    message_id = deliver(mesh_sandbox, CHUNKS)
    receive(mesh_sandbox, server).raise_for_failed()
    assert server.files() == {f"in/{message_id}": CONTENT}
    assert is_acknowledged(mesh_sandbox)
    mesh_sandbox.reset()
    other_id = deliver(mesh_sandbox, CHUNKS)
    (server.folder / "in" / other_id).write_bytes(b"of others")
    (failed,) = receive(mesh_sandbox, server).failed
    assert isinstance(failed.error, StorageError)
    assert server.files()[f"in/{other_id}"] == b"of others"
    assert not is_acknowledged(mesh_sandbox)


@pytest.mark.filterwarnings("ignore:.*cannot make files durable")
@pytest.mark.parametrize(
    ("how", "without", "rename_replaces"),
    [
        pytest.param("cut", frozenset(), False, id="cut"),
        pytest.param("lose-response", frozenset(), False, id="lost"),
        pytest.param("refuse", frozenset(), False, id="refused"),
        pytest.param("cut", ALL, True, id="cut, no extensions, rename replaces"),
        pytest.param("lose-response", ALL, False, id="lost, no extensions"),
        pytest.param("refuse", ALL, False, id="refused, no extensions"),
    ],
)
def test_a_failure_at_any_operation(
    mesh_sandbox: Sandbox, server: FaultyServer, how: str, without: frozenset[str], rename_replaces: bool
) -> None:
    """Another machine then receives the message, once, and leaves nothing behind."""
    point = 1
    while True:
        shutil.rmtree(server.folder)
        server.folder.mkdir()
        server.reset()
        mesh_sandbox.reset()
        server.without, server.rename_replaces = without, rename_replaces
        message_id = deliver(mesh_sandbox, CHUNKS)
        server.add("", how, after=point - 1)
        with contextlib.suppress(StorageError):
            receive(mesh_sandbox, server)
        stored = server.folder / "in" / message_id
        assert not is_acknowledged(mesh_sandbox) or stored.read_bytes() == CONTENT, point
        if server.breaks[0].times:
            assert point > 30
            break
        receive(mesh_sandbox, server).raise_for_failed()
        assert is_acknowledged(mesh_sandbox), point
        assert list(server.files()) == [f"in/{message_id}"], server.seen[point - 1]
        assert stored.read_bytes() == CONTENT, point
        point += EVERY


@pytest.fixture
def destination(server: FaultyServer) -> Iterator[SftpDestination]:
    destination = SftpDestination(
        host="127.0.0.1", port=server.port, folder=str(server.folder), key="in", timeout_seconds=60
    )
    yield destination
    destination.close()


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as client:
        yield client


def failure_of(result: ReceiveResult) -> str:
    (failed,) = result.failed
    assert isinstance(failed.error, StorageError)
    return str(failed.error)


@pytest.mark.parametrize(("code", "free_bytes"), [(FAILURE, 0), (NO_SPACE, None)], ids=["failure", "no space"])
def test_a_full_disk(
    mesh_sandbox: Sandbox, bob: MeshClient, server: FaultyServer, code: int, free_bytes: int | None
) -> None:
    """The next run, on another machine, fetches only the chunks that are not there."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    server.room_bytes, server.full_code, server.free_bytes = len(CHUNKS[0]) + 3_000, code, free_bytes
    assert "the disk of the server is full" in failure_of(bob.receive_messages(server.url("in")))
    assert not is_acknowledged(mesh_sandbox)
    server.room_bytes = None
    mesh_sandbox.add_fault("retrieve_chunk:1:respond=500")
    mesh_sandbox.add_fault("retrieve_message:1:respond=500")
    receive(mesh_sandbox, server).raise_for_failed()
    assert len(mesh_sandbox.pending_faults) == 1
    assert server.files() == {f"in/{message_id}": CONTENT}


@pytest.mark.parametrize("pattern", ["write", r"open .*\.part", "link", "opendir"])
def test_a_permission_that_ends(mesh_sandbox: Sandbox, bob: MeshClient, server: FaultyServer, pattern: str) -> None:
    message_id = deliver(mesh_sandbox, CHUNKS)
    server.add(pattern, "refuse", code=PERMISSION_DENIED, times=100)
    server.add("^rename", "refuse", code=PERMISSION_DENIED, times=100)
    try:
        said = failure_of(bob.receive_messages(server.url("in")))
    except StorageError as error:
        said = str(error)
    assert "permissions" in said
    assert not is_acknowledged(mesh_sandbox)
    server.breaks.clear()
    receive(mesh_sandbox, server).raise_for_failed()
    assert server.files() == {f"in/{message_id}": CONTENT}


def test_a_server_that_does_not_respond(mesh_sandbox: Sandbox, bob: MeshClient, server: FaultyServer) -> None:
    message_id = deliver(mesh_sandbox, CHUNKS)
    destination = SftpDestination(
        host="127.0.0.1", port=server.port, folder=str(server.folder), key="in", timeout_seconds=0.5
    )
    server.add("write", "stall", after=1)
    assert "did not respond within 0.5 s" in failure_of(bob.receive_messages(destination))
    bob.receive_messages(destination).raise_for_failed()
    destination.close()
    assert server.files() == {f"in/{message_id}": CONTENT}


def test_the_next_chunk_does_not_wait_for_the_writes_of_the_one_before(
    server: FaultyServer, destination: SftpDestination
) -> None:
    is_asked, may_write = threading.Event(), threading.Event()

    def wait() -> None:
        is_asked.set()
        assert may_write.wait(20)

    upload = destination.upload("M1")
    upload.start(MessageMetadata(message_id="M1", message_type="DATA"))
    upload.write([CHUNKS[0]])
    upload.checkpoint()
    server.add("write", "call", before=wait)
    upload.write([CHUNKS[1]])
    upload.checkpoint()
    # The server writes nothing before this has returned.
    upload.truncate(len(CHUNKS[0] + CHUNKS[1]))
    assert is_asked.wait(20)
    may_write.set()
    upload.write([CHUNKS[2]])
    upload.finish()
    assert upload.publish("in/M1")
    upload.remove()
    assert server.files() == {"in/M1": CONTENT}


@pytest.mark.filterwarnings("ignore:.*cannot make files durable")
@pytest.mark.parametrize("damage", ["shorter", "other"])
@pytest.mark.parametrize("when", [2, 3], ids=["a chunk", "the end"])
def test_a_server_without_fsync_that_loses_bytes(
    mesh_sandbox: Sandbox, bob: MeshClient, server: FaultyServer, damage: str, when: int
) -> None:
    """It is noticed when the file is read back; the message is fetched again."""
    message_id = deliver(mesh_sandbox, CHUNKS)
    server.without = frozenset({FSYNC})

    def lose() -> None:
        (path,) = (server.folder / "in/.incoming").glob("*.part")
        content = path.read_bytes()
        path.write_bytes(content[:-1] if damage == "shorter" else b"x" + content[1:])

    server.add(r"open .*\.part", "call", before=lose, after=when)
    (failed,) = bob.receive_messages(server.url("in")).failed
    assert isinstance(failed.error, StorageError if damage == "shorter" else IntegrityError)
    assert ("some are missing" if damage == "shorter" else "has stored other bytes than were sent") in str(failed.error)
    assert f"in/{message_id}" not in server.files()
    assert not is_acknowledged(mesh_sandbox)
    receive(mesh_sandbox, server).raise_for_failed()
    assert server.files() == {f"in/{message_id}": CONTENT}


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the system cannot interrupt a thread")
@pytest.mark.parametrize("pattern", ["limits", "opendir", "readdir"])
def test_an_interrupt_is_not_lost(server: FaultyServer, pattern: str) -> None:
    """Nor is a connection that it met: `close` closes it, or Python would warn of its socket."""
    destination = SftpDestination(host="127.0.0.1", port=server.port, folder=str(server.folder), key="in")
    (server.folder / "in/.nel-mesh/received/X26ABC2").mkdir(parents=True)
    server.add(pattern, "call", before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        destination.journal().open()
    destination.journal().open()
    destination.close()
    gc.collect()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the system cannot interrupt a thread")
def test_an_interrupt_at_any_operation(
    mesh_sandbox: Sandbox, bob: MeshClient, server: FaultyServer, destination: SftpDestination
) -> None:
    """The same process then goes on with the same destination."""
    assert threading.current_thread() is threading.main_thread()
    point, is_over = 1, False
    while not is_over:
        mesh_sandbox.reset()
        message_id = deliver(mesh_sandbox, CHUNKS)
        server.breaks.clear()
        server.add("", "call", before=interrupt, after=point - 1)
        try:
            bob.receive_messages(destination)
        except KeyboardInterrupt:
            bob.receive_messages(destination).raise_for_failed()
        else:
            assert server.breaks[0].times
            is_over = True
        assert is_acknowledged(mesh_sandbox)
        assert list(server.files()) == [f"in/{message_id}"], point
        stored = server.folder / "in" / message_id
        assert stored.read_bytes() == CONTENT
        stored.unlink()
        point += EVERY
    assert point > 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(server: FaultyServer, destination: SftpDestination) -> None:
    def store(message_id: str) -> None:
        upload = destination.upload(message_id)
        upload.start(MessageMetadata(message_id=message_id, message_type="DATA"))
        upload.write([CONTENT])
        upload.finish()
        assert upload.publish(f"in/{message_id}")
        upload.remove()

    store("M1")
    child = os.fork()
    if child == 0:
        try:
            store("M2")
            destination.close()
        except BaseException:  # noqa: BLE001 - the parent looks at the code
            os._exit(1)
        os._exit(0)
    store("M3")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store("M4")
    assert server.files() == {f"in/M{number}": CONTENT for number in range(1, 5)}


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [("", "aes256-gcm@openssh.com"), ("Ciphers aes128-ctr", "aes128-ctr")],
    ids=["no configuration", "configured"],
)
def test_a_fast_cipher_unless_another_is_configured(
    server: FaultyServer, destination: SftpDestination, configuration: str, expected: str
) -> None:
    file = server.home / ".ssh/config"
    file.write_text(configuration)
    destination.journal().open()
    file.unlink()
    (connection,) = server.connections
    assert connection.get_extra_info("recv_cipher") == expected


def test_the_ssh_configuration_names_the_server_and_its_keys(server: FaultyServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "keys"
    known_hosts.write_bytes(server.known_hosts.read_bytes())
    file = server.home / ".ssh/config"
    file.write_text(
        f"Host lab\n  HostName 127.0.0.1\n  Port {server.port}\nHost *\n  UserKnownHostsFile {known_hosts}\n"
    )
    (server.home / ".ssh/known_hosts").rename(tmp_path / "before")
    destination = SftpDestination(host="lab", folder=str(server.folder))
    try:
        destination.journal().open()
        known_hosts.write_text("")
        destination.close()
        with pytest.raises(StorageError, match=f"not known: nothing was sent.*ssh-keyscan -p {server.port} 127.0.0.1"):
            destination.journal().open()
    finally:
        destination.close()
        (tmp_path / "before").rename(server.known_hosts)
        file.unlink()


def test_a_key_that_is_no_longer_accepted(mesh_sandbox: Sandbox, bob: MeshClient, server: FaultyServer) -> None:
    deliver(mesh_sandbox, CHUNKS)
    server.accepts_nobody = True
    with pytest.raises(StorageError, match="refused the login of"):
        bob.receive_messages(server.url("in"))
    assert not is_acknowledged(mesh_sandbox)


def test_an_account_without_sftp(mesh_sandbox: Sandbox, bob: MeshClient, server: FaultyServer) -> None:
    deliver(mesh_sandbox, CHUNKS)
    server.has_sftp = False
    with pytest.raises(StorageError, match="refused SFTP to this account"):
        bob.receive_messages(server.url("in"))


METADATA = MessageMetadata(message_id="M1", message_type="DATA", checksum=hashlib.sha256(CONTENT).hexdigest())


def test_a_chunk_that_comes_twice(server: FaultyServer, destination: SftpDestination) -> None:
    upload = destination.upload("M1")
    upload.start(METADATA)
    upload.write([CHUNKS[0]])
    upload.checkpoint()
    upload.write([b"x" * 2_000_000])
    with pytest.raises(StorageError, match="cannot go back to 7 bytes"):
        upload.truncate(7)
    upload.truncate(len(CHUNKS[0]))
    upload.write(CHUNKS[1:])
    assert upload.finish().length == len(CONTENT)
    assert upload.digest("sha256", len(CONTENT)) == METADATA.checksum
    assert upload.publish("in/M1")
    upload.remove()
    assert server.files() == {"in/M1": CONTENT}


def test_a_write_that_fails_leaves_no_gap(server: FaultyServer, destination: SftpDestination) -> None:
    """A retry within the same upload is refused, whatever came after the failed write."""
    upload = destination.upload("M1")
    upload.start(METADATA)
    server.add("write", "refuse", after=1)
    for retry in (lambda: upload.write(CHUNKS * 8), lambda: upload.truncate(0), lambda: upload.write(CHUNKS)):
        with pytest.raises(StorageError, match="the server refused it"):
            retry()
    upload.close()


def test_the_disk_is_not_waited_for_while_a_chunk_is_written(
    server: FaultyServer, destination: SftpDestination
) -> None:
    """The end of a chunk that is made durable meanwhile is told at the end of the next; all arrived before it."""
    upload = destination.upload("M1")
    upload.start(METADATA)
    upload.write(CHUNKS)
    first = upload.checkpoint()
    arrived: list[int] = []
    length = 33 * MIB

    def note() -> None:
        (path,) = (server.folder / "in/.incoming").glob("*.part")
        arrived.append(path.stat().st_size)

    server.add("fsync", "call", before=note)
    upload.write([bytes(length)])
    assert upload.checkpoint() == first
    upload.write([bytes(length)])
    second = upload.checkpoint()
    assert (second.length, second.state) == (len(CONTENT) + length, first.state)
    assert arrived[0] >= second.length
    # The next one gets no response: a process that waited for it would fail here.
    server.add("fsync", "stall")
    asked = server.count("fsync")
    upload.write([bytes(10 * MIB)])
    # It was sent; the server counts it when it comes to it.
    until = time.monotonic() + 20
    while server.count("fsync") == asked and time.monotonic() < until:
        time.sleep(0.01)
    assert server.count("fsync") == asked + 1
    upload.close()


def test_content_is_made_durable_once_it_has_arrived(server: FaultyServer, destination: SftpDestination) -> None:
    """A server may work on several requests at once, and so make a file durable before a write that came earlier."""
    upload = destination.upload("M1")
    upload.start(METADATA)
    upload.write(CHUNKS)
    upload.checkpoint()
    asked = server.count("fsync")
    server.add("^write", "stall", after=32)
    upload.write([bytes(33 * MIB)])
    upload.checkpoint()
    upload.write([bytes(2 * MIB)])
    # Its requests come after all those before.
    destination.journal().open()
    assert server.count("fsync") == asked
    assert server.breaks[0].times == 0
    upload.close()


def test_a_disk_that_fails_is_told_once(server: FaultyServer, destination: SftpDestination) -> None:
    """So a message is not finished after that, though the server then says that all is durable."""
    upload = destination.upload("M1")
    upload.start(METADATA)
    upload.write(CHUNKS)
    upload.checkpoint()
    server.add("fsync", "refuse")
    upload.write([bytes(33 * MIB)])
    upload.checkpoint()
    with pytest.raises(StorageError, match="the server refused it"):
        upload.finish()
    with pytest.raises(StorageError, match="the server refused it"):
        upload.truncate(len(CONTENT))
    upload.close()


def test_a_message_that_another_machine_has_completed_meanwhile(
    server: FaultyServer, destination: SftpDestination
) -> None:
    one, other = destination.upload("M1"), destination.upload("M1")
    for upload in (one, other):
        upload.start(METADATA)
        upload.write([CONTENT])
        upload.finish()
    assert one.publish("in/M1")
    one.remove()
    with pytest.raises(StorageError, match="another process has removed it, as it received the same message"):
        other.publish("in/M1")
    other.close()
    assert server.files() == {"in/M1": CONTENT}


def test_a_sidecar_whose_name_is_taken(server: FaultyServer, destination: SftpDestination) -> None:
    with_sidecar = SftpDestination(
        host="127.0.0.1", port=server.port, folder=str(server.folder), key="in", sidecar=True
    )
    (server.folder / "in").mkdir()
    (server.folder / "in/M1.json").write_text("of others")
    upload = with_sidecar.upload("M1")
    upload.start(METADATA)
    upload.write([CONTENT])
    upload.finish()
    with pytest.raises(StorageError, match=r"M1\.json: something else is there, and is not replaced"):
        upload.publish("in/M1")
    upload.remove()
    with_sidecar.close()
    assert server.files()["in/M1.json"] == b"of others"
    assert "in/M1" not in server.files()


@pytest.mark.parametrize("state", [{}, {"part": "../../x"}, {"part": "0" * 16, "crc32": "x"}])
def test_a_record_of_others(destination: SftpDestination, state: dict[str, str]) -> None:
    with pytest.raises(StorageError, match="the record is not one that was written here; remove it"):
        destination.upload("M1").resume(state, METADATA)
