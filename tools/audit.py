"""`make audit`: whether a weakness is known of anything that the package, with all extras, brings with it.

It asks PyPI's vulnerability service, through pip-audit, about the versions that an installation gets today. Where that
service cannot be reached it says so and fails: no answer is not a good one.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from distribution.environments import run
from distribution.table import Failed
from sbom import arguments, installed

KNOWN_NOWHERE = "nel-mesh"


def main() -> int:
    """Runs the tool: 0 if nothing is known against any, 1 if something is, 2 if it could not be asked."""
    options = arguments("Audits what the package brings with it.")
    with tempfile.TemporaryDirectory(prefix="nel-mesh-audit-") as name:
        try:
            environment = installed(options.tools.absolute(), Path(name).resolve())["all"]
            place = environment.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
            command = [options.audit_tools.absolute(), "-m", "pip_audit", "--path", place, "--format", "json"]
            done = run(*command, "--progress-spinner", "off", folder=environment.work)
        except Failed as error:
            print(f"FAILED: {error}")
            return 2
    try:
        parts = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(f"Not audited: {done.stderr.strip().splitlines()[-1:]}\n{_NEEDS}")
        return 2
    unasked = [part["name"] for part in parts if "skip_reason" in part and part["name"] != KNOWN_NOWHERE]
    weak = [(part, known) for part in parts for known in part.get("vulns", [])]
    for part, known in weak:
        fixed = ", ".join(known["fix_versions"]) or "no version"
        print(f"{part['name']} {part['version']}: {known['id']}, mended in {fixed}")
    if unasked:
        print(f"Not audited: {', '.join(unasked)}.\n{_NEEDS}")
        return 2
    print(f"{len(parts) - 1} packages, {len(weak)} known weaknesses.")
    return 1 if weak else 0


_NEEDS = "The package index in use does not tell of weaknesses: this needs PyPI itself, by its JSON API."


if __name__ == "__main__":
    sys.exit(main())
