"""Rules of the client that follows the mesh on demand, against the real control plane over TLS on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.mesh import Mesh, background, until

from hostmesh.control.aliases import aliases
from hostmesh.control.snapshot import ResourceSet, SnapshotMaker
from hostmesh.model.address import NamespacedHostname, NetworkAddress
from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.service import Service, hostname_alias
from hostmesh.model.workload import Workload
from hostmesh.rpc.channel import ControlPlane
from hostmesh.transport.backoff import Backoff
from hostmesh.xds import client as client_module
from hostmesh.xds import interest as interest_module
from hostmesh.xds.client import NodeInfo, XdsClient, XdsUpdate
from hostmesh.xds.counts import ANSWERED, ASKED, REFUSED
from hostmesh.xds.types import node_services_alias

SHOP, BANK = NamespacedHostname("default", "shop"), NamespacedHostname("default", "bank")
VIP = "/240.0.0.1"
SERVICE = Service("shop", "default", "shop", (NetworkAddress("", ip_address("240.0.0.1")),))
OTHER = Service("bank", "default", "bank")


def at(number: int, *services: NamespacedHostname, node: str = "") -> Workload:
    address, name = ip_address(f"10.0.0.{number}"), f"w{number}"
    return Workload(name, name, "default", (address,), node=node, services={key: {} for key in services})


WORLD: Sequence[Workload] = (at(1, SHOP), at(2, SHOP), at(3), at(4, BANK, node="mesh2"))


class Agent:
    """What an agent sees of its xDS client, and what its workers may rely on."""

    def __init__(self, control_plane: ControlPlane, snapshot: Path | None = None, *, on_demand: bool = True) -> None:
        self.known: set[str] = set()
        self.refused: dict[str, str] = {}
        self.resources: set[str] = set()
        self.policies: set[str] = set()
        self.updates: list[XdsUpdate] = []
        self.client = XdsClient(
            control_plane,
            NodeInfo("mesh2", "127.0.0.1"),
            self._take,
            on_demand=[node_services_alias("mesh2")] if on_demand else None,
            snapshot_path=snapshot,
            backoff=Backoff(0.01, 0.05),
        )

    def _take(self, update: XdsUpdate) -> None:
        self.updates.append(update)
        self.known = (self.known - set(update.forgotten)) | set(update.learned)
        self.refused.update(update.refused)
        self.resources = (self.resources | set(update.addresses)) - set(update.removed_addresses)
        self.policies |= set(update.authorizations)

    async def learn(self, *names: str) -> None:
        for name in names:
            self.client.want(name)
        await until(lambda: self.known >= set(names))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        async with background(self.client.run()):
            yield self


def publish(mesh: Mesh, *workloads: Workload) -> None:
    mesh.ads.publish(SnapshotMaker().make(workloads, [SERVICE, OTHER]))


def test_an_agent_holds_its_own_and_what_it_asked_for(tmp_path: Path) -> None:
    """Its workloads with their services; then a service with its endpoints, or the word that nobody is there."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            publish(mesh, *WORLD)
            async with agent.running():
                await until(lambda: agent.client.synced)
                assert agent.resources == {"w4", "default/bank"}
                await agent.learn(VIP)
                assert agent.resources == {"w4", "default/bank", "default/shop", "w1", "w2"}
                await agent.learn("/10.9.9.9", "/10.0.0.3")
                assert agent.resources == {"w4", "default/bank", "default/shop", "w1", "w2", "w3"}
                assert agent.client.counts.on_demand == {ASKED: 3, ANSWERED: 3}
                publish(mesh, *WORLD[1:], replace(WORLD[0], services={}), at(5, SHOP), at(6), at(7))
                await until(lambda: "w5" in agent.resources and "w1" not in agent.resources)
                assert not {"w6", "w7"} & agent.resources

    asyncio.run(main())


def test_a_hostname_is_asked_for_as_an_address_is(tmp_path: Path) -> None:
    """Its services, of all namespaces, with their endpoints; or the word that no service has it, while it is so."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            publish(mesh, *WORLD[:3])
            async with agent.running():
                await agent.learn(hostname_alias("shop"), hostname_alias("pub"))
                assert agent.resources == {"default/shop", "w1", "w2"}
                pubs = [Service("pub", namespace, "pub") for namespace in ("default", "other")]
                mesh.ads.publish(SnapshotMaker().make(WORLD[:3], [SERVICE, OTHER, *pubs]))
                await until(lambda: agent.resources >= {"default/pub", "other/pub"})

    asyncio.run(main())


def test_policies_come_unasked(tmp_path: Path) -> None:
    """All of them: who is judged by one may be asked for later."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            deny = Authorization("deny", "elsewhere", PolicyScope.NAMESPACE, Action.DENY)
            mesh.ads.publish(SnapshotMaker().make(WORLD, [SERVICE, OTHER], [deny]))
            async with agent.running():
                await until(lambda: agent.client.synced)
                assert agent.policies == {deny.key}

    asyncio.run(main())


def test_whoever_appears_at_an_address_that_nobody_had_is_told_unasked(tmp_path: Path) -> None:
    """A miss is remembered only as long as it is one."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            publish(mesh)
            async with agent.running():
                await agent.learn("/10.0.0.3")
                publish(mesh, at(3))
                await until(lambda: "w3" in agent.resources)

    asyncio.run(main())


def test_what_is_not_used_any_more_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First nobody relies on it, then it is let go, then its resources go; asked again, it comes again."""
    monkeypatch.setattr(interest_module, "IDLE", 0.2)
    monkeypatch.setattr(client_module, "_LET_GO_INTERVAL", 0.05)

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            publish(mesh, *WORLD)
            async with agent.running():
                await agent.learn(VIP, "/10.0.0.1")
                await until(lambda: not agent.known)
                await until(lambda: agent.resources == {"w4", "default/bank"})
                await agent.learn(VIP)
                assert {"default/shop", "w1", "w2"} <= agent.resources

    asyncio.run(main())


def test_while_the_control_plane_is_away_nothing_becomes_known(tmp_path: Path) -> None:
    """What was known still is; what is asked for meanwhile is answered when it is back, without being asked again."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            agent = Agent((await mesh.host("mesh2")).control_plane)
            publish(mesh, *WORLD)
            running = agent.running()
            await running.__aenter__()
            await agent.learn(VIP)
        await until(lambda: not agent.client.connected)
        agent.client.want("/10.0.0.3")
        agent.client.want(VIP)
        await until(lambda: "unreachable" in agent.client.status().error)
        assert agent.known == {VIP}
        mesh.open()
        async with mesh.serving():
            publish(mesh, *WORLD[1:])
            await until(lambda: agent.known == {VIP, "/10.0.0.3"})
            await until(lambda: agent.resources == {"w4", "default/bank", "default/shop", "w2", "w3"})
            await running.__aexit__(None, None, None)

    asyncio.run(main())


def test_what_was_known_is_known_after_a_restart(tmp_path: Path) -> None:
    """Without the control plane too; and nothing is fetched again."""
    cache = tmp_path / "xds-snapshot"

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            host = await mesh.host("mesh2")
            publish(mesh, *WORLD)
            first = Agent(host.control_plane, cache)
            async with first.running():
                await until(lambda: first.client.synced)
                await first.learn(VIP, "/10.9.9.9")
        alone = Agent(host.control_plane, cache)
        async with alone.running():
            await until(lambda: alone.known == {VIP, "/10.9.9.9"})
            assert alone.resources == {"w4", "default/bank", "default/shop", "w1", "w2"}
        mesh.open()
        async with mesh.serving():
            publish(mesh, *WORLD)
            again = Agent(host.control_plane, cache)
            async with again.running():
                await until(lambda: again.client.synced)
                assert [update for update in again.updates[1:] if update.addresses or update.removed_addresses] == []

    asyncio.run(main())


@pytest.mark.parametrize("before", [True, False])
def test_what_was_followed_in_another_way_is_not_taken_for_the_mesh(tmp_path: Path, before: bool) -> None:
    """A part is not the whole: whom it does not name would be a stranger, and be talked to in plaintext."""
    cache = tmp_path / "xds-snapshot"

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            publish(mesh, *WORLD)
            first = Agent(host.control_plane, cache, on_demand=before)
            async with first.running():
                await until(lambda: first.client.synced)
        second = Agent(host.control_plane, cache, on_demand=not before)
        assert second.client.anew
        assert not second.client.status().restored
        assert not second.client.everything()
        assert not Agent(host.control_plane, cache, on_demand=before).client.anew

    asyncio.run(main())


def test_what_was_rejected_is_not_taken_for_nobody(tmp_path: Path) -> None:
    """The address has somebody, whom this agent does not understand: who asks is refused, and may ask again."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane)
            good = SnapshotMaker().make([at(3)])
            broken = replace(good, addresses=ResourceSet.of({"w3": b"\xff\xff"}), aliases=aliases([at(3)], []))
            mesh.ads.publish(broken)
            async with agent.running():
                await until(lambda: agent.client.synced)
                agent.client.want("/10.0.0.3")
                await until(lambda: agent.refused)
                assert not agent.known
                assert agent.client.counts.on_demand[REFUSED] == 1
                mesh.ads.publish(good)
                await agent.learn("/10.0.0.3")
                assert "w3" in agent.resources

    asyncio.run(main())


def test_nonsense_is_refused_at_once(tmp_path: Path) -> None:
    """A worker may ask for addresses and services."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent(mesh.anonymous())
            agent.client.want("*")
            assert agent.refused == {"*": "not an address of a network, nor a service of a namespace, nor a hostname"}

    asyncio.run(main())


def test_who_follows_everything_knows_everything_once_it_is_in_sync(tmp_path: Path) -> None:
    """A worker of a program that followed on demand may still ask."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = Agent((await mesh.host("mesh2")).control_plane, on_demand=False)
            publish(mesh, *WORLD)
            agent.client.want("/10.0.0.3")
            assert not agent.known
            async with agent.running():
                await until(lambda: agent.client.synced)
                agent.client.want("/10.0.0.3")
                assert agent.known == {"/10.0.0.3"}

    asyncio.run(main())
