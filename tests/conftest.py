from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from faulty_proxy import FaultyProxy
from nel_mesh import MeshSettings
from nel_mesh.sandbox import Sandbox
from ports import free_ports
from scripted_server import Rule, ScriptedServer
from secrecy import LISTENER, at_sandbox, at_scripted, found, unprintable
from sshd import SftpAccount, sshd
from stores import (
    S3,
    Azure,
    azure_environment,
    s3_environment,
    skipped_if_missing,
    temporary_azurite,
    temporary_seaweedfs,
)
from variants import VARIANTS, Connector, settings_for

# Every process of a run imports this module, and few use the libraries of a store.
if TYPE_CHECKING:
    from object_stores import AzureStore, S3Store
    from sftp_server import FaultyServer


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own environment must not decide a test."""
    for name in list(os.environ):
        if name.upper().startswith(("MESH_", "MESHCONFIGURATION__")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


# A deadline would fail a test where the machine is busy.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """In every process that runs tests."""
    # A shell starts what it runs in the background with SIGINT ignored, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logger = logging.getLogger("nel_mesh")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(LISTENER)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from modules and thousands of tests, which stay: while they are made, and later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that lacks a program of `make services`, where NEL_MESH_REQUIRE_SERVICES is set; else it skips."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and os.environ.get("NEL_MESH_REQUIRE_SERVICES"):
        reason = report.longrepr[2]
        if "make services" in reason or "pip install" in reason:
            report.outcome, report.longrepr = "failed", reason
    return report


@pytest.fixture(autouse=True)
def _nothing_private_is_logged(request: pytest.FixtureRequest) -> Iterator[list[ScriptedServer]]:
    """Search the logs and events of each test for private data; yield the list of its servers."""
    servers: list[ScriptedServer] = []
    sandboxes: list[Sandbox] = []
    if "mesh_sandbox" in request.fixturenames:
        sandboxes.append(request.getfixturevalue("mesh_sandbox"))
    yield servers
    said = LISTENER.take()
    if said:
        private = {text for server in servers for text in at_scripted(server)}
        private |= {text for sandbox in sandboxes for text in at_sandbox(sandbox)}
        assert found(said, private) == []
        assert unprintable(said) == []


@pytest.fixture(scope="session")
def seaweedfs_url() -> Iterator[str]:
    """An S3 server for all tests of this process; gives its address."""
    with skipped_if_missing(), temporary_seaweedfs() as url:
        yield url


@pytest.fixture
def s3(seaweedfs_url: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An empty bucket, at the address and with the credentials that are in the environment."""
    for name, value in s3_environment(seaweedfs_url).items():
        monkeypatch.setenv(name, value)
    return S3(seaweedfs_url)


@pytest.fixture
def s3_store(s3: S3) -> Iterator[S3Store]:
    """The same bucket, with a proxy before it."""
    from object_stores import S3Store

    with FaultyProxy(s3.url).running() as proxy:
        yield S3Store(s3, proxy)


@pytest.fixture(scope="session")
def azurite_url() -> Iterator[str]:
    """An Azure server for all tests of this process; gives its address."""
    with skipped_if_missing(), temporary_azurite() as url:
        yield url


@pytest.fixture
def azure(azurite_url: str, monkeypatch: pytest.MonkeyPatch) -> Azure:
    """An empty container, with the credentials that are in the environment."""
    for name, value in azure_environment(azurite_url).items():
        monkeypatch.setenv(name, value)
    return Azure(azurite_url)


@pytest.fixture
def azure_store(azure: Azure) -> Iterator[AzureStore]:
    """The same container, with a proxy before it."""
    from object_stores import AzureStore

    with FaultyProxy(azure.url).running() as proxy:
        yield AzureStore(azure, proxy)


@pytest.fixture(scope="session")
def running_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpAccount]:
    """OpenSSH's sshd for all tests of this process."""
    with skipped_if_missing(), sshd(tmp_path_factory.mktemp("sshd")) as account:
        yield account


@pytest.fixture
def sftp(running_sshd: SftpAccount, monkeypatch: pytest.MonkeyPatch) -> SftpAccount:
    """An empty folder on sshd, whose keys ssh finds."""
    return _emptied(running_sshd, monkeypatch)


@pytest.fixture(scope="session")
def running_faulty_sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    """A server of SFTP in this process, for all its tests."""
    from sftp_server import faulty_server

    with faulty_server(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.fixture
def faulty_sftp(running_faulty_sftp: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
    """An empty folder on it, whose keys ssh finds; and no faults yet."""
    running_faulty_sftp.reset()
    _emptied(running_faulty_sftp, monkeypatch)
    return running_faulty_sftp


def _emptied(account: SftpAccount, monkeypatch: pytest.MonkeyPatch) -> SftpAccount:
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    shutil.rmtree(account.folder)
    account.folder.mkdir()
    return account


@pytest.fixture(params=VARIANTS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connector]:
    """Makes clients, in each variant by turns."""
    with contextlib.ExitStack() as stack:
        yield Connector(request.param, stack)


@pytest.fixture
def serve(_nothing_private_is_logged: list[ScriptedServer]) -> Iterator[Callable[..., ScriptedServer]]:
    """Starts scripted servers."""
    with contextlib.ExitStack() as stack:

        def start(*steps: Rule) -> ScriptedServer:
            server = stack.enter_context(ScriptedServer(*steps))
            _nothing_private_is_logged.append(server)
            return server

        yield start


@pytest.fixture
def scripted(connect: Connector, serve: Callable[..., ScriptedServer]) -> Callable[..., tuple[Any, ScriptedServer]]:
    """A client, and the scripted server that it talks to."""

    def start(*steps: Rule, **keywords: Any) -> tuple[Any, ScriptedServer]:
        server = serve(*steps)
        # Its answers are for requests in their order, so one chunk after another.
        return connect(settings_for(server.url, **{"chunks_at_once": 1, **keywords})), server

    return start


@pytest.fixture(scope="session")
def official_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """NHS England's own sandbox, as a process of its own; gives its address."""
    if importlib.util.find_spec("mesh_sandbox") is None:
        # It says itself for which Pythons it is made; the same tests run against our sandbox on all of them.
        pytest.skip("mesh-sandbox is not made for this Python")
    log = tmp_path_factory.mktemp("official") / "log.txt"
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "uvicorn",
        "mesh_sandbox.api:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    environment = {**os.environ, "AUTH_MODE": "full", "SHARED_KEY": "TestKey", "STORE_MODE": "memory"}
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            for _ in range(300):
                try:
                    with urllib.request.urlopen(f"{url}/health", timeout=5):
                        break
                except (urllib.error.URLError, OSError):
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(10)


class Server:
    """A MESH server for tests that must hold for any: ours over mutual TLS, or the official sandbox."""

    def __init__(self, name: str, settings: Callable[..., MeshSettings], reset: Callable[[], object]) -> None:
        self.name = name
        self.settings = settings
        reset()


@pytest.fixture(params=["ours", "official"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "ours":
        ours: Sandbox = request.getfixturevalue("mesh_sandbox")
        return Server("ours", lambda mailbox_id, **more: ours.settings(mailbox_id, **more), lambda: None)
    url: str = request.getfixturevalue("official_sandbox")

    def reset() -> None:
        asked = urllib.request.Request(f"{url}/messageexchange/admin/reset", method="DELETE")
        with urllib.request.urlopen(asked, timeout=10):
            pass

    def settings(mailbox_id: str, **more: Any) -> MeshSettings:
        return settings_for(url, mailbox_id=mailbox_id, **{"password": "password", **more})

    return Server("official", settings, reset)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share without locks between processes."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
