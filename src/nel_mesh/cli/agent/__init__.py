"""`nel-mesh agent`: the commands of the unattended agent, in the order of its help."""

from nel_mesh.cli.agent import running, console, looking, acting, nodes, versions, setting_up  # isort: skip  # the order of the help
from nel_mesh.cli.agent.app import VARIABLE, app

__all__ = ["VARIABLE", "acting", "app", "console", "looking", "nodes", "running", "setting_up", "versions"]
