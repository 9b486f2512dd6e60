"""Rules, runbook and their tests agree with each other and with the metrics."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import Metrics
from service.metrics_page import SHARED
from tests.peers import missing

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = [rule for file in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
         for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
ALERTS: list[dict[str, Any]] = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
TEST_FILES = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
TESTS = [test for file in TEST_FILES for test in yaml.safe_load(file.read_text())["tests"]]
RUNBOOK = (DEPLOY / "docs" / "runbook.md").read_text()
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


def series() -> set[str]:
    """Return the name of every series that a process can show."""
    return {f.name + end for f in Metrics().families() for end in _SUFFIXES[f.type]}


def named_in(text: str) -> set[str]:
    """Return the metrics that a text or an expression names; those of recording rules have a colon before or after."""
    return set(re.findall(r"(?<![\w:/.#-])firstlook_[a-z_]+(?![\w:])", text))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_ask_only_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    expression = rule["expr"]
    recorded = set(re.findall(r"[a-z]+:firstlook_\w+:\w+", expression))
    assert recorded <= RECORDED
    for one in recorded:
        expression = expression.replace(one, "")
    assert named_in(expression) <= series()
    assert named_in(expression) or recorded or "up{" in expression or "process_start" in expression


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_what_every_process_shows_the_same_is_never_added(rule: dict[str, Any]) -> None:
    for name in SHARED:
        assert not re.search(rf"\bsum\s*(by\s*\([^)]*\)\s*)?\(\s*{name}\b", rule["expr"]), rule


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_severity_a_paragraph_and_a_test_that_fires_it(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["runbook"] == f"deploy/docs/runbook.md#{name.lower()}"
    paragraph = re.search(rf"^### {name}\n\n(.+?)(?=^##|\Z)", RUNBOOK, re.M | re.S)
    assert paragraph and len(paragraph[1]) > 100, f"deploy/docs/runbook.md has no paragraph {name}"
    asked = [case for test in TESTS for case in test.get("alert_rule_test", ()) if case["alertname"] == name]
    assert any(case["exp_alerts"] for case in asked) and any(not case["exp_alerts"] for case in asked)


def test_the_runbook_speaks_only_of_alerts_and_metrics_that_exist() -> None:
    assert set(re.findall(r"^### (\w+)", RUNBOOK, re.M)) == {rule["alert"] for rule in ALERTS}
    assert named_in(RUNBOOK) <= series() | {f.name for f in Metrics().families()}
    assert len(named_in(RUNBOOK)) > 10


@pytest.mark.peer
def test_promtool_passes_the_tests_of_the_rules() -> None:
    if shutil.which("promtool") is None:
        missing("promtool")
    done = subprocess.run(["promtool", "test", "rules", *map(str, TEST_FILES)], capture_output=True, text=True,
                          timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(TEST_FILES)
