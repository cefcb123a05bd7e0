"""`hostmesh rules` as an operator types it, on the real kernel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import agent

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns

ENROLMENT = "workload: prod/w1\ncapture: {unit: a.service}\n"


def test_plan_diff_apply_remove(lab: Lab, tmp_path: Path) -> None:
    """Each says what it does; a mistake is named and changes nothing."""
    with agent(lab.host, tmp_path, lab.a.path) as made:
        made.configure(node="host1")
        systemctl = made.directory / "bin" / "systemctl"
        systemctl.write_text(systemctl.read_text().replace('case "$*" in', 'case "$*" in\nis-active*) exit 3;;'))

        def rules(*arguments: str) -> tuple[int, str]:
            environment = {**os.environ, "PATH": f"{made.directory / 'bin'}:{os.environ['PATH']}"}
            command = [sys.executable, "-m", "hostmesh", "rules", "--config", str(made.config), *arguments]
            done = subprocess.run(
                lab.host.command(*command), env=environment, capture_output=True, text=True, check=False
            )
            return done.returncode, done.stdout + done.stderr

        (made.workloads / "w1.yaml").write_text(ENROLMENT)
        status, text = rules("plan")
        assert status == 0
        assert 'comment "prod/w1" : 0x1000' in text
        assert json.loads(rules("plan", "-o", "json")[1])["workloads"] == [
            {"workload": "prod/w1", "unit": "a.service", "cgroup": lab.a.path}
        ]
        assert rules("plan", "--check-lockout") == (0, "nobody is locked out\n")
        assert json.loads(rules("diff", "-o", "json")[1])["differences"]
        status, text = rules("diff")
        assert status == 1
        assert "table inet hostmesh is not there" in text
        assert not (made.directory / "state" / "marks.json").exists(), "a look ahead has written something"

        assert rules("apply")[0] == 0
        assert rules("diff") == (0, "no difference: the kernel has what workloads.d asks for\n")
        assert "prod/w1" in lab.host.run("nft", "list", "table", "inet", "hostmesh")
        lab.host.run("nft", "flush", "chain", "inet", "hostmesh", "arriving")
        status, text = rules("diff")
        assert status == 1
        assert "missing: " in text
        assert rules("apply")[0] == 0

        before = lab.host.run("nft", "list", "ruleset")
        (made.workloads / "w2.yaml").write_text("workload: prod/w2\ncapture: {user: no-such-user}\n")
        for command in ("plan", "diff", "apply"):
            status, text = rules(command)
            assert status == 1
            assert re.search(r"w2\.yaml:2: capture\.user: there is no user no-such-user on this host", text)
        assert lab.host.run("nft", "list", "ruleset") == before
        assert rules("remove") == (0, "removed\n")
        assert lab.host.run("nft", "list", "ruleset") == ""
