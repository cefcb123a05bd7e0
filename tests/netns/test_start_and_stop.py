"""An agent that cannot have its ports does not start, and one that has nothing open ends at once."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import put_certificate
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.pki import Authority

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


def prepared(made: RunningAgent) -> RunningAgent:
    (made.workloads / "w.yaml").write_text("workload: prod/w1\ncapture: {unit: w1.service}\n")
    made.configure(node="host1", workers=1, local_xds="workloads: []")
    return made


@pytest.mark.parametrize("port", [15001, 15006, 15008, 15000, 15020, 15021])
def test_a_taken_port_prevents_the_start(lab: Lab, tmp_path: Path, port: int) -> None:
    """With the port in the log, before anything is captured: a listener must not be missing once rules lead to it."""
    lab.listen(lab.host, "127.0.0.1", port)
    with agent(lab.host, tmp_path, lab.a.path) as made:
        with pytest.raises(AssertionError):
            start(prepared(made))
        assert made.process.wait(10) == 1
        assert f"{port}" in made.log
        assert "ss -ltnp" in made.log
    assert lab.host.run("nft", "list", "ruleset") == ""


@pytest.mark.parametrize("by", ["SIGTERM", "SIGINT", "quitquitquit"])
def test_an_agent_with_nothing_open_ends_at_once(lab: Lab, tmp_path: Path, by: str) -> None:
    """Long before the deadline of the drain, as a success."""
    with agent(lab.host, tmp_path, lab.a.path) as made:
        prepared(made)
        settings = json.loads(made.config.read_text())
        made.config.write_text(json.dumps({**settings, "drain_deadline": 3600}))
        start(made)
        if by == "quitquitquit":
            assert made.get(15000, "/quitquitquit", "POST") == "shutdown now\n"
        else:
            made.process.send_signal(signal.Signals[by])
        assert made.process.wait(60) == 0


def test_a_namespace_that_is_not_there_is_named_and_stops_nothing(lab: Lab, tmp_path: Path) -> None:
    """The agent is ready for everybody else."""
    authority, certificates = Authority(), tmp_path / "certificates"
    with agent(lab.host, tmp_path, lab.a.path) as made:
        for name, where in (("w1", "unit: w1.service"), ("late", "netns: hostmesh-late")):
            put_certificate(certificates, authority, name)
            text = f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{{where}}}\n"
            (made.workloads / f"{name}.yaml").write_text(text)
        made.configure(
            node="host1", workers=1, local_xds="workloads: []", certificates={"directory": str(certificates)}
        )
        start(made)
        until(lambda: json.loads(made.get(15000, "/status"))["ready"])
        (problem,) = json.loads(made.get(15000, "/status"))["captureProblems"]
        assert "late.yaml:3: capture.netns: /run/netns/hostmesh-late: No such file or directory" in problem
