"""Rules of the xDS client, against the real control plane over TLS on loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.mesh import Mesh, background, until

from hostmesh.control.snapshot import ResourceSet, Snapshot, SnapshotMaker
from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.rpc.channel import ControlPlane
from hostmesh.transport.backoff import Backoff
from hostmesh.xds.client import NodeInfo, XdsClient, XdsStatus, XdsUpdate
from hostmesh.xds.types import ADDRESS_TYPE, AUTHORIZATION_TYPE

WEB = Workload(uid="c/networking.istio.io/WorkloadEntry/default/web", name="web", namespace="default")
SERVICE = Service(name="web", namespace="default", hostname="web.default.svc.cluster.local")
DENY = Authorization("deny", "default", PolicyScope.NAMESPACE, Action.DENY)
BAD = ResourceSet.of({"bad": b"\xff\xff"})


class Agent:
    """What an agent sees of its xDS client."""

    def __init__(self, control_plane: ControlPlane, snapshot: Path | None = None) -> None:
        self.updates: list[XdsUpdate] = []
        self.statuses: list[XdsStatus] = []
        self.client = XdsClient(
            control_plane,
            NodeInfo("mesh2", "127.0.0.1"),
            self.updates.append,
            on_status=self.statuses.append,
            snapshot_path=snapshot,
            backoff=Backoff(0.01, 0.05),
        )

    @property
    def names(self) -> list[str]:
        everything = self.client.everything()
        return sorted([*everything.addresses, *everything.authorizations])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        async with background(self.client.run()):
            yield self


def test_sync_update_and_removal(tmp_path: Path) -> None:
    """Both types come, changes follow, and what is removed goes; sync is told once both are answered."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            mesh.ads.publish(SnapshotMaker().make([WEB], [SERVICE], [DENY]))
            async with agent.running():
                await until(lambda: agent.client.synced)
                assert agent.names == sorted([WEB.uid, SERVICE.key, DENY.key])
                moved = replace(WEB, addresses=(ip_address("10.0.0.7"),))
                mesh.ads.publish(SnapshotMaker().make([moved], [SERVICE], []))
                await until(lambda: len(agent.names) == 2)
                await until(lambda: any(WEB.uid in update.addresses for update in agent.updates[2:]))
                assert any(update.removed_authorizations == (DENY.key,) for update in agent.updates)
                told = [(s.connected, s.synced, s.addresses, s.authorizations) for s in agent.statuses]
                assert told == [(True, False, 0, 0), (True, True, 2, 1)]
                counts = agent.client.counts
                assert {ADDRESS_TYPE, AUTHORIZATION_TYPE} <= set(counts.messages)
                assert counts.messages[ADDRESS_TYPE] == 2
                assert counts.message_bytes[ADDRESS_TYPE] > len(WEB.uid) * 2

    asyncio.run(main())


def test_an_empty_mesh_is_in_sync(tmp_path: Path) -> None:
    """A node is ready in a mesh without documents."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            mesh.ads.publish(Snapshot())
            async with agent.running():
                await until(lambda: agent.client.synced)
                assert [bool(update.trust) for update in agent.updates] == [True]
                assert (agent.updates[0].addresses, agent.updates[0].authorizations) == ({}, {})

    asyncio.run(main())


def test_a_bad_resource_is_rejected_and_the_good_ones_are_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The control plane is told which and why; the node is in sync with the rest."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            good = SnapshotMaker().make([WEB])
            both = {**good.addresses.data, **BAD.data}
            mesh.ads.publish(replace(good, addresses=ResourceSet.of(both)))
            async with agent.running():
                await until(lambda: agent.client.synced and mesh.ads.connected_nodes()[0].nacks)
                assert agent.names == [WEB.uid]
                assert agent.client.status().rejected_resources == 1
                assert mesh.ads.connected_nodes()[0].last_nack.startswith("bad: ")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert sum("rejected resources" in record.getMessage() for record in caplog.records) == 2  # one at each end


def test_a_reconnect_fetches_only_differences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """State stays while the control plane is away, and one line says that it is."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            agent = Agent((await mesh.host("mesh2")).control_plane)
            mesh.ads.publish(SnapshotMaker().make([WEB], [SERVICE], [DENY]))
            running = agent.running()
            await running.__aenter__()
            await until(lambda: agent.client.synced)
        await until(lambda: not agent.client.connected)
        await until(lambda: "unreachable" in agent.client.status().error)
        assert set(agent.client.counts.terminations) == {"Complete", "ConnectionError"}
        await asyncio.sleep(0.2)
        assert len(agent.names) == 3
        agent.updates.clear()
        mesh.open()
        async with mesh.serving():
            mesh.ads.publish(SnapshotMaker().make([WEB], [], [DENY]))
            await until(lambda: agent.client.connected)
            await until(lambda: agent.updates)
            assert agent.updates == [XdsUpdate(removed_addresses=(SERVICE.key,))]
            await running.__aexit__(None, None, None)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    texts = [record.getMessage() for record in caplog.records if record.name.endswith("client")]
    assert len(texts) == 2, texts
    assert "xds: the control plane ended the stream. This host goes on" in texts[0]
    assert "is unreachable: Connection refused (ECONNREFUSED); check that" in texts[1]


def test_a_restarted_agent_starts_with_what_it_knew(tmp_path: Path) -> None:
    """Without the control plane it has the last state; with it, it fetches only differences."""
    cache = tmp_path / "xds-snapshot"

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            host = await mesh.host("mesh2")
            mesh.ads.publish(SnapshotMaker().make([WEB], [SERVICE], [DENY]))
            first = Agent(host.control_plane, cache)
            async with first.running():
                await until(lambda: first.client.synced)
        alone = Agent(host.control_plane, cache)
        async with alone.running():
            await until(lambda: alone.updates)
            assert alone.updates == [first.client.everything()]
            status = alone.client.status()
            assert (status.restored, status.synced, status.connected) == (True, False, False)
        mesh.open()
        async with mesh.serving():
            mesh.ads.publish(SnapshotMaker().make([WEB], [SERVICE], [DENY]))
            again = Agent(host.control_plane, cache)
            async with again.running():
                await until(lambda: again.client.synced)
                assert len(again.updates) == 1

    asyncio.run(main())
    assert cache.stat().st_mode & 0o777 == 0o600


def test_refusal_is_said_once_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A node that is not admitted keeps trying in silence."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent(mesh.anonymous())
            async with agent.running():
                await until(lambda: agent.client.status().error)
                await asyncio.sleep(0.2)
                assert not agent.client.connected
                assert set(agent.client.counts.terminations) == {"ConnectionError"}

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    (text,) = [record.getMessage() for record in caplog.records]
    assert "answered UNAUTHENTICATED: no client certificate was presented; enrol this node first" in text


def test_a_large_mesh_comes_in_pieces(tmp_path: Path) -> None:
    """Two thousand workloads in one response, all applied."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            mesh.ads.publish(SnapshotMaker().make(replace(WEB, uid=f"uid{number}") for number in range(2000)))
            async with agent.running():
                await until(lambda: agent.client.synced)
                assert len(agent.names) == 2000
                assert agent.client.status().addresses == 2000

    asyncio.run(main())


def test_what_the_node_says_of_itself() -> None:
    """Istiod wants four parts, an IP and these keys."""
    node = NodeInfo("mesh2", "10.0.0.2", metadata={"CLUSTER_ID": "c1"}).message()
    assert node.id == "ztunnel~10.0.0.2~mesh2.hostmesh-nodes~hostmesh-nodes.svc.cluster.local"
    assert dict(node.metadata) == {
        "NAME": "mesh2",
        "NAMESPACE": "hostmesh-nodes",
        "INSTANCE_IPS": "10.0.0.2",
        "NODE_NAME": "mesh2",
        "CLUSTER_ID": "c1",
    }


def test_connections_that_are_cut_are_made_again(tmp_path: Path) -> None:
    """A control plane that is killed says no farewell; the client waits its time and comes back, however often."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            mesh.ads.publish(SnapshotMaker().make([WEB], [SERVICE], [DENY]))
            async with agent.running():
                for connections in range(1, 5):
                    await until(lambda wanted=connections: agent.client.status().connections == wanted)
                    await until(lambda: agent.client.connected)
                    assert mesh.server._server is not None
                    for protocol in list(mesh.server._server._protocols):
                        if (transport := getattr(protocol.connection, "_transport", None)) is not None:
                            transport.abort()
                    await until(lambda: not agent.client.connected)

    asyncio.run(main())
