"""`make sbom`: what the package brings with it, without extras, with each and with all, as CycloneDX in dist/sbom.

Each bill is made from a fresh environment into which the wheel was installed: the versions are those of today.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from distribution.building import build, moment
from distribution.environments import Environment, must
from distribution.requirements import Requirements
from distribution.table import Failed

ROOT = Path(__file__).resolve().parents[1]


def installed(tools: Path, folder: Path) -> dict[str, Environment]:
    """An environment for each kind of installation: `base`, each extra, `all`."""
    wheel = build(tools, ROOT, folder / "built", moment(ROOT)).wheel
    extras = list(Requirements.of(wheel).extras)
    kinds = {"base": "", **{extra: f"[{extra}]" for extra in extras}, "all": f"[{','.join(extras)}]"}
    made = {}
    for kind, chosen in kinds.items():
        made[kind] = Environment(folder / kind)
        made[kind].install(f"{wheel}{chosen}")
    return made


def arguments(description: str) -> argparse.Namespace:
    """The command line of this and of `audit`: two Pythons that have what a dependency group names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tools", type=Path, required=True, help="the Python that has the group `packaging`")
    parser.add_argument("--audit-tools", type=Path, required=True, help="the Python that has the group `audit`")
    return parser.parse_args()


def main() -> int:
    """Runs the tool."""
    options = arguments("Writes bills of materials.")
    bills = ROOT / "dist" / "sbom"
    bills.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nel-mesh-sbom-") as name:
        try:
            for kind, environment in installed(options.tools.absolute(), Path(name).resolve()).items():
                bill = bills / f"nel-mesh-{kind}.cdx.json"
                command = [options.audit_tools.absolute(), "-m", "cyclonedx_py", "environment", "--validate"]
                command += ["--output-reproducible", "--mc-type", "library", "--pyproject", ROOT / "pyproject.toml"]
                must(*command, "--output-file", bill, environment.python, folder=ROOT, more=moment(ROOT))
                parts = json.loads(bill.read_text(encoding="utf-8"))["components"]
                print(f"{bill.relative_to(ROOT)}: {len(parts)} components")
        except Failed as error:
            print(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
