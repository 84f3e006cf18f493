"""The tables, in Markdown; and the figures that they are made of, kept as a JSON file for each row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparing import OURS, Compared
from benchmarks.measuring import Run, median_of, ratio_of
from benchmarks.rows import FLOOR

HEAD = ("work", "official", "ours", "ours, async", "curl", "times official", "of curl", "peak MiB", "target", "met")

FLOORS_HEAD = (
    "work",
    "target",
    "reached",
    "floor",
    "floor meets it",
    "processor time, ours / async / floor, s",
    "what takes the time",
)

MARKS = ("<!-- figures: make bench writes from here -->", "<!-- to here -->")


def line(compared: Compared) -> str:
    """One row, for the terminal."""
    row, runs = compared.row, compared.runs
    parts = [
        f"{client} {_cell(row.megabytes, row.count, done)} (cpu {median_of(done, 'cpu_seconds'):.2f} s)"
        for client, done in runs.items()
    ]
    for ours in OURS:
        for other in (base_of(ours, row.base, runs), "curl", base_of(ours, "before", runs)):
            if ours in runs and other in runs:
                time = ratio_of(runs[other], runs[ours])
                cpu = ratio_of(runs[other], runs[ours], "cpu_seconds")
                parts.append(f"{ours} : {other} = {time:.2f} (cpu {cpu:.2f})")
    if FLOOR in runs and _base_of_floor(row.base, runs) in runs:
        parts.append(f"floor : {_base_of_floor(row.base, runs)} = {_floor_ratio(row.base, runs):.2f}")
    return "\n    ".join([f"{row.name}: {row.work}", *parts])


def as_stored(compared: Compared) -> dict[str, Any]:
    """The figures that the table needs of a row."""
    row = compared.row
    kept = ("work", "base", "target", "async_target", "of_curl", "megabytes", "count", "why")
    return {
        **{name: getattr(row, name) for name in kept},
        "runs": {
            client: [vars(run) for run in runs]
            for client, runs in compared.runs.items()
            if not client.startswith("before")
        },
    }


def comparison(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table of all rows."""
    return markdown(HEAD, [_row(row) for row in rows])


def floors(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table of the rows that have a floor and a target: what was reached, and what the floor allows."""
    lines = []
    for row in rows:
        runs = _runs(row)
        if FLOOR not in runs or not row["target"]:
            continue
        targets = (row["target"], row["async_target"] or row["target"])
        reached = [ratio_of(runs[base_of(ours, row["base"], runs)], runs[ours]) for ours in OURS if ours in runs]
        floor = _floor_ratio(row["base"], runs)
        lines.append(
            [
                row["work"],
                " / ".join(f"{value:g}" for value in dict.fromkeys(targets)),
                " / ".join(_rounded(ratio) for ratio in reached),
                _rounded(floor),
                "yes" if floor >= max(targets) else "no" if floor < min(targets) else "async",
                " / ".join(
                    _rounded(median_of(runs[client], "cpu_seconds")) for client in (*OURS, FLOOR) if client in runs
                ),
                row["why"],
            ]
        )
    return markdown(FLOORS_HEAD, lines)


def _base_of_floor(base: str, runs: Mapping[str, object]) -> str:
    return "floor-unchecked" if "floor-unchecked" in runs else base


def _floor_ratio(base: str, runs: Mapping[str, Sequence[Run]]) -> float:
    return ratio_of(runs[_base_of_floor(base, runs)], runs[FLOOR])


def _runs(row: Mapping[str, Any]) -> dict[str, list[Run]]:
    return {client: [Run(**run) for run in found] for client, found in row["runs"].items()}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def save(results: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Keep the figures of a row or section, in place of what was measured before."""
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


def document(results: Path, rows: Iterable[str], sections: Iterable[str]) -> str:
    """All that was measured, as `docs/performance.md` has it."""
    found = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    measured = [found[name] for name in rows if name in found]
    rounds = sorted({len(runs) for row in measured for runs in row["runs"].values()})
    parts = [
        "; ".join(found["machine"]["lines"] if "machine" in found else []) + ".\n",
        f"Medians of {' or '.join(map(str, rounds))} rounds, in which the clients take turns; a ratio is the median of "
        "the rounds' own ratios. 1 MB of content is 1,048,576 bytes in the names of rows, and a million in rates. "
        "Peak memory is over the process before the work.\n",
        comparison(measured),
        "### Targets and floors\n",
        "The floor is the work that no client can leave out (`benchmarks/workers/floor.py`): raw TLS sockets, the same "
        "bytes, two chunks at a time, a sync before the end; no retry, no record, no check. A target that it misses "
        "cannot be met on this machine.\n",
        floors(measured),
    ]
    parts += [found[name]["text"] for name in sections if name in found]
    return "\n".join(parts)


def put_into(document: str, text: str) -> str | None:
    """The document with the text between its marks, in place of the old; None if it has no marks."""
    begin, end = MARKS
    before, has_begin, rest = document.partition(begin)
    _, has_end, after = rest.partition(end)
    return f"{before}{begin}\n\n{text}\n{end}{after}" if has_begin and has_end else None


def _row(row: Mapping[str, Any]) -> list[str]:
    runs, base = _runs(row), row["base"]
    bases = {ours: base_of(ours, base, runs) for ours in OURS}
    to_base = {ours: ratio_of(runs[bases[ours]], runs[ours]) for ours in OURS if ours in runs and bases[ours] in runs}
    to_curl = {ours: ratio_of(runs["curl"], runs[ours]) for ours in OURS if ours in runs and "curl" in runs}
    target = {"ours": row["target"] or 0, "ours-async": row["async_target"] or row["target"] or 0}
    wanted = " / ".join(f"{value:g}" for value in dict.fromkeys(target.values()))
    targets = [f"{wanted} x" if row["target"] else "", f"{row['of_curl']:g} of curl" if row["of_curl"] else ""]
    shown = ("official" if base == "official" else base, *OURS, "curl")
    return [
        row["work"],
        *(_cell(row["megabytes"], row["count"], runs[client]) if client in runs else "" for client in shown),
        " / ".join(_rounded(ratio) for ratio in to_base.values()),
        " / ".join(_rounded(ratio) for ratio in to_curl.values()),
        " / ".join(f"{median_of(runs[client], 'peak_mib'):.0f}" for client in shown[:3] if client in runs),
        ", ".join(filter(None, targets)),
        met(
            {
                ours: ratio >= target[ours] and to_curl.get(ours, 1.0) >= (row["of_curl"] or 0)
                for ours, ratio in to_base.items()
            }
        )
        if any(targets)
        else "",
    ]


def base_of(ours: str, base: str, runs: Mapping[str, object]) -> str:
    """The client that ours is compared to: the async one to the other's async one, if it has one."""
    same = f"{base}-async"
    return same if ours.endswith("-async") and same in runs else base


def met(by: Mapping[str, bool]) -> str:
    """Say whether a target is met: by both clients, or by which one."""
    if all(by.values()):
        return "yes" if by else ""
    return "no" if not any(by.values()) else "sync" if by.get("ours") else "async"


def _cell(megabytes: float, count: int, runs: Sequence[Run]) -> str:
    seconds = median_of(runs)
    rate = f"{count / seconds:,.0f}/s" if count else f"{_rounded(megabytes / seconds)} MB/s"
    return f"{_rounded(seconds)} s, {rate}"


def _rounded(value: float) -> str:
    """Three figures: the measurement is no more exact."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
