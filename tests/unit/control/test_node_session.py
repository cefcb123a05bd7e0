"""A node's whole acquaintance with a control plane process: token, enrolment, xDS, certificates, a moved workload."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document
from tests.support.patience import PATIENCE

from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.enrolment import EnrolmentRefused, enrol
from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.node import NodeStore
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.xds.client import NodeInfo, XdsClient
from hostmesh.xds.codec import decode_trust
from hostmesh.xds.held import XdsUpdate

WEB = Identity("cluster.local", "default", "web")
UID = "Kubernetes/networking.istio.io/WorkloadEntry/default/web"
STRICT = document("PeerAuthentication", "mtls: {mode: STRICT}", "name: strict")


def entry(node: str) -> str:
    return document(
        "WorkloadEntry", "address: 10.0.0.1\nserviceAccount: web", f"name: web, labels: {{hostmesh.io/node: {node}}}"
    )


def apply(running: RunningControlPlane, *texts: str) -> None:
    running.client.apply([{"source": f"{n}.yaml", "text": text} for n, text in enumerate(texts)], dry_run=False)


async def session(running: RunningControlPlane, path: Path) -> None:
    endpoint, root = Endpoint("127.0.0.1", running.port), path / "state" / "ca" / "root-cert.pem"
    token = await asyncio.to_thread(lambda: running.client.token("mesh1", 60)["token"])
    store = NodeStore(path)
    store.save(await enrol(ControlPlane(endpoint, root), "mesh1", "cluster.local", token))
    with pytest.raises(EnrolmentRefused) as refused:
        await enrol(ControlPlane(endpoint, root), "mesh1", "cluster.local", token)
    assert refused.value.reason == "TOKEN_REPLAYED"

    plane = ControlPlane(endpoint, root, store.files)
    updates: asyncio.Queue[XdsUpdate] = asyncio.Queue()
    client = XdsClient(plane, NodeInfo("mesh1", "10.0.0.1"), updates.put_nowait)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE):
        following = tasks.create_task(client.run())
        assert decode_trust((await updates.get()).trust).roots_pem == root.read_bytes()
        first = await updates.get()
        assert list(first.addresses) == [UID]
        assert (await CaClient(plane, 3600).fetch(WEB)).identity == WEB
        assert [node["node"] for node in (await asyncio.to_thread(running.client.status))["nodes"]] == ["mesh1"]

        await asyncio.to_thread(apply, running, STRICT, entry("mesh2"))
        told: set[str] = set()
        while told != {UID, "istio-system/istio_converted_static_strict"}:
            update = await updates.get()
            told |= update.addresses.keys() | update.authorizations.keys()
        with pytest.raises(FetchFailed, match="web is not registered on node mesh1"):
            await CaClient(plane, 3600).fetch(WEB)
        following.cancel()


def test_a_node_joins_follows_and_loses_a_workload(tmp_path: Path) -> None:
    """What the operator applies decides, at once, what nodes are told and which certificates they get."""
    with control_plane(tmp_path) as running:
        apply(running, entry("mesh1"))
        asyncio.run(session(running, tmp_path))
