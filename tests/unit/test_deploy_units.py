"""Units of systemd, dashboards of Grafana, compose files and Dockerfile: what knows them accepts them."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import cli
from service.metrics import Metrics
from service.settings import load
from tests.peers import missing
from tests.unit.test_deploy_monitoring import RECORDED, series

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.name)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    here = tmp_path / unit.name.replace("@", "@work")
    here.write_text(unit.read_text().replace("/opt/firstlook/venv/bin/firstlook", sys.executable))
    done = run("systemd-analyze", "verify", "--man=no", here)
    ours = [line for line in done.stderr.splitlines() if "firstlook" in line]
    assert done.returncode == 0 and ours == []
    judged = run("systemd-analyze", "security", "--offline=yes", "--threshold=25", here)
    assert judged.returncode == 0, judged.stdout[-300:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.name)
def test_units_name_commands_and_settings_that_exist(unit: Path) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    service = parser["Service"]
    program, command, flag, _ = service["ExecStart"].split()
    assert program.endswith("/bin/firstlook") and flag == "--settings"
    for name in ("listen", "work", "web") if command == "%i" else (command,):
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
    environ = dict(one.split("=", 1) for one in service["Environment"].split())
    assert str(load(None, environ).store.data_dir) == service["WorkingDirectory"]
    assert service["User"] == "firstlook" and service["NoNewPrivileges"] == "yes"


def expressions(board: Path) -> list[str]:
    tree = json.loads(board.read_text())
    return [target["expr"] for panel in tree["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.name)
def test_dashboards_ask_only_for_metrics_that_exist(board: Path) -> None:
    asked = expressions(board)
    assert len(asked) > 10
    for one in asked:
        names = set(re.findall(r"[a-z_:]*(?:firstlook|process)_[a-z0-9_]+(?::[a-z0-9_]+)*", one))
        assert names <= series() | RECORDED | PROCESS, one
        for name, labels in re.findall(r"by \(([a-z, ]+)\)|\{([^}]*)\}", one):
            known = {label for f in Metrics().families() for label in f.labels} | {"job", "instance", "le"}
            assert set(filter(None, name.split(", "))) <= known
            assert set(re.findall(r"(\w+)=", labels)) <= known


@pytest.mark.peer
@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.name)
def test_prometheus_can_read_every_expression(board: Path, tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        missing("promtool")
    rules = [{"record": f"x{n}", "expr": e.replace("$__rate_interval", "1m")} for n, e in enumerate(expressions(board))]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}))
    done = run("promtool", "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.name)
def test_panels_have_titles_units_and_places_of_their_own(board: Path) -> None:
    tree = json.loads(board.read_text())
    assert "Research use only" in tree["description"]
    taken: set[tuple[int, int]] = set()
    for panel in tree["panels"]:
        assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
        at: dict[str, Any] = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({p["id"] for p in tree["panels"]}) == len(tree["panels"])


def test_grafana_of_compose_finds_its_dashboards_and_prometheus() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    provided = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/firstlook.yml").read_text())["providers"][0]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    volumes = services["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provided['options']['path']}:ro" in volumes
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in volumes
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_follow_the_specification(file: str) -> None:
    try:
        import check_jsonschema  # noqa: F401
    except ImportError:
        missing("check-jsonschema (make deploy-check)")
    done = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / file)
    assert done.returncode == 0, done.stdout
