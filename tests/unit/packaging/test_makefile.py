"""`make test` is what CI runs: no kind of tests is left out, whichever way its stages are run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BY_HAND = {"istiod"}
"""Needs Istio's own control plane, which takes a quarter of an hour to build."""


@pytest.fixture(scope="module")
def commands() -> str:
    return dry_run("test")


def dry_run(*words: str) -> str:
    """What make would do, which may be what runs these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def test_every_kind_of_tests_is_run(commands: str) -> None:
    """Once, and the whole folder."""
    kinds = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}
    run = re.findall(r"^pytest .*tests/(\w+)$", commands, re.MULTILINE)
    assert sorted(run) == sorted(kinds - BY_HAND)


@pytest.mark.parametrize("command", ["mypy", "lint-imports", "ansible-lint --offline", "python -m tests.fuzz 2"])
def test_what_is_no_test_is_run_as_well(commands: str, command: str) -> None:
    assert commands.splitlines().count(command) == 1


def test_four_scenarios_of_molecule_are_run(commands: str) -> None:
    (scenarios,) = re.findall(r"^for scenario in (.*); do .*molecule test", commands, re.MULTILINE)
    assert scenarios.split() == ["default", "network_policy", "netns_cni", "waypoint"]


@pytest.mark.parametrize("stage", ["netns", "interop", "e2e", "molecule"])
def test_what_boots_hosts_has_the_machine_to_itself(commands: str, stage: str) -> None:
    """Nothing is prepared again for it, either."""
    (together,) = re.findall(r"--jobs=2 --output-sync=target (.*)$", commands, re.MULTILINE)
    assert together.split() == ["check", "lint", "compiled", "conformance", "fuzz"]
    assert "lab/prerequisites.sh" not in dry_run(stage, "PREPARATIONS=")
