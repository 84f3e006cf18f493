"""The content that is sent and received: made from a seed, the same each time, kept in `.bench/material`."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import itertools
import os
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

MIB = 1024 * 1024
CHUNK = 20_000_000
"""The size of a chunk: our default, and given to the others, so that all send and receive the same chunks."""

OFFICIAL_CHUNK = 75 * MIB
"""The size of a chunk that the official client sends by default, before compression."""

_TESTS = (
    ("1003671000000109", "Haemoglobin A1c level (IFCC)", "mmol/mol", 20, 120),
    ("1022431000000105", "Haemoglobin estimation", "g/L", 70, 190),
    ("1000731000000107", "Serum creatinine level", "umol/L", 40, 400),
    ("1000651000000109", "Serum sodium level", "mmol/L", 120, 155),
    ("1000691000000104", "Serum albumin level", "g/L", 20, 55),
    ("1022451000000103", "Red blood cell count", "10*12/L", 3, 7),
    ("1022541000000102", "Total white cell count", "10*9/L", 2, 25),
    ("1028551000000102", "Serum TSH level", "mU/L", 0, 20),
    ("1005681000000107", "Serum HDL cholesterol level", "mmol/L", 0, 4),
    ("1020291000000106", "GFR calculated abbreviated MDRD", "mL/min/1.73m2", 5, 120),
)
_COMMENTS = (
    "",
    "",
    "",
    "Sample slightly haemolysed; interpret potassium with care",
    "Repeat in 3 months",
    "Phoned to practice",
    "Consistent with known diagnosis",
    "Insufficient sample for the full profile",
)
_HEADER = "nhs_number,sample_id,collected,reported,code,test,value,unit,low,high,flag,requester,practice,comment\r\n"


def csv_lines(seed: int = 5) -> Iterator[str]:
    """Made-up pathology results; the NHS numbers are from the range that is kept for tests."""
    chance = random.Random(seed)
    yield _HEADER
    for sample in itertools.count(100_000):
        number = _nhs_number(chance.randrange(10**6))
        day, month, minute = chance.randint(1, 28), chance.randint(1, 12), chance.randrange(1440)
        collected = f"2026-{month:02d}-{day:02d}T{minute // 60:02d}:{minute % 60:02d}:00Z"
        reported = f"2026-{month:02d}-{day:02d}T23:{chance.randrange(60):02d}:{chance.randrange(60):02d}Z"
        requester, practice = f"G{chance.randrange(10**7):07d}", f"Y{chance.randrange(900):05d}"
        for code, test, unit, low, high in chance.sample(_TESTS, chance.randint(1, 6)):
            value = low + (high - low) * chance.betavariate(3, 4)
            flag = "H" if value > high * 0.8 else "L" if value < low + (high - low) * 0.2 else ""
            yield (
                f"{number},{sample:09d},{collected},{reported},{code},{test},{value:.1f},{unit},{low},{high},{flag},"
                f"{requester},{practice},{chance.choice(_COMMENTS)}\r\n"
            )


def _nhs_number(serial: int) -> str:
    """Ten digits from 999 on, the last of which is the check digit; 10, which is none, becomes 0."""
    digits = f"999{serial:06d}"
    check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits)) % 11
    return f"{digits}{check % 11 % 10}"


@dataclasses.dataclass(frozen=True)
class Material:
    """The files, made when they are first asked for."""

    folder: Path

    def csv(self, mebibytes: int) -> Path:
        """A CSV file of exactly this size; every smaller one is how it begins."""
        lines = csv_lines()
        blocks = iter(lambda: "".join(itertools.islice(lines, 20_000)).encode(), b"")
        return self._made(f"csv-{mebibytes}.csv", lambda path: _write(path, blocks, mebibytes * MIB))

    def repeated(self, mebibytes: int) -> Path:
        """The same CSV over and over, up to this size: for content that is not compressed."""
        part = self.csv(min(mebibytes, 256))
        if part.stat().st_size == mebibytes * MIB:
            return part
        blocks = (block for _ in itertools.count() for block in _blocks(part))
        return self._made(f"repeated-{mebibytes}.csv", lambda path: _write(path, blocks, mebibytes * MIB))

    def xml(self, mebibytes: int) -> Path:
        """XML that gzip makes next to nothing of."""
        coding = '    <coding system="https://fhir.hl7.org.uk/Id/nhs-number" value="absent" use="official"/>\n'
        entries = (
            f'  <entry number="{number:012d}">\n{60 * coding}  </entry>\n'.encode() for number in itertools.count()
        )
        return self._made(f"xml-{mebibytes}.xml", lambda path: _write(path, entries, mebibytes * MIB))

    def sparse(self, mebibytes: int) -> Path:
        """A file of zeros that takes no room."""

        def write(path: Path) -> None:
            path.touch()
            os.truncate(path, mebibytes * MIB)

        return self._made(f"zeros-{mebibytes}.bin", write)

    def small(self) -> Path:
        """The content of a small message: 2 kB."""
        return self._made("small.csv", lambda path: path.write_bytes(self.csv(1).read_bytes()[:2000]))

    def beginning(self, source: Path, size: int) -> Path:
        """The first `size` bytes of a file; all of it if it is shorter."""
        return self._made(f"{source.stem}-first-{size}.csv", lambda path: _write(path, _blocks(source), size))

    def chunks(self, source: Path, *, gzipped: bool, cut: int = CHUNK) -> list[Path]:
        """The file cut into chunks; gzipped as gzip does it by default, like other senders."""
        stem = source.stem if cut == CHUNK else f"{source.stem}-{cut}"

        def write(path: Path, start: int) -> None:
            with source.open("rb") as file:
                file.seek(start)
                block = file.read(cut)
            path.write_bytes(gzip.compress(block, 6, mtime=0) if gzipped else block)

        return [
            self._made(f"{stem}.{number:03d}{'.gz' if gzipped else ''}", partial(write, start=start))
            for number, start in enumerate(range(0, source.stat().st_size, cut), 1)
        ]

    def sha256(self, path: Path) -> str:
        """A file's digest."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _made(self, name: str, write: Callable[[Path], object]) -> Path:
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            # It has its name only when it is whole, so that an interrupted run leaves nothing wrong behind.
            unfinished = path.with_name(f".{name}.{os.getpid()}")
            try:
                write(unfinished)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        return path


def checksum(path: Path) -> int:
    """CRC-32 of a file's content."""
    return functools.reduce(lambda value, block: zlib.crc32(block, value), _blocks(path), 0)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(4 * MIB):
            yield block


def _write(path: Path, blocks: Iterable[bytes], size: int) -> None:
    """Write a file of this size, if there is enough to write."""
    with path.open("wb") as file:
        for block in blocks:
            file.write(block[: size - file.tell()])
            if file.tell() == size:
                break
