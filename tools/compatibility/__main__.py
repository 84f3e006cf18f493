"""Run other projects' tests and clients against our sandbox in its compatible form: `make compatibility`.

They come from PyPI and npm at run time, into build/compatibility; nothing of theirs is in this repository.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "compatibility"
JAVASCRIPT = "nhs-mesh-client@1.0.9"

NOT_OURS = ("messaging_tests", "serialisation", "exceptions", "java_client_tests", "docker_tests")
"""Modules of the official sandbox's tests that do not reach the app: its inside, a Java client to be downloaded,
and a plugin in its image."""

DIFFERENT = {
    "test_handshake_no_auth_mailbox_exists": "a mode without tokens, chosen by AUTH_MODE within one process",
    "test_handshake_canned_auth_mailbox_exists": "a mode with one fixed token, chosen by AUTH_MODE",
    "test_reset_canned_store": "a store that cannot be reset, chosen by STORE_MODE",
    "test_receive_canned": "messages that come with the official sandbox, chosen by STORE_MODE",
    "test_reset_file_store_should_clear": "how the official sandbox lays out its files",
    "test_file_send_message_with_local_id": "how the official sandbox lays out its files",
}
"""The tests of the official sandbox that fail here, each with what they ask for that ours has not."""


def main() -> int:
    """Run every suite; return 1 if a test fails that is not in DIFFERENT."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    suites = [suite() for suite in (_official_sandbox, _official_client, _javascript_client, _shell_token)]
    print()
    for name, passed, known, total in suites:
        print(f"{name}: {passed} of {total}" + (f", {known} of another kind" if known else ""))
    return int(any(passed + known < total for _, passed, known, total in suites))


def _official_sandbox() -> tuple[str, int, int, int]:
    name = f"official sandbox {version('mesh-sandbox')}, its own tests"
    tests = _package("mesh_sandbox") / "tests"
    ignored = [f"--ignore={tests / module}.py" for module in NOT_OURS]
    said = _pytest(tests, "-p", "official_sandbox_plugin", *ignored)
    failed = re.findall(r"^FAILED \S*::(\S+)", said, re.MULTILINE)
    for test in failed:
        reason = next((text for start, text in DIFFERENT.items() if test.startswith(start)), None)
        print(f"  {test}: {reason or 'UNEXPECTED'}")
    known = sum(test.startswith(tuple(DIFFERENT)) for test in failed)
    return name, _passed(said), known, 176


def _official_client() -> tuple[str, int, int, int]:
    release = version("mesh-client")
    _run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        str(BUILD),
        f"mesh-client=={release}",
    )
    with tarfile.open(next(BUILD.glob("mesh_client-*.tar.gz"))) as archive:
        archive.extractall(BUILD, filter="data")
    tests = BUILD / f"mesh_client-{release}" / "tests"
    files = [f"--{kind}={tests / kind}.jsonl" for kind in ("mailboxes", "workflows")]
    with _serving(8701, "client", *files) as settings:
        for name, file in (
            ("root", "ca.cert.pem"),
            ("client_certificate", "client.cert.pem"),
            ("client_key", "client.key.pem"),
        ):
            shutil.copy(settings[name], tests / file)
        said = _pytest(tests / "mesh_sandbox_tests.py")
    return f"official client {release}, its tests against a sandbox", _passed(said), 0, 24


def _javascript_client() -> tuple[str, int, int, int]:
    folder = BUILD / "javascript"
    folder.mkdir()
    _run(
        "npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), JAVASCRIPT
    )
    with _serving(0, "javascript") as settings:
        script = HERE / "javascript_client.mjs"
        package = folder / "node_modules" / "nhs-mesh-client"
        said = _run("node", str(script), str(package), settings["path"], check=False)
    return f"JavaScript client {JAVASCRIPT}", len(re.findall(r"^ok ", said, re.MULTILINE)), 0, 4


def _shell_token() -> tuple[str, int, int, int]:
    with _serving(0, "shell", "--plain-http") as settings:
        box = settings["mailboxes"][0]
        words = [box["mailbox_id"], box["password"], settings["shared_key"], str(uuid.uuid4())]
        token = _run("sh", str(HERE / "shell_token.sh"), *words).strip()
        asked = urllib.request.Request(  # noqa: S310 - our own sandbox
            f"{settings['url']}/messageexchange/{box['mailbox_id']}/inbox", headers={"Authorization": token}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=20) as answer:
            return "token of a shell script", int(answer.status == 200), 0, 1


@contextlib.contextmanager
def _serving(port: int, name: str, *options: str) -> Iterator[dict[str, Any]]:
    """Serve our sandbox; give the content of its sandbox.json, and its path."""
    folder = BUILD / f"settings-{name}"
    command = [sys.executable, "-m", "nel_mesh.cli", "sandbox", "serve", "--compatible", "--port", str(port)]
    command += ["--settings-folder", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            if not any("Ctrl-C" in line for line in server.stdout or ()):
                raise SystemExit(f"the sandbox did not start on port {port}")
            path = folder / "sandbox.json"
            yield {**json.loads(path.read_text()), "path": str(path)}
        finally:
            server.terminate()


def _pytest(tests: Path, *options: str) -> str:
    settings = BUILD / "pytest.ini"
    settings.write_text(f"[pytest]\nasyncio_mode = auto\npython_files = *.py\npythonpath = {HERE}\n")
    root = tests.parent if tests.is_dir() else tests.parent.parent
    command = [sys.executable, "-m", "pytest", "-c", str(settings), "--rootdir", str(root), "-p", "no:cacheprovider"]
    return _run(*command, "-q", "-W", "ignore", *options, str(tests), check=False, folder=root)


def _run(*command: str, check: bool = True, folder: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder or BUILD)
    if done.returncode and check:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    (BUILD / "output.txt").open("a").write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    return done.stdout


def _passed(said: str) -> int:
    found = re.search(r"(\d+) passed", said)
    return int(found[1]) if found else 0


def _package(name: str) -> Path:
    found: Any = find_spec(name)
    return Path(found.origin).parent


if __name__ == "__main__":
    sys.exit(main())
