"""CertificateService: Istio's certificate service for nodes; they may ask for the workloads registered on them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from hostmesh.control.audit import AuditLog
from hostmesh.control.ca import CaBroken, CertificateAuthority, IdentityRevoked, Issued
from hostmesh.control.csr import BadRequest
from hostmesh.control.offload import Run, inline
from hostmesh.control.peer import Authenticate, NodePeer, by_certificate, receive_bounded, unavailable
from hostmesh.model.identity import Identity, InvalidIdentity
from hostmesh.model.node import INBOUND_NAMESPACE, NODE_NAMESPACE, inbound_identity, node_identity, node_of
from hostmesh.wire.proto.ca_grpc import IstioCertificateServiceBase
from hostmesh.wire.proto.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

MAX_REQUEST_BYTES = 64 << 10
_IMPERSONATED = "ImpersonatedIdentity"
_MAX_LOGGED = 256

MAX_SHARED = 64
"""Workloads that one certificate may name; more make a handshake too long."""

Registered = Callable[[str], Collection[Identity]]


class NotEntitled(Exception):
    """The node may not have a certificate for what it asks."""


def entitled(
    requested: str, node: str, trust_domain: str, registered: Registered, *, shared_inbound: bool = False
) -> Identity:
    """The identity that the node asks for, if it may have it: its own, or one registered on it.

    Args:
        requested: as in the request; empty if it names none.
        node: the authenticated caller.
        trust_domain: of the mesh.
        registered: the workload identities of a node.
        shared_inbound: whether it may have one certificate that names all of these.

    Raises:
        NotEntitled: with the reason and the next step.
    """
    if not requested:
        raise NotEntitled(f"the request names no identity in its metadata ({_IMPERSONATED})")
    try:
        identity = Identity.parse(requested)
    except InvalidIdentity as error:
        raise NotEntitled(f"the requested identity is none: {error}") from error
    if identity == node_identity(trust_domain, node):
        return identity
    if identity == inbound_identity(trust_domain, node):
        _check_shared(registered(node), node, allowed=shared_inbound)
        return identity
    if identity.namespace in (NODE_NAMESPACE, INBOUND_NAMESPACE):
        raise NotEntitled(f"{identity} is another node than {node}")
    if identity.trust_domain != trust_domain:
        raise NotEntitled(f"{identity} is not of this mesh's trust domain {trust_domain}")
    if identity not in registered(node):
        raise NotEntitled(
            f"{identity} is not registered on node {node}: apply a WorkloadEntry with that namespace and service "
            "account that names this node"
        )
    return identity


def _check_shared(identities: Collection[Identity], node: str, *, allowed: bool) -> None:
    if not allowed:
        raise NotEntitled(
            "this mesh has no certificates that name several workloads; `certificates: {shared_inbound: true}` in "
            "control-plane.yaml admits them"
        )
    if not 0 < len(identities) <= MAX_SHARED:
        raise NotEntitled(
            f"{len(identities)} workload identities are registered on node {node}, and a certificate can name 1 to "
            f"{MAX_SHARED}"
        )


class CertificateService(IstioCertificateServiceBase):
    """Signs for authenticated nodes and writes down every grant and refusal.

    Args:
        ca: signs.
        registered: the workload identities of a node, at this moment.
        audit: where grants and refusals go.
        authenticate: tells the calling node or raises; by default its client certificate decides.
        run: runs what signs and writes.
        shared_inbound: whether a node may have one certificate for all of its workloads.
    """

    def __init__(
        self,
        ca: CertificateAuthority,
        registered: Registered,
        audit: AuditLog,
        authenticate: Authenticate | None = None,
        run: Run = inline,
        *,
        shared_inbound: bool = False,
    ) -> None:
        self._ca = ca
        self._registered = registered
        self._audit = audit
        self._authenticate = authenticate or by_certificate(ca.trust_domain)
        self._run = run
        self._shared_inbound = shared_inbound

    async def CreateCertificate(  # noqa: N802
        self, stream: Stream[IstioCertificateRequest, IstioCertificateResponse]
    ) -> None:
        """One request for one certificate."""
        peer = self._authenticate(stream)
        request = await receive_bounded(stream, IstioCertificateRequest, MAX_REQUEST_BYTES)
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the call carries no request")
        try:
            chain = await self._run(lambda: self._grant(request, peer))
        except (CaBroken, OSError) as error:
            raise unavailable(error) from error
        await stream.send_message(IstioCertificateResponse(cert_chain=chain))

    def _grant(self, request: IstioCertificateRequest, peer: NodePeer) -> tuple[str, ...]:
        value = request.metadata.fields.get(_IMPERSONATED)
        requested = value.string_value if value is not None else ""
        try:
            identity = self._entitled(requested, peer)
            issued = self._sign(request, identity, peer.node)
        except (NotEntitled, IdentityRevoked, BadRequest) as error:
            self._audit.record(
                "certificate",
                result="refused",
                node=peer.node,
                address=peer.address,
                identity=requested[:_MAX_LOGGED],
                reason=str(error)[:_MAX_LOGGED],
            )
            status = Status.INVALID_ARGUMENT if isinstance(error, BadRequest) else Status.PERMISSION_DENIED
            raise GRPCError(status, str(error)) from error
        self._audit.record(
            "certificate",
            result="issued",
            node=peer.node,
            address=peer.address,
            identity=str(identity),
            serial=f"{issued.serial:x}",
            not_after=issued.not_after,
        )
        return issued.chain

    def _entitled(self, requested: str, peer: NodePeer) -> Identity:
        if peer.workload is None:
            return entitled(
                requested,
                peer.node,
                self._ca.trust_domain,
                self._registered,
                shared_inbound=self._shared_inbound,
            )
        if requested not in ("", str(peer.workload)):
            raise NotEntitled(f"{requested} is asked for with the bearer token of {peer.workload}")
        return peer.workload

    def _sign(self, request: IstioCertificateRequest, identity: Identity, node: str) -> Issued:
        if node_of(identity, self._ca.trust_domain) is not None:
            return self._ca.sign_node(request.csr, node)
        if identity.namespace == INBOUND_NAMESPACE:
            return self._ca.sign_inbound(request.csr, self._registered(node), float(request.validity_duration), node)
        return self._ca.sign(request.csr, identity, float(request.validity_duration), node)
