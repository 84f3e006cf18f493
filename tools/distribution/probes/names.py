"""Imports every public name, and every module of the areas that are named as arguments; tells the version."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
from pathlib import Path

import nel_mesh

package = Path(nel_mesh.__file__).parent
if Path(sys.prefix) not in package.parents:
    sys.exit(f"not the installed package, but {package}")
if not (package / "py.typed").is_file():
    sys.exit("no py.typed")
for name in nel_mesh.__all__:
    getattr(nel_mesh, name)
if nel_mesh.__version__ != importlib.metadata.version("nel-mesh"):
    sys.exit("the version is not that of the metadata")

for apart in ("cli", "sandbox"):
    area = importlib.import_module(f"nel_mesh.{apart}")
    if apart in sys.argv[1:]:
        for name in getattr(area, "__all__", ()):
            getattr(area, name)
for module in pkgutil.walk_packages(nel_mesh.__path__, "nel_mesh."):
    area_name = module.name.split(".")[1]
    if (area_name not in ("cli", "sandbox") or area_name in sys.argv[1:]) and not module.name.endswith("pytest_plugin"):
        importlib.import_module(module.name)
sys.stdout.write(nel_mesh.__version__)
