"""EnrolmentService: a join token and a key become a node of the mesh (hostmesh.enrolment.v1)."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from hostmesh.control.audit import AuditLog
from hostmesh.control.ca import CertificateAuthority, IdentityRevoked, Issued
from hostmesh.control.csr import BadRequest, public_key
from hostmesh.control.peer import address_of, receive_bounded
from hostmesh.control.tokens import TokenRefused, TokenStore
from hostmesh.model.node import is_node_name, node_identity
from hostmesh.wire.proto.enrolment_grpc import EnrolmentBase
from hostmesh.wire.proto.enrolment_pb2 import EnrolRequest, EnrolResponse

MAX_REQUEST_BYTES = 32 << 10
_MAX_LOGGED = 256


class EnrolmentService(EnrolmentBase):
    """The one service for callers without a certificate.

    Args:
        ca: signs.
        tokens: admit.
        audit: where admissions and refusals go.
    """

    def __init__(self, ca: CertificateAuthority, tokens: TokenStore, audit: AuditLog) -> None:
        self._ca = ca
        self._tokens = tokens
        self._audit = audit

    async def Enrol(self, stream: Stream[EnrolRequest, EnrolResponse]) -> None:  # noqa: N802
        """One request of one would-be node."""
        request = await receive_bounded(stream, EnrolRequest, MAX_REQUEST_BYTES)
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the call carries no request")
        issued = self._admit(request, address_of(stream))
        await stream.send_message(EnrolResponse(cert_chain=issued.chain))

    def _admit(self, request: EnrolRequest, address: str) -> Issued:
        """Everything is checked before the token is used up, and its use is on disk before anything is signed."""
        try:
            _check(request)
            self._ca.check_not_revoked(node_identity(self._ca.trust_domain, request.node))
            record = self._tokens.redeem(request.node, request.token)
        except TokenRefused as error:
            self._refused(request, address, error.reason.value)
            raise GRPCError(Status.PERMISSION_DENIED, str(error)) from error
        except IdentityRevoked as error:
            self._refused(request, address, "IDENTITY_REVOKED")
            raise GRPCError(Status.PERMISSION_DENIED, f"IDENTITY_REVOKED: {error}") from error
        except BadRequest as error:
            self._refused(request, address, str(error)[:_MAX_LOGGED])
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        issued = self._ca.sign_node(request.csr, request.node)
        self._audit.record(
            "enrol",
            result="admitted",
            node=request.node,
            address=address,
            token=record.id,
            serial=f"{issued.serial:x}",
            not_after=issued.not_after,
        )
        return issued

    def _refused(self, request: EnrolRequest, address: str, reason: str) -> None:
        self._audit.record(
            "enrol",
            result="refused",
            node=request.node[:_MAX_LOGGED],
            address=address,
            token=request.token.partition(".")[0][:16],
            reason=reason,
        )


def _check(request: EnrolRequest) -> None:
    if not is_node_name(request.node):
        raise BadRequest(f"{request.node[:_MAX_LOGGED]!r} is not a node name")
    public_key(request.csr)
