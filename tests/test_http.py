"""HTTP over real sockets and real TLS, against servers and proxies that misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import re
import socket
import ssl
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trustme
from anyio.from_thread import start_blocking_portal

from http_peers import LONG, Peer, Server, client_tls, echo, response, server_tls
from nel_mesh._async.http import AsyncConnectionPool
from nel_mesh._sync.http import ConnectionPool
from nel_mesh.errors import ConnectionFailed, ConnectionLost, InvalidArgument
from nel_mesh.http.proxy import Origin
from nel_mesh.http.sockets import TransportOptions
from nel_mesh.http.tls import BLOCK_BYTES, Tls
from nel_mesh.http.translation import transfer_error
from variants import VARIANTS, Face

BIG = bytes(range(256)) * 40_000
"""More than the system's buffers of two sockets take."""

SECRET = "pass%word:@/Jones"


class Blocks:
    """A body, sync and async. An exception among the blocks is raised, a callable is called."""

    def __init__(self, *blocks: bytes | BaseException | Callable[[], bytes]) -> None:
        self._blocks = iter(blocks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        if isinstance(block, BaseException):
            raise block
        return block if isinstance(block, bytes) else block()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


class Client:
    """A pool of connections of one variant."""

    def __init__(self, pool: Any, portal: Any) -> None:
        self._pool = Face(portal, pool) if portal else pool
        self._portal = portal

    def send(
        self, method: str = "GET", body: Sequence[Any] | None = None, length: int | None = None, **headers: str
    ) -> Any:
        blocks = None if body is None else Blocks(*body)
        if length is None:
            length = sum(len(block) for block in body or ())
        sent = self._pool.send(method, "/path", {"authorization": SECRET, **headers}, blocks, length)
        return Face(self._portal, sent) if self._portal else sent

    def ask(self, method: str = "GET", body: Sequence[Any] | None = None) -> bytes:
        got = self.send(method, body)
        got.read(100_000_000)
        assert got.status == 200
        return bytes(got.body)

    def waiting(self) -> list[Any]:
        """All who have a slot, or wait for one."""
        return list(self._slots()._line)

    def _slots(self) -> Any:
        return (self._pool._target if self._portal else self._pool)._slots

    def close(self) -> None:
        self._pool.close()


Connect = Callable[..., Client]


def connection(url: str, **keywords: Any) -> TransportOptions:
    usual: dict[str, Any] = {
        "ssl_context": None,
        "proxy": None,
        "connect_timeout_in_seconds": LONG,
        "read_timeout_in_seconds": LONG,
        "write_timeout_in_seconds": LONG,
        "response_head_timeout_in_seconds": LONG,
        "min_bytes_per_second": 0,
        "max_connections": 1,
    }
    return TransportOptions(url=url, **{**usual, **keywords})


@pytest.fixture(params=VARIANTS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make pools, in each variant in turn, of one connection: a slot that is not given back blocks the next request."""
    with contextlib.ExitStack() as stack:
        portal = None if request.param == "sync" else stack.enter_context(start_blocking_portal(request.param))

        def make(url: str, **keywords: Any) -> Client:
            settings = connection(url, **keywords)
            pool: Any
            if portal is None:
                pool = ConnectionPool(settings)
                stack.callback(pool.close)
            else:

                async def construct() -> AsyncConnectionPool:
                    return AsyncConnectionPool(settings)

                pool = portal.call(construct)
                stack.callback(portal.call, pool.close)
            return Client(pool, portal)

        yield make


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **keywords: stack.enter_context(Server(*arguments, **keywords))


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


Wire = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


@pytest.fixture(params=["plain", "TLSv1_2", "TLSv1_3"])
def wire(request: pytest.FixtureRequest, authority: trustme.CA) -> Wire:
    """The contexts of a server and of its client."""
    if request.param == "plain":
        return None, None
    return server_tls(authority, version=request.param), client_tls(authority)


@pytest.fixture
def tls(authority: trustme.CA) -> Wire:
    return server_tls(authority), client_tls(authority)


# One connection for many exchanges


def test_a_connection_carries_one_exchange_after_another(serve: Serve, connect: Connect, wire: Wire) -> None:
    server = serve(echo, wire[0])
    client = connect(server.url, ssl_context=wire[1])
    first = client.ask()
    assert first.split(b"\r\n")[:2] == [b"GET /path HTTP/1.1", f"host: 127.0.0.1:{server.port}".encode()]
    for body in (
        [b"one", b"two"],
        [BIG[:16384], b"x"],
        [BIG[:16385]],
        [BIG[k : k + 262144] for k in range(0, 2**21, 2**18)],
    ):
        assert client.ask("POST", body) == b"".join(body)
    assert server.connections == 1


def test_an_empty_body_is_announced_where_one_could_be(serve: Serve, connect: Connect) -> None:
    client = connect(serve(echo).url)
    for method, announced in (("POST", True), ("PUT", True), ("GET", False)):
        assert (b"\r\ncontent-length: 0\r\n" in client.ask(method)) is announced


SURPLUS = {
    "announced": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
}
FALSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse"


@pytest.mark.parametrize("kind", SURPLUS)
def test_surplus_bytes_are_not_taken_for_the_next_response(
    serve: Serve, connect: Connect, wire: Wire, kind: str
) -> None:
    """Surplus with the response, or after it."""
    later, come = threading.Event(), threading.Event()

    def surplus(peer: Peer) -> None:
        number = server.connections
        peer.request()
        if number == 1:
            peer.send(SURPLUS[kind] + FALSE)
        elif number == 2:
            peer.send(SURPLUS[kind])
            later.wait(LONG)
            peer.send(FALSE)
            come.set()
        else:
            peer.send(response(b"true"))
        assert peer.wait_for_the_end() == b""

    server = serve(surplus, wire[0])
    client = connect(server.url, ssl_context=wire[1])
    for _ in range(2):
        got = client.send()
        got.read(100)
        assert got.body == (b"" if got.status == 204 else b"ok")
    later.set()
    assert come.wait(LONG)
    assert client.ask() == b"true"
    assert server.connections == 3
    client.close()


@pytest.mark.parametrize("what", ["Connection: close", "Transfer-Encoding: chunked"])
def test_a_connection_is_not_reused_after_a_response_that_ends_it(serve: Serve, connect: Connect, what: str) -> None:
    def once(peer: Peer) -> None:
        peer.request()
        peer.send(response(b"2\r\nok\r\n0\r\n\r\n", 200, what))
        assert peer.wait_for_the_end() == b""

    server = serve(once)
    client = connect(server.url)
    assert client.ask().endswith(b"ok\r\n0\r\n\r\n" if "close" in what else b"ok")
    client.ask()
    assert server.connections == 2


def test_a_connection_that_tls_has_ended_is_not_reused(serve: Serve, connect: Connect, wire: Wire) -> None:
    """TCP is only half closed, and would carry another request."""

    def half(peer: Peer) -> None:
        peer.request()
        if wire[0]:
            peer.raw.sendall(peer.encoded(response(b"ok")) + peer.close_notify())
        else:
            peer.send(response(b"ok"))
            peer.raw.shutdown(socket.SHUT_WR)
        closed.release()
        assert peer.wait_for_the_end() == b""

    closed = threading.Semaphore(0)
    server = serve(half, wire[0])
    client = connect(server.url, ssl_context=wire[1])
    for number in (1, 2, 3):
        assert client.ask() == b"ok"
        assert server.connections == number
        assert closed.acquire(timeout=LONG)


def test_content_left_in_tls_makes_a_connection_not_quiet(authority: trustme.CA) -> None:
    ours = Tls(client_tls(authority), "127.0.0.1")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server_tls(authority).wrap_bio(incoming, outgoing, server_side=True)
    while not ours.do_handshake():
        incoming.write(ours.to_send())
        with contextlib.suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        ours.feed(outgoing.read())
    incoming.write(ours.to_send())
    theirs.do_handshake()
    theirs.write(bytes(BLOCK_BYTES + 1000))
    ours.feed(outgoing.read())
    assert (len(ours.read()), ours.is_quiet()) == (BLOCK_BYTES, False)
    assert (len(ours.read()), ours.is_quiet()) == (1000, True)
    ours.feed(b"")
    assert (bytes(ours.read()), ours.is_quiet(), ours.ended) == (b"", False, True)


def in_a_child(run: Callable[[], object]) -> None:
    """Run something in a fork of this process; it must not raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
        child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        try:
            run()
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")


@can_fork
def test_a_forked_child_does_not_use_its_parents_connection(serve: Serve, tls: Wire) -> None:
    server = serve(echo, tls[0])
    client = Client(ConnectionPool(connection(server.url, ssl_context=tls[1])), None)
    client.ask()

    def run() -> None:
        client.ask()
        client.close()

    in_a_child(run)
    assert server.connections == 2
    client.ask()
    assert server.connections == 2
    client.close()


@can_fork
def test_a_forked_child_has_every_slot_although_its_parent_uses_one(serve: Serve) -> None:
    """A23: the thread that has the slot does not exist in the child. The child cannot read the parent's response."""

    def give(peer: Peer) -> None:
        while peer.head():
            peer.send(response(BIG))

    client = Client(ConnectionPool(connection(serve(give).url)), None)
    held = client.send()

    def run() -> None:
        with pytest.raises(ConnectionLost, match="belongs to the process"):
            held.read(len(BIG))
        for _ in range(2):
            client.ask()

    in_a_child(run)
    held.read(len(BIG))
    assert held.body == BIG
    client.close()


def test_idle_connections_that_will_not_be_used_again_are_closed(serve: Serve, connect: Connect) -> None:
    """A23: all of them, at the next request."""
    enough = threading.Barrier(5)

    def once(peer: Peer) -> None:
        peer.request()
        enough.wait(LONG)
        peer.send(response(b"ok"))
        peer.raw.shutdown(socket.SHUT_WR)
        ended.release()
        assert peer.wait_for_the_end() == b""
        closed.release()

    ended, closed = threading.Semaphore(0), threading.Semaphore(0)
    client = connect(serve(once).url, max_connections=5)
    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(lambda _: client.ask(), range(5))) == [b"ok"] * 5
        for _ in range(5):
            assert ended.acquire(timeout=LONG)
        again = threads.submit(client.ask)
        for _ in range(5):
            assert closed.acquire(timeout=LONG)
        for _ in range(4):
            threads.submit(enough.wait, LONG)
        assert again.result(LONG) == b"ok"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_second_event_loop_is_refused(serve: Serve, backend: str) -> None:
    """A23: its waits would never be woken, or end in an error of the other loop."""
    server = serve(echo)
    pool = AsyncConnectionPool(connection(server.url))

    async def ask() -> None:
        got = await pool.send("GET", "/", {})
        await got.read(10_000)

    anyio.run(ask, backend=backend)
    for other in ("asyncio", "trio"):
        with pytest.raises(InvalidArgument, match="in another event loop before; make one client in each"):
            anyio.run(ask, backend=other)
    anyio.run(pool.close, backend=backend)


class LoopWithoutReadiness(asyncio.SelectorEventLoop):
    """Like the proactor loop of Windows, which cannot wait until a socket is readable or writable."""

    def refuse(self, *_: object) -> None:
        raise NotImplementedError

    add_reader = add_writer = remove_reader = remove_writer = refuse  # type: ignore[assignment]


def test_an_event_loop_that_cannot_wait_for_sockets(serve: Serve, tls: Wire) -> None:
    """anyio waits in a thread then; sending that stalls, and a close by another task, included."""

    def echo_once(peer: Peer) -> None:
        peer.send(response(peer.request()[1]))
        peer.head()
        waiting.set()
        peer.wait_for_the_end()

    async def talk() -> None:
        pool = AsyncConnectionPool(connection(server.url, ssl_context=tls[1]))
        got = await pool.send("POST", "/", {}, Blocks(BIG), len(BIG))
        await got.read(len(BIG))
        assert got.body == BIG
        async with anyio.create_task_group() as group:
            group.start_soon(lose, pool)
            await anyio.to_thread.run_sync(waiting.wait, LONG)
            await pool.close()

    async def lose(pool: AsyncConnectionPool) -> None:
        with pytest.raises(ConnectionLost):
            await pool.send("GET", "/", {})

    waiting = threading.Event()
    server = serve(echo_once, tls[0])
    anyio.run(talk, backend_options={"loop_factory": LoopWithoutReadiness})


def test_a_slot_is_free_once_its_holder_is_gone(serve: Serve, connect: Connect) -> None:
    """R14: also where it was not released, as after an interrupt during the release."""
    client = connect(serve(lambda peer: (peer.request(), peer.send(response(b"ok")))).url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that its socket was not closed
        held = client.send()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.ask)
            del held
            gc.collect()
            assert waiting.result(LONG) == b"ok"


def test_slots_are_given_in_the_order_of_the_requests(serve: Serve, connect: Connect) -> None:
    served: list[bytes] = []

    def note(peer: Peer) -> None:
        while head := peer.head():
            served.append(head)
            peer.send(response(b"ok"))

    client = connect(serve(note).url)
    held = client.send()
    with ThreadPoolExecutor(8) as threads:
        asked = []
        for number in range(8):
            asked.append(threads.submit(lambda number: client.send(number=str(number)).read(10), number))
            while len(client.waiting()) < number + 2:
                assert not asked[-1].done()
        held.read(10)
        for one in asked:
            one.result(LONG)
    assert [re.findall(rb"number: (\d)", head) for head in served] == [[], *([b"%d" % number] for number in range(8))]


# Requests


@pytest.mark.parametrize(
    ("blocks", "length"), [([b"ab", b"cd"], 3), ([b"ab", b"c"], 4), ([b"ab", b"", b"cd"], 4), ([], 1)]
)
def test_a_body_of_another_length_than_announced_raises_and_is_not_completed(
    serve: Serve, connect: Connect, blocks: list[bytes], length: int
) -> None:
    said: list[bytes] = []
    server = serve(lambda peer: said.append(peer.wait_for_the_end()))
    client = connect(server.url)
    with pytest.raises(ValueError, match="not as long as announced"):
        client.send("POST", blocks, length)
    assert server.ended.acquire(timeout=LONG)
    assert len(said[0].partition(b"\r\n\r\n")[2]) < length


def test_an_exception_of_the_body_passes_through_and_closes_the_connection(
    serve: Serve, connect: Connect, request: pytest.FixtureRequest
) -> None:
    server = serve(echo)
    client = connect(server.url)
    errors: list[BaseException] = [RuntimeError("the caller's own")]
    if request.node.callspec.params["connect"] == "sync":
        errors.append(KeyboardInterrupt())  # in the other variants it would end the loop in its thread
    for error in errors:
        client.ask()
        with pytest.raises(type(error)) as caught:
            client.send("POST", [BIG[:20000], error, b""], 30000)
        assert caught.value is error
        assert server.ended.acquire(timeout=LONG)
        assert isinstance(server.failures.pop(), AssertionError)
    assert client.ask()


REFUSAL = response(b"too much", 413)


@pytest.mark.parametrize("then", ["hang up", "stop reading", "read on", "reset"])
def test_a_response_that_comes_before_the_end_of_the_request_is_read(
    serve: Serve, connect: Connect, wire: Wire, then: str
) -> None:
    """A19: whatever the server does with the rest of the body. A20: the connection is not reused."""
    heard = threading.Event()

    def refuse(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSAL[:20])
        peer.send(REFUSAL[20:])
        if then == "hang up":
            peer.raw.shutdown(socket.SHUT_WR)
        elif then == "read on":
            peer.wait_for_the_end()
        if then in ("hang up", "stop reading"):
            heard.wait(LONG)
        else:
            peer.reset()

    server = serve(refuse, wire[0])
    client = connect(server.url, ssl_context=wire[1], write_timeout_in_seconds=LONG)
    for number in (1, 2):
        began = time.monotonic()
        got = client.send("POST", [BIG, BIG, BIG])
        got.read(100)
        assert (got.status, got.body) == (413, b"too much")
        assert time.monotonic() - began < LONG / 2
        assert server.connections == number
    heard.set()


@pytest.mark.parametrize("length", [0, 10, 1_000_000])
def test_a_connection_is_not_reused_after_a_body_was_refused(
    serve: Serve, connect: Connect, wire: Wire, length: int
) -> None:
    """A20: a server that refuses a body unread and keeps the connection takes the body for a request, and sends 400."""

    def refuse(peer: Peer) -> None:
        while peer.head():
            peer.send(response(b"", 401))
            if length:
                asked.wait(LONG)
                with contextlib.suppress(OSError):
                    peer.send(response(b"what?", 400))
                return

    asked = threading.Event()
    server = serve(refuse, wire[0])
    client = connect(server.url, ssl_context=wire[1])
    for _ in range(2):
        got = client.send("POST", [bytes(length)])
        got.read(100)
        assert got.status == 401
    asked.set()
    assert server.connections == (2 if length else 1)


def test_a_client_certificate_refused_during_a_long_upload_is_reported(
    serve: Serve, connect: Connect, authority: trustme.CA
) -> None:
    """A19: in TLS 1.3 the alert comes while the body is sent, and then a reset."""
    context = server_tls(authority)
    context.verify_mode = ssl.CERT_REQUIRED

    def demand(raw: Peer) -> None:
        with pytest.raises(ssl.SSLError):
            Peer(raw.raw, context).request()
        raw.reset()

    client = connect(serve(demand, context, plain_until_asked=True).url, ssl_context=client_tls(authority))
    for _ in range(5):
        with pytest.raises(ConnectionFailed, match="the server refuses our certificate, or wants one") as caught:
            client.send("POST", [BIG, BIG])
        assert not caught.value.transient


def test_a_client_certificate_asked_for_during_a_body_is_shown(
    serve: Serve, connect: Connect, authority: trustme.CA
) -> None:
    """A6: the server asks once it has read the head; what comes meanwhile is read, or both sides would wait."""
    server_context = server_tls(authority)
    server_context.post_handshake_auth = True
    server_context.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(server_context)
    client_context = client_tls(authority)
    client_context.post_handshake_auth = True
    authority.issue_cert("client.example").configure_cert(client_context)

    def ask(peer: Peer) -> None:
        peer.head()
        peer.tls_object.verify_client_post_handshake()
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        peer.take(3 * len(BIG))
        peer.send(response(b"shown" if peer.tls_object.getpeercert() else b"not shown"))
        peer.wait_for_the_end()

    client = connect(serve(ask, server_context).url, ssl_context=client_context)
    assert client.ask("POST", [BIG, BIG, BIG]) == b"shown"


def test_a_success_before_the_end_of_the_request_is_an_error(serve: Serve, connect: Connect) -> None:
    def lie(peer: Peer) -> None:
        peer.head()
        peer.send(response(b"", 202))

    client = connect(serve(lie).url)
    with pytest.raises(ConnectionLost) as caught:
        client.send("POST", [BIG])
    assert caught.value.request_complete


# Responses


CUT = {
    "nothing": (b"", "without sending a response"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", "closed before the whole head of a response"),
    "an interim response": (b"HTTP/1.1 100 Continue\r\n\r\n", "closed before the whole head of a response"),
    "announced": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour", "after 4 of 5 bytes"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n", "closed"),
}


@pytest.mark.parametrize("how", ["close_notify", "silence", "record"])
@pytest.mark.parametrize("kind", CUT)
def test_a_response_cut_in_tls_raises_connection_lost(
    serve: Serve, connect: Connect, tls: Wire, kind: str, how: str
) -> None:
    """With a close_notify alert, without it, and in the middle of a record."""

    def cut(peer: Peer) -> None:
        peer.request()
        said = CUT[kind][0] or b"x" * (how == "record")
        coded = peer.encoded(said) if said else b""
        coded = coded[:-1] if how == "record" else coded
        peer.raw.sendall(coded + (peer.close_notify() if how == "close_notify" else b""))
        peer.raw.shutdown(socket.SHUT_WR)
        peer.wait_for_the_end()

    client = connect(serve(cut, tls[0]).url, ssl_context=tls[1])
    with pytest.raises(ConnectionLost, match=None if how == "record" else CUT[kind][1]) as caught:
        client.ask()
    assert caught.value.request_complete


def test_a_body_without_an_announced_end_is_not_delimited(serve: Serve, connect: Connect, wire: Wire) -> None:
    def undelimited(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\ncontent")

    server = serve(undelimited, wire[0])
    client = connect(server.url, ssl_context=wire[1])
    got = client.send()
    assert (got.is_delimited, got.fraction_received) == (False, 0.0)
    got.read(100)
    assert got.body == b"content"
    client.ask()
    assert server.connections == 2


def test_a_response_is_read_although_an_alert_follows(serve: Serve, connect: Connect, tls: Wire) -> None:
    """Both in one packet: the alert must not undo a response by which MESH has the message."""

    def alarm(peer: Peer) -> None:
        peer.request()
        peer.raw.sendall(peer.encoded(response(b'{"messageID": "1"}', 200)) + peer.alert())
        peer.wait_for_the_end()

    server = serve(alarm, tls[0])
    client = connect(server.url, ssl_context=tls[1])
    for number in (1, 2):
        assert client.ask("POST", [b"content"]) == b'{"messageID": "1"}'
        assert server.connections == number


def test_an_alert_within_a_response_raises_at_each_read(serve: Serve, connect: Connect, tls: Wire) -> None:
    def alarm(peer: Peer) -> None:
        peer.request()
        peer.raw.sendall(peer.encoded(b"HTTP/1.1 200 OK\r\n\r\npart") + peer.alert())
        peer.wait_for_the_end()

    got = connect(serve(alarm, tls[0]).url, ssl_context=tls[1]).send()
    assert got.next_block() == b"part"
    for _ in range(3):
        with pytest.raises(ConnectionLost, match="TLS failed"):
            got.next_block()
    got.close()


@pytest.mark.parametrize("reason", ["TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_ACCESS_DENIED"])
def test_an_alert_means_a_refused_certificate_only_before_the_first_response(reason: str) -> None:
    alert = ssl.SSLError(1, "alert")
    alert.reason = reason
    refused = transfer_error(alert, fresh=True)
    assert isinstance(refused, ConnectionFailed)
    assert not refused.transient
    assert isinstance(transfer_error(alert), ConnectionLost)


def test_reading_a_closed_response_raises(serve: Serve, connect: Connect) -> None:
    client = connect(serve(lambda peer: (peer.request(), peer.send(response(BIG)), peer.wait_for_the_end())).url)
    got = client.send()
    assert got.next_block()
    assert 0 < got.fraction_received < 1
    got.close()
    got.close()
    with pytest.raises(ConnectionLost, match="closed before its end"):
        got.next_block()


def test_interim_responses_are_skipped(serve: Serve, connect: Connect) -> None:
    def interim(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        peer.send(response(b"ok"))
        peer.wait_for_the_end()

    assert connect(serve(interim).url).ask() == b"ok"


@pytest.mark.parametrize("endless", [b"HTTP/1.1 100 Continue\r\n\r\n", b"Name: value\r\n", b"x"])
def test_a_head_without_end_raises_connection_lost(serve: Serve, connect: Connect, endless: bytes) -> None:
    def flood(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n" if endless.startswith(b"N") else b"")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                peer.send(endless * 100)

    with pytest.raises(ConnectionLost):
        connect(serve(flood).url).ask()


def test_errors_quote_neither_the_request_nor_the_response(serve: Serve, connect: Connect) -> None:
    def mirror(peer: Peer) -> None:
        head, _ = peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nX\x00" + head.replace(b"\r\n", b" ") + b"\r\n\r\n")

    with pytest.raises(ConnectionLost, match="illegal header line") as caught:
        connect(serve(mirror).url).ask()
    cause: BaseException | None = caught.value
    while cause is not None:
        assert "Jones" not in f"{cause} {cause!r}"
        cause = cause.__cause__ or cause.__context__


# Timeouts


def test_a_handshake_that_never_comes_times_out(serve: Serve, connect: Connect, tls: Wire) -> None:
    server = serve(lambda peer: peer.wait_for_the_end(), tls[0], plain_until_asked=True)
    client = connect(server.url, ssl_context=tls[1], connect_timeout_in_seconds=0.15)
    with pytest.raises(ConnectionFailed, match="no connection within the connect timeout"):
        client.ask()
    assert server.ended.acquire(timeout=LONG)


def test_a_handshake_that_trickles_times_out(serve: Serve, connect: Connect, tls: Wire) -> None:
    """The limit is for the whole handshake, not for each byte."""

    def trickle(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            for byte in b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03" + bytes(16000):
                peer.raw.sendall(bytes([byte]))
                time.sleep(0.0005)

    server = serve(trickle, tls[0], plain_until_asked=True)
    client = connect(server.url, ssl_context=tls[1], connect_timeout_in_seconds=0.15)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match="no connection within the connect timeout"):
        client.ask()
    assert time.monotonic() - began < 5


def test_a_response_that_never_comes_times_out(serve: Serve, connect: Connect, wire: Wire) -> None:
    server = serve(lambda peer: peer.wait_for_the_end(), wire[0])
    client = connect(server.url, ssl_context=wire[1], read_timeout_in_seconds=0.15)
    with pytest.raises(ConnectionLost, match="nothing came within the read timeout") as caught:
        client.ask("POST", [b"content"])
    assert caught.value.request_complete
    assert server.ended.acquire(timeout=LONG)


def test_a_response_that_never_ends_times_out(serve: Serve, connect: Connect) -> None:
    def begin(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour")
        peer.wait_for_the_end()

    server = serve(begin)
    client = connect(server.url, read_timeout_in_seconds=0.15)
    with pytest.raises(ConnectionLost, match="nothing came within the read timeout"):
        client.ask()
    assert server.ended.acquire(timeout=LONG)


def test_a_request_that_is_never_read_times_out(serve: Serve, connect: Connect, wire: Wire) -> None:
    done = threading.Event()
    server = serve(lambda _: done.wait(LONG), wire[0])
    client = connect(server.url, ssl_context=wire[1], write_timeout_in_seconds=0.15)
    with pytest.raises(ConnectionLost, match="nothing could be sent within the write timeout") as caught:
        client.ask("POST", [BIG, BIG])
    assert not caught.value.request_complete
    done.set()


def test_waiting_for_a_slot_times_out(serve: Serve, connect: Connect) -> None:
    client = connect(serve(echo).url, read_timeout_in_seconds=0.15)
    held = client.send()
    with pytest.raises(ConnectionFailed, match="no connection became free; raise max_connections"):
        client.ask()
    held.close()
    assert client.ask()


@pytest.fixture
def deaf_address() -> Iterator[Callable[[int], str]]:
    """Make an address that never accepts, at a given port: its queue is full."""
    with contextlib.ExitStack() as stack:

        def make(port: int) -> str:
            deaf = stack.enter_context(socket.socket())
            try:
                deaf.bind(("127.0.0.2", port))
            except OSError:
                pytest.skip("the system has no second address")
            deaf.listen(0)
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.2", port))
            return "127.0.0.2"

        yield make


def resolve_to(monkeypatch: pytest.MonkeyPatch, port: int, *hosts: str) -> None:
    """Make the system's resolver find these addresses for every name."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_addresses_are_tried_side_by_side(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    deaf_address: Callable[[int], str],
    tls: Wire,
) -> None:
    """One address that never accepts and one that refuses delay a connection little."""
    server = serve(echo, tls[0])
    deaf = deaf_address(server.port)
    client = connect(server.url, ssl_context=tls[1], connect_timeout_in_seconds=LONG)
    resolve_to(monkeypatch, server.port, "127.0.0.3", deaf, "127.0.0.1")
    began = time.monotonic()
    assert client.ask()
    assert time.monotonic() - began < LONG / 2
    assert server.connections == 1


def test_the_last_failure_is_raised_if_no_address_accepts(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, deaf_address: Callable[[int], str]
) -> None:
    server = serve(echo)
    client = connect(server.url, connect_timeout_in_seconds=0.4)
    resolve_to(monkeypatch, server.port, "127.0.0.3", "127.0.0.4")
    with pytest.raises(ConnectionFailed, match="refused"):
        client.ask()
    resolve_to(monkeypatch, server.port, deaf_address(server.port))
    with pytest.raises(ConnectionFailed, match="no connection within the connect timeout"):
        client.ask()
    resolve_to(monkeypatch, server.port)
    with pytest.raises(ConnectionFailed, match="the name has no address"):
        client.ask()


def test_name_resolution_is_within_the_connect_timeout(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A7: the resolver's thread is not waited for afterwards, nor by asyncio.run."""
    answered = threading.Event()

    def silent(*_: object, flags: int = 0, **__: object) -> list[object]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        answered.wait(3 * LONG)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    client = connect("http://mesh.example", connect_timeout_in_seconds=0.15)
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="no connection within the connect timeout .mesh.example:80."):
            client.ask()

    async def ask() -> None:
        pool = AsyncConnectionPool(connection("http://mesh.example", connect_timeout_in_seconds=0.15))
        with pytest.raises(ConnectionFailed):
            await pool.send("GET", "/", {})

    anyio.run(ask)
    assert time.monotonic() - began < LONG
    answered.set()


def test_an_unknown_name_raises_connection_failed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailed, match="mesh.example:80: .*not known") as caught:
        connect("http://mesh.example").ask()
    assert caught.value.transient


@pytest.mark.parametrize("what", ["head", "interim", "body", "chunks"])
def test_a_response_that_trickles_times_out(serve: Serve, connect: Connect, wire: Wire, what: str) -> None:
    """A21: the whole head, and the speed of a body, have limits, although every single wait is short."""
    begun = {
        "head": b"HTTP/1.1 200 OK\r\n",
        "interim": b"",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    }[what]
    drop = {"head": b"Name: x\r\n", "interim": b"HTTP/1.1 102 Wait\r\n\r\n", "body": b"x", "chunks": b"1\r\nx\r\n"}[
        what
    ]

    def trickle(peer: Peer) -> None:
        peer.request()
        with contextlib.suppress(OSError):
            peer.send(begun)
            while True:
                peer.send(drop)
                time.sleep(0.02)

    client = connect(
        serve(trickle, wire[0]).url,
        ssl_context=wire[1],
        read_timeout_in_seconds=0.3,
        response_head_timeout_in_seconds=0.5,
        min_bytes_per_second=10_000,
        speed_window_in_seconds=0.3,
    )
    limit = "response_head_timeout_in_seconds" if what in ("head", "interim") else "slower than 10000 bytes a second"
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match=limit) as caught:
        client.ask()
    assert caught.value.request_complete
    assert time.monotonic() - began < LONG / 2


def test_a_tls_record_that_trickles_times_out(serve: Serve, connect: Connect, tls: Wire) -> None:
    """A21: bytes count before the record is complete."""

    def trickle(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        with contextlib.suppress(OSError):
            for byte in peer.encoded(bytes(10_000)):
                peer.raw.sendall(bytes([byte]))
                time.sleep(0.01)

    client = connect(
        serve(trickle, tls[0]).url,
        ssl_context=tls[1],
        read_timeout_in_seconds=0.2,
        min_bytes_per_second=10_000,
        speed_window_in_seconds=0.2,
    )
    with pytest.raises(ConnectionLost, match="slower than 10000 bytes a second"):
        client.ask()


def test_a_body_that_is_read_slowly_times_out(serve: Serve, connect: Connect, wire: Wire) -> None:
    """A21: the speed of a request's body has the same limit."""
    done = threading.Event()

    def sip(peer: Peer) -> None:
        while not done.wait(0.01):
            peer.raw.recv(65536)

    client = connect(
        serve(sip, wire[0]).url,
        ssl_context=wire[1],
        write_timeout_in_seconds=2.0,
        min_bytes_per_second=100_000_000,
        speed_window_in_seconds=0.2,
    )
    with pytest.raises(ConnectionLost, match="slower than") as caught:
        client.send("POST", [BIG] * 40)
    assert not caught.value.request_complete
    done.set()


def test_time_that_the_caller_takes_between_blocks_does_not_count(serve: Serve, connect: Connect) -> None:
    def give(peer: Peer) -> None:
        peer.request()
        peer.send(response(bytes(5 * BLOCK_BYTES)))
        peer.wait_for_the_end()

    client = connect(
        serve(give).url, read_timeout_in_seconds=0.05, min_bytes_per_second=10_000_000, speed_window_in_seconds=0.05
    )
    got = client.send()
    while got.next_block() is not None:
        time.sleep(0.06)
    got.close()


# The server's identity


def test_a_server_of_another_name_receives_no_request(serve: Serve, connect: Connect, authority: trustme.CA) -> None:
    heard: list[bytes] = []
    server = serve(lambda peer: heard.append(peer.head()), server_tls(authority, "mesh.example"))
    client = connect(server.url, ssl_context=client_tls(authority))
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="certificate is not trusted") as caught:
            client.ask()
        assert not caught.value.transient
        assert server.ended.acquire(timeout=LONG)
    assert heard == []


def test_a_final_dot_of_the_host_is_not_verified(serve: Serve, connect: Connect, authority: trustme.CA) -> None:
    """A23: `localhost.` is `localhost`."""
    server = serve(echo, server_tls(authority, "localhost"))
    client = connect(f"https://localhost.:{server.port}", ssl_context=client_tls(authority))
    assert f"\r\nhost: localhost:{server.port}\r\n".encode() in client.ask()
    assert Origin.parse("https://mesh.example.:8443").tls_name == "mesh.example"


def test_a_server_that_closes_during_the_handshake_is_a_transient_failure(
    serve: Serve, connect: Connect, tls: Wire
) -> None:
    def hang_up(peer: Peer) -> None:
        peer.raw.recv(10_000)
        peer.raw.shutdown(socket.SHUT_WR)
        peer.wait_for_the_end()

    server = serve(hang_up, tls[0], plain_until_asked=True)
    with pytest.raises(ConnectionFailed) as caught:
        connect(server.url, ssl_context=tls[1]).ask()
    assert caught.value.transient


def test_a_server_without_tls_is_a_permanent_failure(serve: Serve, connect: Connect, tls: Wire) -> None:
    def plain(peer: Peer) -> None:
        peer.raw.recv(10_000)
        peer.raw.sendall(response(b"hello", 400))
        peer.wait_for_the_end()

    server = serve(plain, tls[0], plain_until_asked=True)
    with pytest.raises(ConnectionFailed, match="TLS failed") as caught:
        connect(server.url, ssl_context=tls[1]).ask()
    assert not caught.value.transient


def test_ipv6(serve: Serve, connect: Connect, authority: trustme.CA) -> None:
    try:
        server = serve(echo, server_tls(authority, "::1"), host="::1")
    except OSError:
        pytest.skip("the system has no IPv6")
    client = connect(server.url, ssl_context=client_tls(authority))
    assert f"\r\nhost: [::1]:{server.port}\r\n".encode() in client.ask()


# Proxies


class Proxy:
    """A proxy that connects every client to one server, whatever name it asks for."""

    def __init__(self, target: Server | None = None, reply: bytes = b"HTTP/1.1 200 Established\r\n\r\n") -> None:
        self.heads: list[bytes] = []
        self._target = target
        self._reply = reply

    def __call__(self, peer: Peer) -> None:
        self.heads.append(peer.head())
        peer.send(self._reply)
        if self._target is None:
            assert peer.wait_for_the_end() == b""
            return
        with socket.create_connection(("127.0.0.1", self._target.port)) as onward:
            back = threading.Thread(target=self._back, args=(onward, peer), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while block := peer.receive():
                    onward.sendall(block)
            # S12: also after an error, as the server waits for an end.
            with contextlib.suppress(OSError):
                onward.shutdown(socket.SHUT_WR)
            back.join(LONG)

    @staticmethod
    def _back(onward: socket.socket, peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while block := onward.recv(65536):
                peer.send(block)
        with contextlib.suppress(OSError):
            peer.raw.shutdown(socket.SHUT_RDWR)


USER = "Basic " + base64.b64encode(b"nurse:" + SECRET.encode()).decode()


def with_user(url: str) -> str:
    return url.replace("://", "://nurse:pass%25word%3A%40%2FJones@")


@pytest.fixture(params=["http", "https"])
def proxy_tls(request: pytest.FixtureRequest) -> Wire:
    """The contexts for a proxy without TLS, and for one whose authority is not that of the server."""
    if request.param == "http":
        return None, None
    authority = trustme.CA()
    return server_tls(authority), client_tls(authority)


def test_a_tunnel_carries_tls_and_no_proxy_headers(
    serve: Serve, connect: Connect, authority: trustme.CA, proxy_tls: Wire
) -> None:
    name = "xn--bcher-kva.example"
    server = serve(echo, server_tls(authority, name))
    proxy = Proxy(server)
    proxy_server = serve(proxy, proxy_tls[0])
    client = connect(
        f"https://{name}",
        ssl_context=client_tls(authority),
        proxy=with_user(proxy_server.url),
        proxy_ssl_context=proxy_tls[1],
    )
    head = client.ask()
    assert head.startswith(f"GET /path HTTP/1.1\r\nhost: {name}\r\n".encode())
    assert b"proxy-" not in head.lower()
    assert client.ask("POST", [BIG]) == BIG
    assert proxy.heads == [
        f"CONNECT {name}:443 HTTP/1.1\r\nhost: {name}:443\r\nproxy-authorization: {USER}\r\n".encode()
    ]
    assert server.connections == proxy_server.connections == 1


def test_a_request_without_tls_has_the_whole_address_for_its_proxy(
    serve: Serve, connect: Connect, proxy_tls: Wire
) -> None:
    server = serve(echo, proxy_tls[0])
    client = connect("http://mesh.example/base", proxy=with_user(server.url), proxy_ssl_context=proxy_tls[1])
    for _ in range(2):
        lines = client.ask().split(b"\r\n")
        assert lines[:2] == [b"GET http://mesh.example/base/path HTTP/1.1", b"host: mesh.example"]
        assert f"proxy-authorization: {USER}".encode() in lines
    assert server.connections == 1


@pytest.mark.parametrize(
    ("reply", "says", "transient"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 6\r\n\r\nJones!",
            "refuses this user and password .407.: check proxy_user",
            False,
        ),
        (
            b'HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm="Jones, Mrs", charset="UTF-8"\r\n'
            b"Proxy-Authenticate: Negotiate\r\n\r\n",
            "refuses this user and password .407.: check proxy_user",
            False,
        ),
        (
            b"HTTP/1.1 407 X\r\nProxy-Authenticate: Negotiate\r\n"
            b'Proxy-Authenticate: NTLM abc==, Digest realm="Basic, Jones", qop=auth\r\n\r\n',
            "offers Negotiate and NTLM and Digest only .407., and nel-mesh speaks Basic",
            False,
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refuses .status 403.: ask its operators to let this machine", False),
        (b"HTTP/1.1 429 Slow down\r\n\r\n", "refuses .status 429.$", True),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refuses .status 502.$", True),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "refuses .status 302.$", True),
        (b"SSH-2.0-Jones\r\n\r\n", "does not answer as a proxy: illegal status line$", True),
        (b"HTTP/1.1 200 OK\r\nJones\r\n\r\n", "does not answer as a proxy: illegal header line$", True),
    ],
)
def test_a_proxys_refusal_names_the_proxy_and_the_reason(
    serve: Serve, connect: Connect, tls: Wire, reply: bytes, says: str, transient: bool
) -> None:
    """A13: a lasting refusal is final at once. The error says which schemes the proxy offers."""
    proxy = serve(Proxy(reply=reply))
    client = connect("https://mesh.example", ssl_context=tls[1], proxy=with_user(proxy.url))
    place = f"to mesh.example:443 by the proxy 127.0.0.1:{proxy.port}: the proxy 127.0.0.1:{proxy.port} "
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match=f"{place}.*{says}") as caught:
            client.ask()
        assert proxy.ended.acquire(timeout=LONG)
        assert caught.value.transient is transient
        for error in (caught.value, caught.value.__cause__, caught.value.__context__):
            assert "Jones" not in f"{error} {error!r}"
            assert USER not in f"{error} {error!r}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_names_the_settings(
    serve: Serve, connect: Connect, tls: Wire, scheme: str
) -> None:
    """A13: for a tunnel, and for a request without TLS, to which the proxy itself responds."""
    proxy = serve(Proxy(reply=b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"))
    client = connect(f"{scheme}://mesh.example", ssl_context=tls[1] if scheme == "https" else None, proxy=proxy.url)
    with pytest.raises(ConnectionFailed, match="wants a user and password .407.: set proxy_user") as caught:
        client.ask()
    assert not caught.value.transient


@pytest.mark.parametrize("listens", [True, False])
def test_an_error_names_a_proxy_that_is_down(serve: Serve, connect: Connect, tls: Wire, listens: bool) -> None:
    """A13: the error names the proxy, as nothing is known of the server."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        if listens:
            proxy = serve(lambda peer: peer.raw.shutdown(socket.SHUT_RDWR))
            port, url = proxy.port, proxy.url
        with pytest.raises(ConnectionFailed, match=f"the proxy 127.0.0.1:{port}"):
            connect("https://mesh.example", ssl_context=tls[1], proxy=url).ask()


@pytest.mark.parametrize("silent", [True, False])
def test_a_proxy_that_closes_or_is_silent_raises_connection_failed(
    serve: Serve, connect: Connect, tls: Wire, silent: bool
) -> None:
    proxy = serve(lambda peer: (peer.head(), silent and peer.wait_for_the_end()))
    limit = 0.15 if silent else LONG
    client = connect("https://mesh.example", ssl_context=tls[1], proxy=proxy.url, connect_timeout_in_seconds=limit)
    with pytest.raises(ConnectionFailed, match="connect timeout" if silent else "does not answer as a proxy"):
        client.ask()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    ],
)
def test_every_form_of_a_proxys_success_is_accepted(
    serve: Serve, connect: Connect, authority: trustme.CA, reply: bytes
) -> None:
    server = serve(echo, server_tls(authority, "mesh.example"))
    proxy = serve(Proxy(server, reply))
    client = connect("https://mesh.example", ssl_context=client_tls(authority), proxy=proxy.url)
    assert client.ask("POST", [b"content"]) == b"content"


def test_the_server_is_verified_behind_a_proxy(
    serve: Serve, connect: Connect, authority: trustme.CA, proxy_tls: Wire
) -> None:
    heard: list[bytes] = []
    for name, issuer in (("other.example", authority), ("mesh.example", trustme.CA())):
        server = serve(lambda peer: heard.append(peer.head()), server_tls(issuer, name))
        proxy = serve(Proxy(server), proxy_tls[0])
        client = connect(
            "https://mesh.example",
            ssl_context=client_tls(authority),
            proxy=proxy.url,
            proxy_ssl_context=proxy_tls[1],
        )
        with pytest.raises(ConnectionFailed, match="certificate is not trusted"):
            client.ask()
        assert server.ended.acquire(timeout=LONG)
    assert heard == []


def test_an_untrusted_proxy_receives_no_password(serve: Serve, connect: Connect, tls: Wire) -> None:
    """The roots for MESH do not count for the proxy. A13: the error names proxy_root_certificates."""
    proxy = Proxy()
    server = serve(proxy, tls[0])
    client = connect(
        "https://mesh.example",
        ssl_context=tls[1],
        proxy=with_user(server.url),
        proxy_ssl_context=client_tls(trustme.CA()),
    )
    expected = f"the certificate of the proxy 127.0.0.1:{server.port} is not trusted.* proxy_root_certificates"
    with pytest.raises(ConnectionFailed, match=expected) as caught:
        client.ask()
    assert "Jones" not in f"{caught.value} {caught.value!r}"
    assert proxy.heads == []


def test_the_repr_of_the_options_hides_the_proxys_password() -> None:
    shown = repr(connection("https://mesh.example", proxy=with_user("http://proxy.example:3128")))
    assert "Jones" not in shown
    assert "mesh.example" in shown


# Closing and cancelling


def test_a_closed_pool_refuses_requests(serve: Serve, connect: Connect) -> None:
    server = serve(echo)
    client = connect(server.url)
    client.ask()
    client.close()
    client.close()
    assert server.ended.acquire(timeout=LONG)
    with pytest.raises(InvalidArgument, match="has been closed"):
        client.ask()


@pytest.mark.parametrize("when", ["connecting", "waiting", "reading"])
def test_closing_ends_requests_in_progress(serve: Serve, connect: Connect, tls: Wire, when: str) -> None:
    reached, closed = threading.Event(), threading.Event()

    def serve_slowly(peer: Peer) -> None:
        if when == "connecting":
            reached.set()
            closed.wait(LONG)
        peer = Peer(peer.raw, tls[0])
        peer.head()
        if when == "reading":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour")
        reached.set()
        peer.wait_for_the_end()

    server = serve(serve_slowly, tls[0], plain_until_asked=True)
    client = connect(server.url, ssl_context=tls[1])
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.ask()
        except BaseException as error:  # noqa: BLE001
            caught.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert reached.wait(LONG)
    client.close()
    closed.set()
    asking.join(LONG / 2)
    assert not asking.is_alive()
    assert isinstance(caught[0], InvalidArgument if when == "connecting" else ConnectionLost)
    assert server.ended.acquire(timeout=LONG)


def test_closing_closes_a_response_that_nobody_reads(serve: Serve, connect: Connect) -> None:
    server = serve(lambda peer: (peer.request(), peer.send(response(BIG)), peer.wait_for_the_end()))
    client = connect(server.url)
    got = client.send()
    client.close()
    assert server.ended.acquire(timeout=LONG)
    got.close()


STAGES = ("slot", "connecting", "sending", "waiting", "reading")
WAYS = ("asyncio.cancel", "asyncio.timeout", "asyncio.anyio", "trio.anyio")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", STAGES)
def test_cancelling_releases_slot_and_connection(serve: Serve, tls: Wire, stage: str, way: str) -> None:
    reached = threading.Event()

    def hold(peer: Peer) -> None:
        if server.connections == 1 and stage == "connecting":
            reached.set()
            peer.wait_for_the_end()
            return
        number = server.connections
        peer = Peer(peer.raw, tls[0])
        if number > 1 or stage == "slot":
            echo(peer)
            return
        head = peer.head()
        if stage == "sending":
            reached.set()
            ended.wait(LONG)
            return
        if stage == "reading":
            peer.send(response(BIG))
        assert head
        reached.set()
        peer.wait_for_the_end()

    ended = threading.Event()
    server = serve(hold, tls[0], plain_until_asked=True)

    async def talk(pool: AsyncConnectionPool) -> None:
        body = Blocks(BIG, BIG) if stage == "sending" else None
        got = await pool.send("POST", "/", {}, body, 2 * len(BIG) if body else 0)
        try:
            await got.next_block()
            reached.set()
            await anyio.sleep_forever()
        finally:
            await got.close()

    async def cancelled(pool: AsyncConnectionPool) -> None:
        if way == "asyncio.cancel":
            task = asyncio.ensure_future(talk(pool))
            await anyio.to_thread.run_sync(reached.wait, LONG)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif way == "asyncio.timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1) as limit:
                    limit.reschedule(asyncio.get_running_loop().time() + 0.1)
                    await talk(pool)
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(talk, pool)
                await anyio.to_thread.run_sync(reached.wait, LONG)
                group.cancel_scope.cancel()

    async def run() -> None:
        pool = AsyncConnectionPool(connection(server.url, ssl_context=tls[1]))
        held = await pool.send("GET", "/", {}) if stage == "slot" else None
        if held:
            reached.set()
        with anyio.fail_after(LONG):
            await cancelled(pool)
            if held:
                await held.read(10_000)
            ended.set()
            # The only slot there is has come back.
            again = await pool.send("GET", "/", {})
            await again.read(10_000)
        assert again.status == 200
        await pool.close()

    anyio.run(run, backend=way.split(".")[0])
    for _ in range(server.connections):
        assert server.ended.acquire(timeout=LONG)
