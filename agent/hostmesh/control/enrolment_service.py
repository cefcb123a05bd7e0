"""EnrolmentService: a join token or a host key, and a request, become a node of the mesh (hostmesh.enrolment.v1)."""

from __future__ import annotations

import time
from collections.abc import Callable

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from hostmesh.control.admission import MAX_SIGNATURES, Admission, Admitted, Proof, Refused, Request, signer_of
from hostmesh.control.audit import AuditLog
from hostmesh.control.ca import CaBroken, CertificateAuthority, IdentityRevoked, Issued
from hostmesh.control.challenges import LIFETIME, Asked, Challenges
from hostmesh.control.csr import BadRequest, public_key
from hostmesh.control.nodes import NodeRegistry
from hostmesh.control.offload import Run, inline
from hostmesh.control.peer import address_of, ip_of, receive_bounded, unavailable
from hostmesh.control.tokens import TokenStore
from hostmesh.model.node import is_node_name, node_identity
from hostmesh.wire.host_proof import request_hash
from hostmesh.wire.proto.enrolment_grpc import EnrolmentBase
from hostmesh.wire.proto.enrolment_pb2 import ChallengeRequest, ChallengeResponse, EnrolRequest, EnrolResponse

MAX_REQUEST_BYTES = 64 << 10
_MAX_LOGGED = 256


class EnrolmentService(EnrolmentBase):
    """The one service for callers without a certificate.

    Args:
        ca: signs.
        tokens: admit.
        audit: where admissions and refusals go.
        nodes: the host keys that admit.
        now: seconds since the epoch.
        run: runs what admits, signs and writes.
    """

    def __init__(
        self,
        ca: CertificateAuthority,
        tokens: TokenStore,
        audit: AuditLog,
        nodes: NodeRegistry,
        now: Callable[[], float] = time.time,
        *,
        run: Run = inline,
    ) -> None:
        self._ca = ca
        self._audit = audit
        self._now = now
        self._run = run
        self._admission = Admission(ca.trust_domain, tokens, nodes, Challenges(now))

    async def Challenge(self, stream: Stream[ChallengeRequest, ChallengeResponse]) -> None:  # noqa: N802
        """What the caller has to sign; costs nothing and says nothing about any node."""
        request = await receive_bounded(stream, ChallengeRequest, MAX_REQUEST_BYTES)
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the call carries no request")
        if not is_node_name(request.node):
            raise GRPCError(Status.INVALID_ARGUMENT, _not_a_name(request.node))
        challenge = self._admission.challenge(_asked(request, address_of(stream)))
        await stream.send_message(ChallengeResponse(challenge=challenge, seconds=int(LIFETIME), now=self._now()))

    async def Enrol(self, stream: Stream[EnrolRequest, EnrolResponse]) -> None:  # noqa: N802
        """One request of one would-be node."""
        request = await receive_bounded(stream, EnrolRequest, MAX_REQUEST_BYTES)
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the call carries no request")
        address, ip = address_of(stream), ip_of(stream)
        try:
            issued = await self._run(lambda: self._admit(request, address, ip))
        except (CaBroken, OSError) as error:
            raise unavailable(error) from error
        await stream.send_message(EnrolResponse(cert_chain=issued.chain))

    def _admit(self, request: EnrolRequest, address: str, ip: str) -> Issued:
        """Everything is checked before the token is used up, and its use is on disk before anything is signed."""
        try:
            _check(request)
            self._ca.check_not_revoked(node_identity(self._ca.trust_domain, request.node))
            admitted = self._admission.admit(Request(_asked(request, address), ip, request.token, _proof(request)))
        except Refused as error:
            self._refused(request, address, error.reason.value)
            raise GRPCError(Status.PERMISSION_DENIED, str(error)) from error
        except IdentityRevoked as error:
            self._refused(request, address, "IDENTITY_REVOKED")
            raise GRPCError(Status.PERMISSION_DENIED, f"IDENTITY_REVOKED: {error}") from error
        except BadRequest as error:
            self._refused(request, address, str(error)[:_MAX_LOGGED])
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        issued = self._ca.sign_node(request.csr, request.node)
        self._admitted(request, address, admitted, issued)
        return issued

    def _admitted(self, request: EnrolRequest, address: str, admitted: Admitted, issued: Issued) -> None:
        self._audit.record(
            "enrol",
            result="admitted",
            node=request.node,
            address=address,
            token=admitted.token,
            host_key=admitted.host_key,
            serial=f"{issued.serial:x}",
            not_after=issued.not_after,
        )
        if admitted.learned:
            self._audit.record(
                "node",
                result="registered",
                node=request.node,
                by=f"token {admitted.token}",
                keys=", ".join(key.fingerprint for key in admitted.learned),
            )

    def _refused(self, request: EnrolRequest, address: str, reason: str) -> None:
        signers = (signer_of(blob) for blob in request.proof.signatures[:MAX_SIGNATURES])
        self._audit.record(
            "enrol",
            result="refused",
            node=request.node[:_MAX_LOGGED],
            address=address,
            token=request.token.partition(".")[0][:16],
            host_key=", ".join(key.fingerprint for key in signers if key is not None),
            reason=reason,
        )


def _asked(request: ChallengeRequest | EnrolRequest, address: str) -> Asked:
    return Asked(request.node, request_hash(request.csr), address)


def _proof(request: EnrolRequest) -> Proof | None:
    if not request.HasField("proof"):
        return None
    return Proof(request.proof.challenge, tuple(request.proof.signatures))


def _not_a_name(text: str) -> str:
    return f"{text[:_MAX_LOGGED]!r} is not a node name"


def _check(request: EnrolRequest) -> None:
    if not is_node_name(request.node):
        raise BadRequest(_not_a_name(request.node))
    public_key(request.csr)
