"""One row of the table, done by our client with this or that of its numbers changed."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.comparing import Bench
from benchmarks.material import Material
from benchmarks.measuring import Run, median_of, our_python
from benchmarks.rows import ROWS, Sizes
from benchmarks.table import markdown

SIZES = Sizes(big=512, medium=256, small_messages=500)


def compare(
    names: Sequence[str], variants: Mapping[str, Mapping[str, Any]], *, head: str, rounds: int = 3, colour: str = ""
) -> str:
    """The rows of these names by each variant, by turns: seconds, of processor time as well, and MiB of peak memory.

    Args:
        names: the rows, by the names they have on the command line.
        variants: what the worker is asked besides: `settings`, `constants` of the client's modules, `at_once`.
        head: what the variants are.
        rounds: how many.
        colour: "" for the sync client, "async" for the other.
    """
    environments.need_nginx()
    material = Material(environments.HOME / "material")
    columns = []
    for name in names:
        row = ROWS[name](material, SIZES)
        clients = {f"ours-{variant.replace(' ', '_')}{colour and '-' + colour}": variant for variant in variants}
        row = dataclasses.replace(
            row, clients=tuple(clients), only={client: variants[variant] for client, variant in clients.items()}
        )
        with tempfile.TemporaryDirectory(prefix="run-", dir=environments.HOME) as folder:
            # The official client does not take part.
            runs = Bench(Path(folder), our_python()).compare(row, rounds).runs
        columns.append([_cell(done) for done in runs.values()])
    rows = [[variant, *cells] for variant, *cells in zip(variants, *columns, strict=True)]
    return markdown((head, *names), rows)


def _cell(runs: Sequence[Run]) -> str:
    seconds, cpu, faults, peak = (
        median_of(runs, what) for what in ("seconds", "cpu_seconds", "page_faults", "peak_mib")
    )
    return f"{seconds:.3f} s, cpu {cpu:.2f} s, {faults:,.0f} faults, {peak:.0f} MiB"
