"""Certificates of captured workloads, and of nobody else, before anybody connects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import enrolled_agents, entry
from tests.support.agent import RunningAgent, until
from tests.support.control_plane import control_plane

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


def certificates(running: RunningAgent) -> dict[str, str]:
    """The state of each, by identity."""
    dump = json.loads(running.get(15000, "/config_dump"))["certificates"]
    return {one["identity"]: one["state"] for one in dump if one["certChain"] and one["rootCerts"]}


def test_who_is_captured_has_a_certificate_before_the_first_connection(lab: Lab, tmp_path: Path) -> None:
    """The registered workloads of other hosts have none here; withdrawn, a workload has none any more."""
    (tmp_path / "cp").mkdir()
    with control_plane(tmp_path / "cp", lab.peer) as plane:
        texts = [entry("w1", lab.host.v4, "host1"), entry("w2", lab.peer.v4, "host2")]
        plane.client.apply([{"source": "mesh.yaml", "text": text} for text in texts], dry_run=False)
        with enrolled_agents(lab, plane, tmp_path, ("w1", "w2"), lambda _: {"workers": 1}) as agents:
            for running, name in zip(agents, ("w1", "w2"), strict=True):
                expected = {f"spiffe://cluster.local/ns/prod/sa/{name}": "Available"}
                until(lambda running=running, expected=expected: certificates(running) == expected)  # type: ignore[misc]
            client = agents[0]
            for document in client.workloads.iterdir():
                document.unlink()
            client.reload()
            assert certificates(client) == {}
