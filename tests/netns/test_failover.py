"""Control planes on one etcd, killed under traffic: no request fails, certificates are renewed, changes arrive."""

from __future__ import annotations

import base64
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.agent import start, until
from tests.support.estate import SHORT_LIVED, Estate, entry
from tests.support.etcd import etcd_cluster

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

LEASE = 8.0
"""Twice what a host needs to come to the other control plane while the machine is somebody else's."""
TTL = 60.0
"""Renewed every few seconds (tests/support/short_lived.py)."""


def settings(stack: ExitStack, lab: Lab, directory: Path) -> dict[str, Any]:
    """Of a control plane that shares an etcd with others."""
    stack.enter_context(etcd_cluster(directory / "etcd", places=[("127.0.0.1", tuple(lab.peer.command()))]))
    key = directory / "store.key"
    key.write_bytes(base64.b64encode(os.urandom(32)))
    store = {"etcd": {"endpoints": ["127.0.0.1:2379"], "encryption_key_file": str(key)}}
    return {"store": store, "registry": {"lease": LEASE}}


def test_a_control_plane_is_killed_under_traffic(lab: Lab, tmp_path: Path) -> None:
    """Both hosts go on at the other one; then a host dies, and leaves rotation until it is back."""
    with ExitStack() as stack:
        shared = settings(stack, lab, tmp_path)
        estate = Estate(stack, lab, tmp_path, planes=[shared, shared], ttl=TTL)
        with estate.traffic("a1", to=("b1", "b2")), estate.traffic("b2", to=("a2",)):
            doomed = max(range(2), key=lambda number: len(estate.planes[number].client.status()["nodes"]))
            other = 1 - doomed
            assert estate.planes[doomed].client.status()["nodes"]
            before = [estate.serials(one) for one in estate.agents]
            estate.planes[doomed].process.kill()
            estate.planes[doomed].process.wait()
            estate.apply(entry("late", "10.9.9.9", "host3"), plane=other)
            for one in estate.agents:
                until(lambda one=one: "late" in estate.told(one))
            for serials, one in zip(before, estate.agents, strict=True):
                until(lambda serials=serials, one=one: not serials.items() & estate.serials(one).items())
            until(lambda: len(estate.planes[other].client.status()["nodes"]) == 2)
            assert set(estate.told(estate.agents[0]).values()) == {"Healthy"}

        client, server = estate.agents
        server.process.kill()
        server.process.wait()
        until(lambda: estate.told(client)["b1"] == "Unhealthy")
        start(server, module=SHORT_LIVED)
        until(lambda: estate.told(client)["b1"] == "Healthy")
        until(lambda: estate.reaches("a1", "b1"))
