"""Two control plane processes on one etcd: whatever one has acknowledged the other knows, and either may be killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.conftest import LEASE
from tests.support.control_plane import RunningControlPlane, control_plane, started
from tests.support.documents import document
from tests.support.patience import PATIENCE

from hostmesh.daemon.lease import LeaseClient
from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.enrolment import EnrolmentRefused, enrol
from hostmesh.identity.node import NodeStore
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Identity
from hostmesh.rpc.channel import ControlPlane

WEB = Identity("cluster.local", "default", "web")


def start(stack: ExitStack, directory: Path, settings: dict[str, Any]) -> RunningControlPlane:
    directory.mkdir()
    return stack.enter_context(control_plane(directory, **settings))


def entry(node: str) -> str:
    return document(
        "WorkloadEntry", "address: 10.0.0.1\nserviceAccount: web", f"name: web, labels: {{hostmesh.io/node: {node}}}"
    )


def apply(running: RunningControlPlane, *texts: str) -> None:
    running.client.apply([{"source": f"{n}.yaml", "text": text} for n, text in enumerate(texts)], dry_run=False)


def statuses(running: RunningControlPlane) -> dict[str, str]:
    return {one["name"]: one["status"] for one in running.client.mesh().get("workloads", [])}


def eventually(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Another process brings it about."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def root(running: RunningControlPlane) -> Path:
    return running.directory / "state" / "ca" / "root-cert.pem"


def endpoints(*running: RunningControlPlane) -> list[Endpoint]:
    return [Endpoint("127.0.0.1", one.port) for one in running]


def join(running: RunningControlPlane, node: str, token: str) -> NodeStore:
    directory = running.directory / node
    directory.mkdir(exist_ok=True)
    store = NodeStore(directory)
    store.save(asyncio.run(enrol(ControlPlane(endpoints(running), root(running)), node, "cluster.local", token)))
    return store


def test_either_may_be_killed_and_nothing_is_lost(stack: ExitStack, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Documents, tokens, nodes, the root and revocations of one are those of the other, before and after."""
    first = start(stack, tmp_path / "a", settings)
    second = start(stack, tmp_path / "b", settings)
    assert root(first).read_bytes() == root(second).read_bytes()

    apply(first, entry("mesh1"))
    eventually(lambda: statuses(second) == {"web": "Healthy"})
    token, spare = (first.client.token("mesh1", 60)["token"] for _ in range(2))
    node = join(second, "mesh1", token)
    with pytest.raises(EnrolmentRefused, match="TOKEN_REPLAYED"):
        join(first, "mesh1", token)

    first.process.kill()
    first.process.wait()
    apply(second, document("PeerAuthentication", "mtls: {mode: STRICT}", "name: strict"))
    join(second, "mesh1", spare)
    plane = ControlPlane(endpoints(first, second), root(second), node.files)
    issued = asyncio.run(CaClient(plane, 3600).fetch(WEB))
    assert plane.endpoint == endpoints(second)[0]
    second.client.ca_revoke("", f"{issued.serial:x}", "keyCompromise")
    second.process.kill()
    second.process.wait()

    again = stack.enter_context(started(first.directory, first.config, first.port))
    eventually(lambda: statuses(again) == {"web": "Healthy"})
    assert len(again.client.objects("PeerAuthentication", None, None)) == 1
    assert {one["state"] for one in again.client.tokens()} == {"used"}
    assert [one["serial"] for one in again.client.ca_revoked()["serials"]] == [f"{issued.serial:x}"]
    assert asyncio.run(CaClient(plane, 3600).fetch(WEB)).identity == WEB


def test_a_root_rotation_is_one_for_all(stack: ExitStack, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Started at one, seen and finished at the other; both hand out the same roots."""
    first = start(stack, tmp_path / "a", settings)
    second = start(stack, tmp_path / "b", settings)
    before = root(first).read_bytes()
    first.client.ca_rotate("start", force=False)
    eventually(lambda: (second.client.ca()["rotation"] or {}).get("phase") == "switched")
    eventually(lambda: (first.client.ca()["rotation"] or {}).get("phase") == "switched")
    second.client.ca_rotate("finish", force=True)
    eventually(lambda: first.client.ca()["rotation"] is None)
    assert root(first).read_bytes() == root(second).read_bytes() != before


def test_endpoints_of_a_dead_host_leave_and_those_of_a_moved_one_stay(
    stack: ExitStack, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """The control plane that held the lease is killed too; the host goes on at the other one."""
    first = start(stack, tmp_path / "a", settings)
    second = start(stack, tmp_path / "b", settings)
    apply(first, entry("mesh1"))
    node = join(first, "mesh1", first.client.token("mesh1", 60)["token"])

    async def live(until: Callable[[], object], *where: RunningControlPlane) -> None:
        plane, client = ControlPlane(endpoints(*where), root(second), node.files), LeaseClient(dict)
        async with plane.connect() as channel, asyncio.TaskGroup() as group:
            living = group.create_task(client.keep(channel))
            await asyncio.to_thread(eventually, until)
            living.cancel()

    def alive(at: RunningControlPlane, gone: bool = False) -> bool:
        leases = at.client.status()["registry"]["leases"]
        return [(one["name"], bool(one["goneSince"])) for one in leases] == [("mesh1", gone)]

    asyncio.run(live(lambda: alive(first), first, second))
    first.process.kill()
    first.process.wait()
    killed, seen = time.monotonic(), set[str]()
    asyncio.run(
        live(
            lambda: seen.update(statuses(second).values()) or time.monotonic() > killed + 1.5 * LEASE,
            *(first, second),
        )
    )
    assert seen == {"Healthy"}
    eventually(lambda: statuses(second) == {"web": "Unhealthy"})
    assert alive(second, gone=True)
    asyncio.run(live(lambda: statuses(second) == {"web": "Healthy"}, second))
