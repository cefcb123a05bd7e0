"""Rules of delta discovery, spoken over real TLS as a client's messages and the server's answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Stream
from grpclib.protocol import H2Protocol
from tests.support.mesh import TRUST_DOMAIN, Mesh, background, until, workload
from tests.support.patience import PATIENCE

from hostmesh.control.ads import AdsService, ConnectedNode
from hostmesh.control.aliases import Aliases, node_alias
from hostmesh.control.debounce import Debounce
from hostmesh.control.snapshot import ResourceSet, Snapshot, SnapshotMaker
from hostmesh.identity.ca_client import CaClient
from hostmesh.model.node import node_identity
from hostmesh.model.workload import Workload
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceStub
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE

A, P = ADDRESS_TYPE, AUTHORIZATION_TYPE


def addresses(**contents: str) -> Snapshot:
    return Snapshot(addresses=ResourceSet.of({name: data.encode() for name, data in contents.items()}))


class Client:
    """Speaks the protocol by hand; resources need not be real ones."""

    def __init__(self, stream: Stream[DeltaDiscoveryRequest, DeltaDiscoveryResponse]) -> None:
        self._stream = stream

    async def ask(self, type_url: str, nonce: str = "", nack: str = "", **fields: Any) -> None:
        error = Status(message=nack) if nack else None
        await self._stream.send_message(
            DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce, error_detail=error, **fields)
        )

    async def hear(self) -> DeltaDiscoveryResponse | None:
        async with asyncio.timeout(PATIENCE):
            return await self._stream.recv_message()

    async def answer(self, ack: bool = True) -> tuple[str, dict[str, str], list[str]]:
        """The next response as (type's last letter, name -> content, removed), acknowledged."""
        response = await self.hear()
        assert response is not None
        if ack:
            await self.ask(response.type_url, response.nonce)
        self.nonce = response.nonce
        self.versions = {resource.name: resource.version for resource in response.resources}
        contents = {resource.name: resource.resource.value.decode() for resource in response.resources}
        return response.type_url[-1], contents, list(response.removed_resources)

    async def silence(self) -> None:
        """Nothing comes, for as long as several debounces take."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await self._stream.recv_message()


@asynccontextmanager
async def connected(control_plane: ControlPlane) -> AsyncIterator[Client]:
    async with (
        control_plane.connect() as channel,
        AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources.open() as stream,
    ):
        await stream.send_request()
        await stream.recv_initial_metadata()
        yield Client(stream)
        await stream.cancel()


Body = Callable[[Mesh, Client], Coroutine[Any, Any, None]]


def transcript(directory: Path, body: Body) -> None:
    """Run the body with a mesh and a connected node."""

    async def main() -> None:
        async with Mesh(directory).serving() as mesh:
            host = await mesh.host("mesh2")
            async with connected(host.control_plane) as client:
                await body(mesh, client)

    asyncio.run(main())


def test_both_types_are_answered_even_with_nothing(tmp_path: Path) -> None:
    """A client is ready only when all types have been answered."""

    async def body(mesh: Mesh, client: Client) -> None:
        mesh.ads.publish(Snapshot())
        await client.ask(A)
        assert await client.answer() == ("s", {}, [])
        await client.ask(P)
        assert await client.answer() == ("n", {}, [])
        await client.silence()

    transcript(tmp_path, body)


def test_nobody_is_answered_before_the_first_publication(tmp_path: Path) -> None:
    """A control plane that has not read its documents yet must not tell nodes that the mesh is empty."""

    async def body(mesh: Mesh, client: Client) -> None:
        await client.ask(A, initial_resource_versions={"a": "1"})
        await client.silence()

    transcript(tmp_path, body)


def test_changes_are_pushed_as_differences(tmp_path: Path) -> None:
    """New, changed and removed resources, and only those; equal content is not sent."""

    async def body(mesh: Mesh, client: Client) -> None:
        mesh.ads.publish(addresses(a="1", b="1"))
        await client.ask(A)
        assert await client.answer() == ("s", {"a": "1", "b": "1"}, [])
        mesh.ads.publish(addresses(a="2", c="1"))
        assert await client.answer() == ("s", {"a": "2", "c": "1"}, ["b"])
        mesh.ads.publish(addresses(a="2", c="1"))
        await client.silence()

    transcript(tmp_path, body)


def test_a_reconnecting_client_gets_only_what_it_lacks(tmp_path: Path) -> None:
    """Equal versions are omitted, stated resources that are gone are removed, and there is an answer in any case."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            mesh.ads.publish(addresses(a="1", b="1"))
            async with connected(host.control_plane) as client:
                await client.ask(A)
                await client.answer()
                held = client.versions
            async with connected(host.control_plane) as client:
                await client.ask(A, initial_resource_versions={**held, "gone": "x"})
                assert await client.answer() == ("s", {}, ["gone"])
            async with connected(host.control_plane) as client:
                await client.ask(A, initial_resource_versions={**held, "b": "old"})
                assert await client.answer() == ("s", {"b": "1"}, [])

    asyncio.run(main())


def test_a_restarted_server_gives_the_same_versions(tmp_path: Path) -> None:
    """Versions are content, so nodes fetch nothing after a restart."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            host = await mesh.host("mesh2")
            mesh.ads.publish(addresses(a="1"))
            async with connected(host.control_plane) as client:
                await client.ask(A)
                await client.answer()
        mesh.open()
        async with mesh.serving():
            mesh.ads.publish(addresses(a="1"))
            async with connected(host.control_plane) as again:
                await again.ask(A, initial_resource_versions=client.versions)
                assert await again.answer() == ("s", {}, [])

    asyncio.run(main())


def test_a_slow_client_gets_the_latest_state_not_a_backlog(tmp_path: Path) -> None:
    """While a response is unanswered, publications are joined; what came and went meanwhile is never seen."""

    async def body(mesh: Mesh, client: Client) -> None:
        mesh.ads.publish(addresses(a="1"))
        await client.ask(A)
        await client.answer(ack=False)
        for number in range(20):
            mesh.ads.publish(addresses(a=str(number), **{f"passing{number}": "1"}))
            await asyncio.sleep(0.012)
        await client.silence()
        await client.ask(A, client.nonce)
        assert await client.answer() == ("s", {"a": "19", "passing19": "1"}, [])
        await client.silence()

    transcript(tmp_path, body)


def serving_side(mesh: Mesh) -> H2Protocol:
    """Of the connection that has a stream."""
    assert mesh.server._server is not None
    (protocol,) = [one for one in mesh.server._server._protocols if not one.connection.is_closing()]
    return protocol


def test_a_client_that_does_not_read_costs_what_its_windows_hold(tmp_path: Path) -> None:
    """However much is published meanwhile: when it reads again it gets one more response, the latest."""

    async def body(mesh: Mesh, client: Client) -> None:
        many = {f"r{number}": "x" * 10_000 for number in range(2000)}
        mesh.ads.publish(addresses(**many))
        await client.ask(A)
        await until(lambda: any(node.types and not node.settled for node in mesh.ads.connected_nodes()))
        protocol = serving_side(mesh)
        for number in range(10):
            mesh.ads.publish(addresses(**many, last=str(number)))
            await asyncio.sleep(0.02)
            assert protocol.connection._transport.get_write_buffer_size() < 1 << 20
        assert len((await client.answer())[1]) == len(many)
        assert await client.answer() == ("s", {"last": "9"}, [])
        await client.silence()

    transcript(tmp_path, body)


def test_nobody_may_ask_for_names_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream ends with the reason."""
    monkeypatch.setattr("hostmesh.control.ads._MAX_NAMES", 3)

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            mesh.ads.publish(addresses(a="1"))

            async def talk() -> None:
                async with connected(host.control_plane) as client:
                    await client.ask(A, resource_names_subscribe=["a", "b"])
                    await client.answer()
                    await client.ask(A, resource_names_subscribe=["c", "d"])
                    await client.hear()

            with pytest.raises(ControlPlaneError, match="RESOURCE_EXHAUSTED: more than 3 names"):
                await talk()

    asyncio.run(main())


def test_a_connection_that_was_closed_here_ends_no_handler(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is pushed to it afterwards is lost, and what still comes in is ignored: the stream ends as any other."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            mesh.ads.publish(addresses(a="1"))

            async def talk() -> None:
                async with connected(host.control_plane) as client:
                    await client.ask(A)
                    await client.answer()
                    await until(lambda: mesh.ads.connected_nodes()[0].settled)
                    protocol = serving_side(mesh)
                    transport = protocol.connection._transport
                    mesh.ads.publish(addresses(a="2"))
                    mesh.ads._push()  # the writer is woken, and has not run yet
                    protocol.connection.close()  # as a keepalive that nobody answers does
                    transport.close()
                    protocol.data_received(bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + b"on a way")  # a PING
                    await until(lambda: not mesh.ads.connected_nodes())

            with pytest.raises(ControlPlaneError, match="was lost"):
                await talk()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == []


def test_a_nack_is_logged_once_and_never_answered_with_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rejected resource comes again when it changes, not before; the node is shown with its complaint."""

    async def body(mesh: Mesh, client: Client) -> None:
        mesh.ads.publish(addresses(a="1", b="1"))
        await client.ask(A)
        await client.answer(ack=False)
        for _ in range(3):
            await client.ask(A, client.nonce, nack="b: is bad")
        await client.silence()
        mesh.ads.publish(addresses(a="2", b="1"))
        assert await client.answer() == ("s", {"a": "2"}, [])
        mesh.ads.publish(addresses(a="2", b="2"))
        assert await client.answer() == ("s", {"b": "2"}, [])
        await until(lambda: mesh.ads.connected_nodes()[0].settled)
        (node,) = mesh.ads.connected_nodes()
        assert (node.node, node.nacks, node.last_nack) == ("mesh2", 1, "b: is bad")

    with caplog.at_level(logging.WARNING):
        transcript(tmp_path, body)
    assert [r.getMessage() for r in caplog.records] == [
        "xds: node mesh2 rejected resources of istio.workload.Address (it keeps their last good state): b: is bad"
    ]


def test_a_stale_nonce_is_ignored(tmp_path: Path) -> None:
    """Only the answer to the outstanding response counts."""

    async def body(mesh: Mesh, client: Client) -> None:
        mesh.ads.publish(addresses(a="1"))
        await client.ask(A)
        await client.answer(ack=False)
        await client.ask(A, "bogus")
        mesh.ads.publish(addresses(a="2"))
        await client.silence()
        await client.ask(A, client.nonce)
        assert await client.answer() == ("s", {"a": "2"}, [])

    transcript(tmp_path, body)


def test_on_demand_names(tmp_path: Path) -> None:
    """Nothing at first, then what is asked for; unknown names and aliases come back as removed."""

    async def body(mesh: Mesh, client: Client) -> None:
        known = ResourceSet.of({"a": b"1", "b": b"1", "c": b"1"})
        mesh.ads.publish(Snapshot(addresses=known, aliases=Aliases({"/10.0.0.1": frozenset({"b"})})))
        await client.ask(A, resource_names_subscribe=["*"], resource_names_unsubscribe=["*"])
        assert await client.answer() == ("s", {}, [])
        await client.ask(A, resource_names_subscribe=["a", "nobody"])
        assert await client.answer() == ("s", {"a": "1"}, ["nobody"])
        await client.ask(A, resource_names_subscribe=["/10.0.0.1"])
        assert await client.answer() == ("s", {"b": "1"}, ["/10.0.0.1"])
        mesh.ads.publish(addresses(a="1", b="2", c="2", nobody="1"))
        assert await client.answer() == ("s", {"nobody": "1"}, ["b"])  # nobody has the address any more
        await client.ask(A, resource_names_unsubscribe=["a"])
        assert await client.answer() == ("s", {}, ["a"])
        mesh.ads.publish(addresses(a="2", nobody="2"))
        assert (await client.answer())[1] == {"nobody": "2"}

    transcript(tmp_path, body)


def test_a_service_brings_its_endpoints_and_those_that_join(tmp_path: Path) -> None:
    """What an on-demand client asked for stays complete; what it does not use is never sent, nor what it let go."""

    async def body(mesh: Mesh, client: Client) -> None:
        known = ResourceSet.of({"svc": b"1", "e1": b"1", "e2": b"1", "other": b"1"})
        mesh.ads.publish(Snapshot(addresses=known, aliases=Aliases({"svc": frozenset({"svc", "e1"})})))
        await client.ask(A, resource_names_subscribe=["svc"])
        assert await client.answer() == ("s", {"svc": "1", "e1": "1"}, [])
        mesh.ads.publish(Snapshot(addresses=known, aliases=Aliases({"svc": frozenset({"svc", "e1", "e2"})})))
        assert await client.answer() == ("s", {"e2": "1"}, [])
        await client.ask(A, resource_names_unsubscribe=["svc"])
        assert await client.answer() == ("s", {}, ["e1", "e2", "svc"])
        changed = ResourceSet.of({"svc": b"2", "e1": b"2", "e2": b"2", "other": b"2"})
        mesh.ads.publish(Snapshot(addresses=changed, aliases=Aliases({"svc": frozenset({"svc", "e1", "e2"})})))
        await client.silence()

    transcript(tmp_path, body)


def test_what_came_with_a_name_goes_with_it_after_a_reconnect_too(tmp_path: Path) -> None:
    """A client says of what it holds that it has not asked for it by its own name."""

    async def body(mesh: Mesh, client: Client) -> None:
        known = ResourceSet.of({"svc": b"1", "e1": b"1", "e2": b"1"})
        mesh.ads.publish(Snapshot(addresses=known, aliases=Aliases({"/10.0.0.1": frozenset({"svc", "e1"})})))
        held = {name: known.versions[name] for name in ("svc", "e1", "e2")}
        await client.ask(
            A,
            resource_names_subscribe=["*", "/10.0.0.1"],
            resource_names_unsubscribe=["*", *held],
            initial_resource_versions=held,
        )
        assert await client.answer() == ("s", {}, ["/10.0.0.1", "e2"])
        await client.ask(A, resource_names_unsubscribe=["/10.0.0.1"])
        assert await client.answer() == ("s", {}, ["e1", "svc"])

    transcript(tmp_path, body)


def test_an_address_of_a_block_that_appears_later(tmp_path: Path) -> None:
    """Who asked for an address that nobody had is told when a service claims the block it lies in."""

    async def body(mesh: Mesh, client: Client) -> None:
        known = ResourceSet.of({"svc": b"1"})
        mesh.ads.publish(Snapshot(addresses=known))
        await client.ask(A, resource_names_subscribe=["/10.9.0.1"])
        assert await client.answer() == ("s", {}, ["/10.9.0.1"])
        block = "/10.9.0.0/16"
        claimed = Aliases({block: frozenset({"svc"})}, {"": {ip_network("10.9.0.0/16"): block}})
        mesh.ads.publish(Snapshot(addresses=known, aliases=claimed))
        assert await client.answer() == ("s", {"svc": "1"}, [])

    transcript(tmp_path, body)


def test_a_node_is_sent_its_own_workloads_unasked(tmp_path: Path) -> None:
    """A stock ztunnel that subscribes on demand never asks for them."""

    async def body(mesh: Mesh, client: Client) -> None:
        own = {node_alias("mesh2"): frozenset({"mine"})}
        mesh.ads.publish(Snapshot(addresses=ResourceSet.of({"mine": b"1", "other": b"1"}), aliases=Aliases(own)))
        await client.ask(A, resource_names_subscribe=["*"], resource_names_unsubscribe=["*"])
        assert await client.answer() == ("s", {"mine": "1"}, [])

    transcript(tmp_path, body)


@pytest.mark.parametrize("published", [[0, 1, 2], [0, 2], [2]], ids=["each", "the first and the last", "the last"])
def test_a_client_hears_what_concerns_it_whatever_is_joined_or_left_out(tmp_path: Path, published: list[int]) -> None:
    """News of several snapshots add up; where one was never published the two ends are compared."""

    async def body(mesh: Mesh, client: Client) -> None:
        maker = SnapshotMaker()
        worlds = [{"mine": 1, "other": 1}, {"mine": 2, "other": 1}, {"mine": 2, "other": 2}, {"mine": 2, "other": 3}]

        def made(world: dict[str, int]) -> Snapshot:
            return maker.make([Workload(name, name, "ns", capacity=capacity) for name, capacity in world.items()])

        mesh.ads.publish(made({"mine": 0, "other": 0}))
        await client.ask(A, resource_names_subscribe=["mine"])
        response = await client.hear()
        assert response is not None
        await client.ask(A, response.nonce)
        await until(lambda: mesh.ads.connected_nodes()[0].settled)
        snapshots = [made(world) for world in worlds]
        for number in published:
            mesh.ads.publish(snapshots[number])
        while (heard := await client.hear()) is not None:
            await client.ask(A, heard.nonce)
            if heard.resources[0].version == snapshots[2].addresses.versions["mine"]:
                break
        await until(lambda: mesh.ads.connected_nodes()[0].settled)
        mesh.ads.publish(snapshots[3])
        await client.silence()

    transcript(tmp_path, body)


def test_a_type_that_is_not_served_is_answered_with_nothing(tmp_path: Path) -> None:
    """A stock client that asks for more than we have must not wait for it."""

    async def body(mesh: Mesh, client: Client) -> None:
        mesh.ads.publish(addresses(a="1"))
        await client.ask("type.googleapis.com/istio.networking.nds.v1.NameTable")
        assert await client.answer() == ("e", {}, [])

    transcript(tmp_path, body)


def test_only_nodes_are_served(tmp_path: Path) -> None:
    """No certificate, or a workload's, is UNAUTHENTICATED with the reason."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            mesh.registered = {"mesh2": {workload("web")}}
            with pytest.raises(ControlPlaneError, match="UNAUTHENTICATED: no client certificate") as caught:
                async with connected(mesh.anonymous()):
                    pytest.fail("an anonymous client was admitted")
            assert caught.value.failure is Failure.NOT_ADMITTED
            host.store.save(await CaClient(host.control_plane, 60).fetch(workload("web")))
            with pytest.raises(ControlPlaneError, match=r"UNAUTHENTICATED: .*sa/web is not a node of this mesh"):
                async with connected(host.control_plane):
                    pytest.fail("a workload was admitted as a node")

    asyncio.run(main())


def test_a_stream_ends_cleanly_with_the_certificate_that_opened_it(tmp_path: Path) -> None:
    """Else a node could go on for ever with a certificate that is not renewed any more."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            host = await mesh.host("mesh2")
            assert host.credentials.identity == node_identity(TRUST_DOMAIN, "mesh2")
            mesh.ads._now = lambda: host.credentials.not_after - 0.1
            async with connected(host.control_plane) as client:
                assert await client.hear() is None
            assert mesh.ads.connected_nodes() == []

    asyncio.run(main())


def test_draining_ends_streams_cleanly(tmp_path: Path) -> None:
    """The client sees an end with status OK, not a failure that makes it back off."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            async with connected(host.control_plane) as client:
                await until(mesh.ads.connected_nodes)
                await mesh.ads.drain()
                assert await client.hear() is None
            assert mesh.ads.connected_nodes() == []

    asyncio.run(main())


def test_too_many_types_are_refused(tmp_path: Path) -> None:
    """What a node can make the server remember is bounded."""

    async def ask_for_much(control_plane: ControlPlane) -> None:
        async with connected(control_plane) as client:
            for number in range(17):
                await client.ask(f"type{number}")
            await client.hear()

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            with pytest.raises(ControlPlaneError, match="RESOURCE_EXHAUSTED: more than 16 types"):
                await ask_for_much(host.control_plane)

    asyncio.run(main())


def test_bursts_are_joined() -> None:
    """After the first, publications wait for the quiet that the debounce asks for; the last one counts."""

    async def main() -> None:
        ads = AdsService("cluster.local", debounce=Debounce(1.0, 2.0))
        seen: list[object] = []
        async with background(ads.run()):
            first, *rest = [addresses(a=str(number)) for number in range(4)]
            ads.publish(first)
            await until(lambda: ads._current is first)
            for snapshot in rest:
                ads.publish(snapshot)
                seen.append(ads._current)
                await asyncio.sleep(0)
            assert seen == [first] * 3
            await until(lambda: ads._current is rest[-1])

    asyncio.run(main())


def test_connected_nodes_are_described(tmp_path: Path) -> None:
    """Name from the certificate, address of the socket, whether everything was answered."""

    async def body(mesh: Mesh, client: Client) -> None:
        mesh.ads.publish(addresses(a="1"))
        await client.ask(A)
        await client.answer(ack=False)
        (node,) = mesh.ads.connected_nodes()
        assert isinstance(node, ConnectedNode)
        assert (node.node, node.settled) == ("mesh2", False)
        assert node.address.startswith("127.0.0.1:")
        await client.ask(A, client.nonce)
        await until(lambda: mesh.ads.connected_nodes()[0].settled)

    transcript(tmp_path, body)
