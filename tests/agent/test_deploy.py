"""The files of deploy/: what systemd says of the unit, and whether the alerts speak of metrics that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"

_SOURCE = (ROOT / "src/nel_mesh/agent/metrics.py").read_text(encoding="utf-8")
_FAMILIES = set(re.findall(r'"(mesh_[a-z_]+)"', _SOURCE))
METRICS = _FAMILIES | {f"{name}_total" for name in _FAMILIES}


ANALYZE = shutil.which("systemd-analyze")
PROMTOOL = shutil.which("promtool")


# Not in `make services`: a test need not bring an init system.
@pytest.mark.skipif(ANALYZE is None, reason="`apt-get install systemd` brings systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "nel-mesh-agent.service").read_text(encoding="utf-8")
    here = tmp_path / "nel-mesh-agent.service"
    here.write_text(unit.replace("/opt/nel-mesh/bin/nel-mesh", sys.executable), encoding="utf-8")
    done = subprocess.run([str(ANALYZE), "verify", str(here)], capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "nel-mesh-agent" in line]
    assert said == []
    assert done.returncode == 0, done.stderr


# Not in `make services`: 100 MB for one check. The names of the metrics are compared without it, below.
@pytest.mark.skipif(PROMTOOL is None, reason="`apt-get install prometheus` brings promtool (100 MB)")
def test_prometheus_takes_the_alerts() -> None:
    command = [str(PROMTOOL), "check", "rules", str(DEPLOY / "alerts.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


SERIES = """
rule_files: [ALERTS]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'mesh_paused{mailbox="WELL"}', values: 0x120}
      - {series: 'mesh_mailbox_last_success_timestamp_seconds{mailbox="WELL"}', values: 0+60x120}
      - {series: 'mesh_paused{mailbox="SILENT"}', values: 0x120}
      - {series: 'mesh_mailbox_last_success_timestamp_seconds{mailbox="SILENT"}', values: 0x120}
      - {series: 'mesh_paused{mailbox="NEVER"}', values: 0x120}
      - {series: 'mesh_paused{mailbox="PAUSED"}', values: 1x120}
    promql_expr_test:
      - expr: sum by (mailbox) (ALERTS{alertstate="firing"})
        eval_time: 90m
        exp_samples: [{labels: '{mailbox="SILENT"}', value: 1}, {labels: '{mailbox="NEVER"}', value: 1}]
"""
"""A mailbox that is visited well, one that is not any more, one that never was, and a paused one."""


# As above: 100 MB for one check.
@pytest.mark.skipif(PROMTOOL is None, reason="`apt-get install prometheus` brings promtool (100 MB)")
def test_an_alert_comes_for_a_mailbox_that_is_not_visited_or_never_was(tmp_path: Path) -> None:
    series = tmp_path / "series.yaml"
    series.write_text(SERIES.replace("ALERTS]", f"{DEPLOY / 'alerts.yaml'}]"), encoding="utf-8")
    command = [str(PROMTOOL), "test", "rules", str(series)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_and_page_speak_of_metrics_that_there_are() -> None:
    alerts = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\bmesh_[a-z_]+", alerts)) <= METRICS
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(mesh_[a-z_]+)`", page))
    assert named <= METRICS
    assert {name for name in _FAMILIES if name not in named and f"{name}_total" not in named} == set()


def test_the_service_has_a_user_that_files_can_be_given_to() -> None:
    unit = (DEPLOY / "nel-mesh-agent.service").read_text(encoding="utf-8")
    assert "\nUser=nel-mesh\n" in unit
    assert "DynamicUser" not in unit


def test_the_time_limits_fit_together() -> None:
    unit = (DEPLOY / "nel-mesh-agent.service").read_text(encoding="utf-8")
    pod = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    default = 25
    for text, name in ((unit, "TimeoutStopSec="), (pod, "terminationGracePeriodSeconds: ")):
        assert int(text.partition(name)[2].split()[0]) > default
