"""The pytest fixtures, and that whoever does not use them does not pay for them."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from raw_mesh import RawMesh

import nel_mesh.sandbox
from nel_mesh import Busy, Report
from nel_mesh.sandbox import AsyncClientFactory, ClientFactory, Fault, PlanFault, Sandbox

pytest_plugins = ["raw_fixtures", "pytester"]


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_empty_mailboxes(mesh_sandbox: Sandbox, raw: RawMesh, turn: int) -> None:
    assert mesh_sandbox.messages() == []
    assert mesh_sandbox.requests() == []
    assert raw.send().status_code == 202


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_its_own_faults_and_time(mesh_sandbox: Sandbox, turn: int) -> None:
    assert mesh_sandbox.faults == ()
    assert mesh_sandbox.clock() - mesh_sandbox.configuration.clock() <= timedelta()
    mesh_sandbox.add_fault("any:lose-response")
    mesh_sandbox.advance(timedelta(days=turn))


def test_a_client_for_each_mailbox(mesh_sandbox: Sandbox, mesh_client: ClientFactory) -> None:
    for mailbox_id in mesh_sandbox.mailbox_ids:
        mesh_client(mailbox_id).handshake()
    assert mesh_client().mailbox_id == mesh_sandbox.mailbox_ids[0]
    with pytest.raises(KeyError, match="X26ABC1"):
        mesh_client("X26ABC9")


def test_further_settings(mesh_client: ClientFactory) -> None:
    alice = mesh_client("X26ABC1", max_chunk_size_in_megabytes=0.001)
    assert alice.send_message(b"." * 3000, to="X26ABC2", workflow_id="WF").chunks == 3


def test_waits_take_no_time(mesh_client: ClientFactory, mesh_fault: PlanFault) -> None:
    mesh_fault("send_message:respond=503,retry-after=200")
    mesh_fault("send_message:lose-response")
    alice, bob = mesh_client("X26ABC1"), mesh_client("X26ABC2")
    sent = alice.send_message(b"results", to="X26ABC2", workflow_id="WF")
    assert alice.wait_for_delivery(sent.message_id, deadline_in_seconds=3600).status == "accepted"
    bob.acknowledge_message(sent.message_id)
    assert alice.wait_for_delivery(sent.message_id).status == "acknowledged"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_async_waits_take_no_time(async_mesh_client: AsyncClientFactory, mesh_fault: PlanFault) -> None:
    mesh_fault("send_message:respond=503,retry-after=200")
    async with async_mesh_client("X26ABC1") as alice:
        sent = await alice.send_message(b"results", to="X26ABC2", workflow_id="WF")
        assert (await alice.wait_for_delivery(sent.message_id, deadline_in_seconds=3600)).status == "accepted"


def test_a_message_expires(mesh_sandbox: Sandbox, mesh_client: ClientFactory) -> None:
    alice = mesh_client("X26ABC1")
    sent = alice.send_message(b"results", to="X26ABC2", workflow_id="WF")
    mesh_sandbox.advance(timedelta(days=5))
    (report_id,) = alice.list_messages()
    report = alice.message_metadata(report_id)
    assert isinstance(report, Report)
    assert report.linked_message_id == sent.message_id


def test_a_fault_for_every_request_counts_once_it_has_struck(mesh_client: ClientFactory, mesh_fault: PlanFault) -> None:
    fault = mesh_fault(Fault("send_message", "respond", nth="every", status=503))
    assert str(fault) == "send_message:*:respond=503"
    with pytest.raises(Busy):
        mesh_client("X26ABC1").send_message(b"results", to="X26ABC2", workflow_id="WF")


# Runs of their own, as a user's


@pytest.fixture(scope="session")
def client_is_loaded() -> None:
    """Load what a client imports at its first operations.

    pytester forgets what is first imported within such a run, but it stays an attribute of its package: a later test
    would have some of its names twice. So this comes before pytester.
    """
    for name in ("protocol", "_sync", "_async", "http", "io"):
        package = importlib.import_module(f"nel_mesh.{name}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")


@pytest.fixture
def run(
    client_is_loaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """Runs the tests in pytester's folder with our plugin, and with those that are named."""
    # The others take longer to load than ours take to run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*plugins: str, options: Sequence[str] = (), apart: bool = False) -> pytest.RunResult:
        start = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        chosen = [option for plugin in ("nel_mesh", *plugins) for option in ("-p", plugin)]
        return start(*chosen, "-W", "error", *options)

    return run


def test_fixtures_can_be_discovered(run: Callable[..., pytest.RunResult]) -> None:
    listed = run(options=["--fixtures", "-q"]).stdout
    listed.fnmatch_lines(
        [f"{name} *-- *" for name in ("mesh_sandbox", "mesh_client", "async_mesh_client", "mesh_fault")]
    )


USES = """
import pytest
from nel_mesh import InvalidArgument

def test_first(mesh_sandbox, mesh_client):
    global alice
    alice = mesh_client("X26ABC1")
    alice.send_message(b"results", to="X26ABC2", workflow_id="WF")
    assert len(mesh_sandbox.delivered("X26ABC2")) == 1

def test_second(mesh_sandbox):
    assert mesh_sandbox.messages() == []
    with pytest.raises(InvalidArgument, match="closed"):
        alice.ping()
"""


def test_nothing_is_left_behind(
    pytester: pytest.Pytester,
    run: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    threads = set(threading.enumerate())
    pytester.makepyfile(USES)
    run().assert_outcomes(passed=2)
    assert set(threading.enumerate()) <= threads
    assert [path.name for path in folder.iterdir() if not path.name.startswith("pytest-of-")] == []


WITH_ANYIO = """
import pytest

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture
async def alice(async_mesh_client):
    async with async_mesh_client("X26ABC1") as alice:
        yield alice

@pytest.mark.anyio
async def test_sends(alice, mesh_sandbox):
    sent = await alice.send_message(b"results", to="X26ABC2", workflow_id="WF")
    assert mesh_sandbox.content(sent.message_id) == b"results"
"""

WITH_ASYNCIO = """
import pytest
import pytest_asyncio

@pytest_asyncio.fixture
async def alice(async_mesh_client):
    async with async_mesh_client("X26ABC1") as alice:
        yield alice

@pytest.mark.asyncio
async def test_sends(alice, mesh_sandbox, mesh_client):
    sent = await alice.send_message(b"results", to="X26ABC2", workflow_id="WF")
    assert mesh_sandbox.content(sent.message_id) == b"results"
    assert mesh_client("X26ABC2").list_messages() == [sent.message_id]

@pytest.mark.asyncio
async def test_sends_again(async_mesh_client):
    async with async_mesh_client("X26ABC1") as alice:
        await alice.handshake()
"""

WITH_NOTHING = """
import asyncio
import trio

async def handshake(async_mesh_client):
    async with async_mesh_client("X26ABC1") as mesh:
        await mesh.handshake()

def test_asyncio(async_mesh_client):
    asyncio.run(handshake(async_mesh_client))

def test_trio(async_mesh_client):
    trio.run(handshake, async_mesh_client)
"""


@pytest.mark.parametrize(
    ("plugins", "program"),
    [(["anyio"], WITH_ANYIO), (["pytest_asyncio.plugin"], WITH_ASYNCIO), ([], WITH_NOTHING)],
    ids=["anyio", "pytest-asyncio", "none"],
)
def test_async_clients_with_each_plugin_and_with_none(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], plugins: list[str], program: str
) -> None:
    pytester.makepyfile(program)
    # Without it pytest-asyncio warns of its own default.
    loop_scope = ["-o", "asyncio_default_fixture_loop_scope=function"] if "pytest_asyncio.plugin" in plugins else []
    run(*plugins, options=loop_scope).assert_outcomes(passed=2)


def test_a_configuration_of_ones_own(pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]) -> None:
    pytester.makeconftest(
        """
        import pytest
        from nel_mesh.sandbox import SandboxMailbox, SandboxConfiguration, Workflow

        @pytest.fixture(scope="session")
        def mesh_sandbox_configuration():
            return SandboxConfiguration(
                mailboxes=(SandboxMailbox(mailbox_id="RJ1LAB"), SandboxMailbox(mailbox_id="A81001GP")),
                workflows=(Workflow(workflow_id="PATH_RESULTS", senders=("RJ1LAB",), receivers=("A81001GP",)),),
            )
        """
    )
    pytester.makepyfile(
        """
        import pytest
        from nel_mesh import MeshError

        def test_sends(mesh_client):
            sent = mesh_client("RJ1LAB").send_message(b"results", to="A81001GP", workflow_id="PATH_RESULTS")
            assert mesh_client("A81001GP").list_messages() == [sent.message_id]

        def test_other_workflows_are_refused(mesh_client):
            with pytest.raises(MeshError):
                mesh_client("A81001GP").send_message(b"results", to="RJ1LAB", workflow_id="PATH_RESULTS")
        """
    )
    run().assert_outcomes(passed=2)


def test_a_fault_that_never_happens_fails_the_test(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(
        """
        def test_never(mesh_sandbox, mesh_fault):
            mesh_sandbox.add_fault("any:*:delay=1")
            mesh_fault("send_message:respond=503")

        def test_next(mesh_sandbox):
            assert mesh_sandbox.faults == ()
        """
    )
    result = run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*these faults were never injected: send_message:1:respond=503"])


def test_without_the_extra_the_fixture_says_what_to_install(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    pytester.makeconftest(
        """
        import sys

        for name in ("starlette", "uvicorn", "trustme"):
            sys.modules[name] = None
        """
    )
    pytester.makepyfile(
        """
        def test_something_else():
            pass

        def test_sends(mesh_client):
            pass
        """
    )
    result = run(apart=True)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(['the sandbox needs its extra: pip install "nel-mesh[[]sandbox]"'])
    result.stdout.no_fnmatch_line("*exception*")


WITHOUT_EXTRA = """
import sys
for name in ("starlette", "uvicorn", "trustme"):
    sys.modules[name] = None
import nel_mesh.sandbox.pytest_plugin
from nel_mesh.sandbox import SandboxMailbox
try:
    from nel_mesh.sandbox import sandbox
except ImportError as error:
    assert 'pip install "nel-mesh[sandbox]"' in str(error), error
else:
    raise SystemExit("it did not notice")
"""

LAZY = """
import sys
import pytest
before = set(sys.modules)
import nel_mesh.sandbox.pytest_plugin
loaded = set(sys.modules) - before
assert loaded == {"nel_mesh", "nel_mesh.sandbox", "nel_mesh.sandbox.pytest_plugin"}, loaded
"""


@pytest.mark.parametrize("program", [WITHOUT_EXTRA, LAZY])
def test_nothing_is_imported_before_it_is_needed(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = nel_mesh.sandbox.Nothing
