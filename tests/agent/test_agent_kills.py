"""Agents killed at random points: nothing is lost, doubled, damaged or acknowledged early.

NEL_MESH_TEST_KILLS says how often; `make day` kills more, in a whole scripted day.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import BOB, Site, until

from nel_mesh.ledger.chain import check_chain
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction, State
from nel_mesh.sandbox import Sandbox

KILLS = int(os.environ.get("NEL_MESH_TEST_KILLS", "4"))
FILES_BETWEEN_KILLS = 12


pytest_plugins = ["ledger_fixtures"]


@pytest.fixture(params=["threads", "fleet"])
def site(mesh_sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    url = request.getfixturevalue("postgresql_url") if request.param == "fleet" else None
    site = Site(tmp_path, mesh_sandbox, url)
    yield site
    site.close()


def test_kills_at_random_points(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(
        '{alice}\n[[mailboxes.X26ABC1.send]]\nfrom = "out"\nto = "X26ABC2"\nworkflow_id = "WF"\nsettle_in_seconds = 0\n'
        '{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = ["in", "copy"]\n',
    )
    out = site.folder / "out"
    out.mkdir()
    chance = random.Random(7)
    files: dict[str, bytes] = {}
    for kill in range(KILLS):
        for number in range(FILES_BETWEEN_KILLS):
            name, content = f"{kill}-{number}.csv", chance.randbytes(chance.choice((10, 3000, 300_000)))
            files[name] = content
            (out / f".{name}").write_bytes(content)
            (out / f".{name}").rename(out / name)
        process = site.start()
        # Most of the work is done in the first half second.
        time.sleep(chance.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        received = {path.name for path in (site.folder / "copy").glob("*.csv")} if kill else set()
        acknowledged = {
            message.description.file_name for message in mesh_sandbox.messages(recipient=BOB, status="acknowledged")
        }
        assert acknowledged <= {path.name for path in (site.folder / "copy").glob("*.csv")} | received
    site.start()
    until(lambda: len(mesh_sandbox.messages(recipient=BOB, status="acknowledged")) == len(files))
    with site.ledger() as ledger:
        until(lambda: len(ledger.search.messages(Filter(states=(State.ACKNOWLEDGED,)), limit=500)) == len(files))
        until(lambda: not list(out.glob("*.csv")))
    code, said = site.stop(site.processes[-1])
    assert (code, "Traceback" in said) == (0, False)

    assert sorted(message.description.file_name for message in mesh_sandbox.delivered(BOB)) == sorted(files)
    for place in (site.folder / "in", site.folder / "copy", out / "sent"):
        assert {path.name: path.read_bytes() for path in place.iterdir() if not path.name.startswith(".")} == files
    with site.ledger() as ledger:
        found = ledger.search.messages(Filter(), limit=5000)
        assert len([one for one in found if one.direction is Direction.OUT]) == len(files)
        assert {one.state for one in found} <= {State.ACKNOWLEDGED, State.ACCEPTED, State.COLLECTED}
        assert all(one.is_filed for one in found if one.direction is Direction.OUT)
        checked = check_chain(ledger.database)
        assert checked is not None
        assert checked.broken is None
