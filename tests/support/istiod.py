"""An istiod that behaves, as far as a proxy on a host sees it: who may call, as whom, and what it is told.

Tokens stand for service accounts, as a JWT rule or a TokenReview would find; a client certificate of the mesh is
believed too. The node must be well-formed and say what the credentials say. Nobody may impersonate: on a host there
are no pods. Only istiod's own types are answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream
from tests.support.records import records

from hostmesh.control.ca import CertificateAuthority
from hostmesh.control.grpc_server import GrpcServer
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Identity
from hostmesh.rpc.roots import Roots
from hostmesh.wire.proto.ca_grpc import IstioCertificateServiceBase
from hostmesh.wire.proto.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceBase
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE

TRUST_DOMAIN = "cluster.local"


class Istiod(AggregatedDiscoveryServiceBase, IstioCertificateServiceBase):
    """`tokens` are good for the service accounts that they name; `resources` are told to everybody."""

    def __init__(self, directory: Path, address: str = "127.0.0.1", port: int = 0) -> None:
        directory.mkdir()
        self.address = address
        self.tokens: dict[str, Identity] = {}
        self.resources: dict[str, dict[str, bytes]] = {ADDRESS_TYPE: {}, AUTHORIZATION_TYPE: {}}
        self.asked: list[str] = []
        self.callers: list[tuple[str, Identity]] = []
        self.nodes: list[Node] = []
        self.ca = CertificateAuthority(directory / "ca", TRUST_DOMAIN, records(directory))
        self.server = GrpcServer(self.ca, [self], hosts=[address], bind=address, port=port)

    def __mapping__(self) -> dict[str, Any]:
        return {
            **AggregatedDiscoveryServiceBase.__mapping__(self),
            **IstioCertificateServiceBase.__mapping__(self),
        }

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Istiod]:
        await self.server.start()
        try:
            yield self
        finally:
            await self.server.stop()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address, self.server.port)

    @property
    def roots(self) -> Roots:
        return Roots(self.ca.root_path)

    async def CreateCertificate(  # noqa: N802
        self, stream: Stream[IstioCertificateRequest, IstioCertificateResponse]
    ) -> None:
        identity = self._caller(stream)
        request = await stream.recv_message()
        assert request is not None
        if "ImpersonatedIdentity" in request.metadata.fields:
            raise GRPCError(Status.PERMISSION_DENIED, "impersonation is for the ztunnel of a node that runs its pod")
        issued = self.ca.sign(request.csr, identity, float(request.validity_duration))
        await stream.send_message(IstioCertificateResponse(cert_chain=issued.chain))

    async def DeltaAggregatedResources(  # noqa: N802
        self, stream: Stream[DeltaDiscoveryRequest, DeltaDiscoveryResponse]
    ) -> None:
        identity = self._caller(stream)
        nonces: set[str] = set()
        while (request := await stream.recv_message()) is not None:
            if request.response_nonce in nonces or request.type_url not in self.resources:
                continue
            if not self.nodes or request.HasField("node"):
                self._check(request.node, identity)
            self.asked.append(request.type_url)
            nonces.add(f"n{len(nonces)}")
            resources = [
                Resource(name=name, version="v1", resource=Packed(type_url=request.type_url, value=data))
                for name, data in self.resources[request.type_url].items()
            ]
            await stream.send_message(
                DeltaDiscoveryResponse(type_url=request.type_url, nonce=f"n{len(nonces) - 1}", resources=resources)
            )

    def _caller(self, stream: Stream[Any, Any]) -> Identity:
        """Client certificate, else token; with exactly the header's bytes after the scheme."""
        certificate = stream.peer.cert()
        if certificate:
            [uri] = [value for kind, value in certificate["subjectAltName"] if kind == "URI"]
            identity = Identity.parse(uri)
            self.callers.append(("certificate", identity))
            return identity
        metadata: Any = stream.metadata
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        found = self.tokens.get(token)
        if scheme != "Bearer" or found is None or metadata.get("clusterid") != "Kubernetes":
            raise GRPCError(Status.UNAUTHENTICATED, "authentication failure")
        self.callers.append(("token", found))
        return found

    def _check(self, node: Node, identity: Identity) -> None:
        kind, ip, name, domain = node.id.split("~")
        said = {key: value.string_value for key, value in node.metadata.fields.items()}
        assert (kind, domain) == ("ztunnel", f"{identity.namespace}.svc.cluster.local")
        assert ip_address(ip)
        assert name.endswith(f".{identity.namespace}")
        if said.get("NAMESPACE") != identity.namespace:
            raise GRPCError(Status.PERMISSION_DENIED, "no identities matched the namespace")
        if said.get("SERVICE_ACCOUNT", identity.service_account) != identity.service_account:
            raise GRPCError(Status.PERMISSION_DENIED, "no identities matched the service account")
        self.nodes.append(node)
