"""What a real ztunnel does, replayed: no client certificate, a bearer token, its order of requests, its answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Struct
from grpclib.client import Stream
from grpclib.const import Status
from tests.support.mesh import Mesh, until, workload
from tests.support.patience import PATIENCE

from hostmesh.control.snapshot import SnapshotMaker
from hostmesh.model.address import NamespacedHostname, NetworkAddress
from hostmesh.model.node import NODE_NAMESPACE
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.wire.proto.ca_grpc import IstioCertificateServiceStub
from hostmesh.wire.proto.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceStub
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from hostmesh.wire.x509 import new_key_and_csr, spiffe_identities
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE

WEB = workload("web")
API = NamespacedHostname("default", "api")
W1 = Workload("w1", "web", "default", (ip_address("10.0.0.1"),), node="mesh2", service_account="web")
W2 = Workload("w2", "api", "default", (ip_address("10.0.0.2"),), services={API: {80: 8080}})
S = Service("api", "default", "api", (NetworkAddress("", ip_address("240.240.0.1")),), ports={80: 8080})
WORLD = SnapshotMaker().make([W1, W2], [S])


class Ztunnel:
    """One stream of a proxy that presents a token only."""

    def __init__(self, stream: Stream[DeltaDiscoveryRequest, DeltaDiscoveryResponse]) -> None:
        self._stream = stream
        self.held: dict[str, dict[str, str]] = {ADDRESS_TYPE: {}, AUTHORIZATION_TYPE: {}}

    async def ask(self, on_demand: bool = False) -> None:
        """Address, then Authorization, both at once, with the node on each; `*` both ways means nothing yet."""
        node = Node(id="ztunnel~1.1.1.1~web.default~default.svc.cluster.local")
        node.metadata.update({"NAME": "web", "NAMESPACE": "default", "INSTANCE_IPS": "", "NODE_NAME": ""})
        names = ["*"] if on_demand else []
        for type_url in (ADDRESS_TYPE, AUTHORIZATION_TYPE):
            asked = names if type_url == ADDRESS_TYPE else []
            await self._stream.send_message(
                DeltaDiscoveryRequest(
                    node=node,
                    type_url=type_url,
                    resource_names_subscribe=asked,
                    resource_names_unsubscribe=asked,
                    initial_resource_versions=self.held[type_url],
                )
            )

    async def look_up(self, name: str) -> None:
        """Spontaneous: no nonce."""
        await self._stream.send_message(DeltaDiscoveryRequest(type_url=ADDRESS_TYPE, resource_names_subscribe=[name]))

    async def hear(self, nack: str = "") -> tuple[str, list[str], list[str]]:
        """The next response's type, names and removals; answered."""
        async with asyncio.timeout(PATIENCE):
            response = await self._stream.recv_message()
        assert response is not None
        assert response.nonce, "an answer to no nonce would look like a new wildcard"
        answer = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if nack:
            answer.error_detail.message = nack
        await self._stream.send_message(answer)
        held = self.held[response.type_url]
        held.update({resource.name: resource.version for resource in response.resources})
        for name in response.removed_resources:
            held.pop(name, None)
        names = sorted(resource.name for resource in response.resources)
        return response.type_url.rpartition(".")[2], names, list(response.removed_resources)


def headers(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "clusterid": "Kubernetes"}


@asynccontextmanager
async def ztunnel(mesh: Mesh, token: str) -> AsyncIterator[Ztunnel]:
    async with mesh.anonymous().connect() as channel:
        stub = AggregatedDiscoveryServiceStub(channel)
        async with stub.DeltaAggregatedResources.open(metadata=headers(token)) as stream:
            yield Ztunnel(stream)
            await stream.cancel()


async def one_answer(mesh: Mesh, token: str) -> None:
    async with ztunnel(mesh, token) as proxy:
        await proxy.ask()
        await proxy.hear()


async def certify(mesh: Mesh, token: str, impersonated: str = "") -> IstioCertificateResponse:
    metadata = Struct()
    if impersonated:
        metadata.update({"ImpersonatedIdentity": impersonated})
    csr = new_key_and_csr(WEB)[1].decode()
    async with mesh.anonymous().connect() as channel:
        stub = IstioCertificateServiceStub(channel)
        request = IstioCertificateRequest(csr=csr, validity_duration=86400, metadata=metadata)
        return await stub.CreateCertificate(request, metadata=headers(token))


def test_it_becomes_ready_and_is_told_only_news_when_it_comes_back(tmp_path: Path) -> None:
    """Both types are answered though there are no policies; a reconnect with all versions is sent nothing."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.ads.publish(WORLD)
            token = mesh.bearers.mint("default", "web")
            async with ztunnel(mesh, token) as first:
                await first.ask()
                assert await first.hear() == ("Address", ["default/api", "w1", "w2"], [])
                assert await first.hear() == ("Authorization", [], [])
                await until(lambda: all(node.settled for node in mesh.ads.connected_nodes()))
                assert [node.node for node in mesh.ads.connected_nodes()] == ["default/web"]
            async with ztunnel(mesh, token) as second:
                second.held = first.held
                await second.ask()
                assert await second.hear() == ("Address", [], [])
                assert await second.hear() == ("Authorization", [], [])

    asyncio.run(main())


def test_on_demand_it_is_released_by_the_very_name(tmp_path: Path) -> None:
    """Its own workloads come unasked; an address it asks for comes back as removed beside what it means."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.ads.publish(WORLD)
            async with ztunnel(mesh, mesh.bearers.mint(NODE_NAMESPACE, "mesh2")) as proxy:
                await proxy.ask(on_demand=True)
                assert await proxy.hear() == ("Address", ["w1"], [])
                assert await proxy.hear() == ("Authorization", [], [])
                await proxy.look_up("/240.240.0.1")
                assert await proxy.hear() == ("Address", ["default/api", "w2"], ["/240.240.0.1"])
                await proxy.look_up("/10.9.9.9")
                assert await proxy.hear() == ("Address", [], ["/10.9.9.9"])

    asyncio.run(main())


def test_what_it_rejects_is_kept_for_the_operator(tmp_path: Path) -> None:
    """Its own words, and no endless repetition of what it does not take."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.ads.publish(WORLD)
            async with ztunnel(mesh, mesh.bearers.mint("default", "web")) as proxy:
                await proxy.ask()
                await proxy.hear(nack="w1: unknown enum: unsupported tunnel protocol: legacy istio mtls")
                assert (await proxy.hear())[0] == "Authorization"
                mesh.ads.publish(SnapshotMaker().make([W1], [S]))
                assert await proxy.hear() == ("Address", [], ["w2"])
                [node] = mesh.ads.connected_nodes()
                assert (node.nacks, node.last_nack[:3]) == (1, "w1:")

    asyncio.run(main())


def test_a_workloads_token_buys_that_workloads_certificate(tmp_path: Path) -> None:
    """In dedicated mode it names no identity; leaf and roots are elements of their own."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            token = mesh.bearers.mint("default", "web")
            leaf, roots = (await certify(mesh, token)).cert_chain
            assert spiffe_identities(ssl.PEM_cert_to_DER_cert(leaf)) == (WEB,)
            assert roots.encode() == mesh.ca.roots_pem
            with pytest.raises(
                ControlPlaneError, match=r"with the bearer token of spiffe://cluster.local/ns/default/sa"
            ):
                await certify(mesh, token, str(workload("other")))

    asyncio.run(main())


def test_a_nodes_token_may_impersonate_what_is_registered_on_it(tmp_path: Path) -> None:
    """As its certificate would; nothing else."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.registered = {"mesh2": {WEB}}
            token = mesh.bearers.mint(NODE_NAMESPACE, "mesh2")
            assert len((await certify(mesh, token, str(WEB))).cert_chain) == 2
            with pytest.raises(ControlPlaneError, match="not registered on node mesh2"):
                await certify(mesh, token, str(workload("other")))

    asyncio.run(main())


def test_without_a_good_token_nobody_is_let_in(tmp_path: Path) -> None:
    """The refusal says what is wrong and how to make one; a revoked identity's token is worth nothing."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.ads.publish(WORLD)
            good = mesh.bearers.mint("default", "web")
            mesh.trust.revoke_identity(WEB, "stolen")
            for token, words in (("nonsense", "hostmesh token create --jwt"), (good, "is revoked")):
                with pytest.raises(ControlPlaneError, match=words) as refused:
                    await one_answer(mesh, token)
                assert (refused.value.failure, refused.value.status) == (Failure.NOT_ADMITTED, Status.UNAUTHENTICATED)

    asyncio.run(main())
