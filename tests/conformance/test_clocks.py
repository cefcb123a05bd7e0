"""Two control planes whose clocks differ by five minutes: both say so, and hosts live on the one that is right."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.test_killed_control_planes import (
    WEB,
    apply,
    endpoints,
    entry,
    eventually,
    join,
    root,
    start,
    statuses,
)
from tests.support.addresses import free_port
from tests.support.control_plane import RunningControlPlane, configure, started

from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.failure import FetchFailed
from hostmesh.rpc.channel import ControlPlane

AHEAD = 300.0
"""What `tests.support.ahead` adds."""


def others(running: RunningControlPlane) -> list[float]:
    """How far the clocks of the others are ahead, to ten seconds."""
    return [round(one["clockAhead"], -1) for one in running.client.status()["controlPlanes"] if not one["self"]]


def test_hosts_pass_over_the_one_whose_clock_is_wrong(
    stack: ExitStack, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Its certificate is not valid yet; alone it is named, with both clocks. Documents of either are those of both."""
    right = start(stack, tmp_path / "a", settings)
    (tmp_path / "b").mkdir()
    port = free_port()
    config = configure(tmp_path / "b", port, **settings)
    ahead = stack.enter_context(started(tmp_path / "b", config, port, module="tests.support.ahead"))
    eventually(lambda: (others(right), others(ahead)) == ([AHEAD], [-AHEAD]))

    apply(ahead, entry("mesh1"))
    eventually(lambda: statuses(right).keys() == {"web"})
    node = join(right, "mesh1", right.client.token("mesh1", 60)["token"])
    plane = ControlPlane(endpoints(ahead, right), root(right), node.files)
    assert asyncio.run(CaClient(plane, 3600).fetch(WEB)).identity == WEB
    assert plane.endpoint == endpoints(right)[0]
    alone = CaClient(ControlPlane(endpoints(ahead), root(right), node.files), 3600)
    with pytest.raises(FetchFailed, match=r"is not valid yet.*compare the clocks of both hosts"):
        asyncio.run(alone.fetch(WEB))
