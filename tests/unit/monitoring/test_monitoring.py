"""What the dashboard and the alert rules ask for exists: metrics, their labels, and the pages that they point to."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from hostmesh.telemetry.exposition import FAMILIES

ROOT = Path(__file__).parents[3]
OWN = [ROOT / "agent" / "hostmesh" / name for name in ("daemon/metrics.py", "daemon/processes.py", "waypoint/doors.py")]
SCRAPED = {"instance", "job"}
WORDS = {"and", "by", "count", "for", "group_left", "ignoring", "increase", "min", "or", "rate", "sum", "up"}
"""What PromQL and Prometheus themselves define."""


def exported() -> Mapping[str, frozenset[str]]:
    """Every metric of an agent with its labels: the byte path's, those that main makes, and a waypoint's own."""
    found = {name: frozenset(family.label_names) for name, family in FAMILIES.items()}
    for call in (call for file in OWN for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.endswith("MetricFamily"):
            assert isinstance(call.args[0], ast.Constant)
            name = str(call.args[0].value) + ("_total" if call.func.id.startswith("Counter") else "")
            labels = next((keyword.value for keyword in call.keywords if keyword.arg == "labels"), None)
            found[name] = frozenset(ast.literal_eval(labels) if labels is not None else ())
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where, and what is asked."""
    rules = yaml.safe_load((ROOT / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((ROOT / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_what_is_asked_for_exists(where: str, expression: str) -> None:
    """A panel that shows nothing and an alert that never fires look like peace."""
    known = exported()
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    labels = set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*(?=[,}])", bare))
    labels |= {
        one for found in re.findall(r"(?:by|ignoring|on) \(([^)]*)\)", bare) for one in re.split(r"[,\s]+", found)
    }
    outside = re.sub(r"\{[^}]*\}|(?:by|ignoring|on) \([^)]*\)", "", bare)
    metrics = {
        word for word in re.findall(r"[a-z_]+[a-z]", outside) if word not in WORDS and not word.startswith("process_")
    }
    assert metrics <= set(known), where
    assert metrics or "up" in outside or "process_" in outside
    if metrics:
        assert labels - {""} <= SCRAPED | {label for metric in metrics for label in known[metric]}, where


def test_every_alert_has_its_page() -> None:
    """The runbook is in this repository."""
    rules = yaml.safe_load((ROOT / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        assert (ROOT / rule["annotations"]["runbook"]).exists(), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
