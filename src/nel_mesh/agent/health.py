"""What monitors ask for: `/livez`, `/readyz` and `/metrics`, over HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from nel_mesh import MeshError, StorageError
from nel_mesh.agent.metrics import Metrics
from nel_mesh.ledger.attention import look
from nel_mesh.ledger.ledger import Ledger


def application(
    ledger: Ledger, metrics: Metrics, *, is_alive: Callable[[], bool], is_stopping: Callable[[], bool]
) -> Starlette:
    """Return the web application.

    Args:
        ledger: the agent's.
        metrics: the agent's.
        is_alive: whether its loop is turning.
        is_stopping: whether it begins no more work.
    """

    def livez(request: Request) -> Response:
        return _plain(is_alive(), "alive", "the loop of the agent has stopped")

    def readyz(request: Request) -> Response:
        if is_stopping():
            return _plain(False, "", "stopping")
        try:
            found = look(ledger.database, ledger.clock.now())
        except StorageError:
            return _plain(False, "", "the ledger cannot be read")
        said = {"ready": True, "needs_person": sum(one.needs_person for one in found)}
        return Response(json.dumps(said), media_type="application/json")

    def metrics_page(request: Request) -> Response:
        try:
            return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
        except MeshError:
            return _plain(False, "", "the ledger cannot be read")

    return Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics_page)],
    )


def _plain(is_good: bool, good: str, bad: str) -> Response:
    return PlainTextResponse(good if is_good else bad, status_code=200 if is_good else 503)


@contextlib.contextmanager
def served(address: str, app: Starlette) -> Iterator[str]:
    """Serve an application in a thread, while the block runs; yield its URL.

    Args:
        address: address and port, such as `127.0.0.1:8481`; the port 0 takes a free one.
        app: the application.

    Raises:
        StorageError: the address cannot be used.
    """
    host, _, port = address.rpartition(":")
    try:
        listener = socket.create_server((host.strip("[]"), int(port)), family=_family(host))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(f"{address}: it cannot be listened on: {reason}; give another address or port") from None
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="health", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(5)
        listener.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if host.startswith("[") else socket.AF_INET
