"""Draws docs/mesh.svg and docs/receiving.svg.

Each is on a ground of its own, so that it can be read on a light page and on a dark one, and needs no font that is
not there.

tools/drawings.py           draws them
tools/drawings.py --check   says whether they are current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs"

GROUND, INK, SOFT, BLUE, PALE, GREEN, RED = "#f7f9fb", "#1b2733", "#55636f", "#005eb8", "#dfeaf5", "#1f7a3d", "#b3261e"


def box(x: int, y: int, width: int, height: int, *, fill: str = "#ffffff", line: str = SOFT) -> str:
    """A box with round corners."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{line}"/>'


def text(
    x: int, y: int, words: str, *, size: int = 15, colour: str = INK, bold: bool = False, at: str = "middle"
) -> str:
    """One line of text."""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{at}"{weight}>{escape(words)}</text>'


def arrow(x: int, y: int, to_x: int, to_y: int, *, colour: str = BLUE, dashed: bool = False) -> str:
    """An arrow; its head is of its colour."""
    name = {BLUE: "blue", GREEN: "green", RED: "red", SOFT: "soft"}[colour]
    dashes = ' stroke-dasharray="6 5"' if dashed else ""
    return (
        f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{colour}" stroke-width="2"'
        f'{dashes} marker-end="url(#{name})"/>'
    )


def step(x: int, y: int, number: int) -> str:
    """A number in a circle."""
    return f'<circle cx="{x}" cy="{y}" r="11" fill="{BLUE}"/>' + text(x, y + 5, str(number), size=13, colour="#ffffff")


def drawing(width: int, height: int, title: str, parts: Iterator[str]) -> str:
    """The whole SVG."""
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 10 5 0 10z" fill="{colour}"/></marker>'
        for name, colour in (("blue", BLUE), ("green", GREEN), ("red", RED), ("soft", SOFT))
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="Arial, Helvetica, sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f"<defs>{heads}</defs>",
        f'<rect width="{width}" height="{height}" rx="12" fill="{GROUND}"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def mesh() -> str:
    """What MESH is: two systems that never meet, and a post office between them."""
    return drawing(920, 450, "A message goes from one mailbox to another, by way of MESH", _mesh())


def _mesh() -> Iterator[str]:
    yield box(20, 20, 220, 360)
    yield text(130, 50, "Your system", bold=True, size=17)
    yield text(130, 72, "such as a laboratory", colour=SOFT)
    yield box(340, 20, 240, 360, fill=PALE, line=BLUE)
    yield text(460, 50, "MESH", bold=True, size=17)
    yield text(460, 72, "NHS England's server", colour=SOFT)
    yield box(680, 20, 220, 360)
    yield text(790, 50, "Their system", bold=True, size=17)
    yield text(790, 72, "such as a GP practice", colour=SOFT)

    yield box(360, 105, 200, 62)
    yield text(460, 131, "your mailbox")
    yield text(460, 152, "X26ABC1", colour=SOFT, size=14)
    yield box(360, 212, 200, 62)
    yield text(460, 238, "their mailbox: inbox")
    yield text(460, 259, "X26ABC2", colour=SOFT, size=14)
    yield arrow(460, 169, 460, 210)

    yield step(40, 136, 1)
    yield text(60, 141, "send", at="start", bold=True)
    yield arrow(120, 136, 358, 136)
    yield text(290, 128, "a file", size=12, colour=SOFT)
    yield arrow(358, 155, 120, 155, colour=GREEN)
    yield text(290, 171, "message id", size=12, colour=GREEN)
    yield step(40, 243, 5)
    yield text(60, 248, "track", at="start", bold=True)
    yield arrow(120, 243, 358, 243, colour=SOFT)
    yield text(290, 235, "collected yet?", size=12, colour=SOFT)
    yield text(60, 350, "a report", at="start", bold=True)
    yield arrow(338, 345, 130, 345, colour=RED, dashed=True)
    yield text(460, 350, "not collected in 5 days", size=13, colour=RED)

    yield step(706, 227, 2)
    yield text(724, 232, "list", at="start", bold=True)
    yield arrow(690, 227, 562, 227)
    yield text(630, 219, "any mail?", size=12, colour=SOFT)
    yield step(706, 259, 3)
    yield text(724, 264, "retrieve", at="start", bold=True)
    yield arrow(562, 259, 690, 259, colour=GREEN)
    yield text(630, 251, "the file", size=12, colour=GREEN)
    yield step(706, 307, 4)
    yield text(724, 312, "acknowledge", at="start", bold=True)
    yield arrow(690, 307, 540, 307)
    yield text(630, 299, "it is safe here", size=12, colour=SOFT)
    yield text(530, 312, "MESH deletes it", size=13, colour=SOFT, at="end")

    yield text(460, 408, "Each exchange is begun by a client, over HTTPS. MESH never calls anybody:", colour=SOFT)
    yield text(460, 430, "a report waits in the inbox like a message, until it is fetched.", colour=SOFT)


def receiving() -> str:
    """In which order a message is received, so that it is lost nowhere."""
    return drawing(
        920, 150, "Fetch, check, store, note, acknowledge: each is durable before the next begins", _receiving()
    )


def _receiving() -> Iterator[str]:
    steps = (
        ("fetch", "chunk by chunk"),
        ("check", "length, gzip, checksum"),
        ("store", "under its name, durable"),
        ("note", "in the journal"),
        ("acknowledge", "MESH deletes it"),
    )
    for number, (name, more) in enumerate(steps):
        x = 20 + number * 180
        yield box(x, 24, 158, 62, fill=PALE if number < 4 else "#e2f2e7", line=BLUE if number < 4 else GREEN)
        yield text(x + 79, 50, name, bold=True)
        yield text(x + 79, 72, more, size=12, colour=SOFT)
        if number < 4:
            yield arrow(x + 159, 55, x + 178, 55, colour=SOFT)
    yield text(460, 125, "Whatever happens before the last step, the message is still in the inbox.", colour=SOFT)


DRAWINGS = {"mesh.svg": mesh, "receiving.svg": receiving}


def main() -> int:
    """Runs the tool."""
    stale = []
    for name, draw in DRAWINGS.items():
        path = FOLDER / name
        if "--check" not in sys.argv:
            path.write_text(draw(), encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != draw():
            stale.append(name)
    if stale:
        print(f"{', '.join(stale)}: not what tools/drawings.py draws: run `make drawings`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
