"""Enrolment: a join token buys the node's first certificate (hostmesh.enrolment.v1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from hostmesh.model.identity import Credentials
from hostmesh.model.node import node_identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError, Failure, Validity, clock_text
from hostmesh.wire.proto.enrolment_grpc import EnrolmentStub
from hostmesh.wire.proto.enrolment_pb2 import EnrolRequest
from hostmesh.wire.x509 import BadCertificate, credentials, new_key_and_csr

_log = logging.getLogger(__name__)

CALL_TIMEOUT = 15.0


class EnrolmentRefused(Exception):
    """The control plane does not admit this node. `reason` is a word like TOKEN_EXPIRED; the text has the next step."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


async def enrol(
    control_plane: ControlPlane,
    node: str,
    trust_domain: str,
    token: str,
    *,
    now: Callable[[], float] = time.time,
) -> Credentials:
    """Become a node of the mesh; the token is used up unless this raises.

    Args:
        control_plane: without node files.
        node: this host's name, as the token is bound to it.
        trust_domain: of the mesh.
        token: as minted; surrounding white space is ignored.
        now: seconds since the epoch.

    Raises:
        EnrolmentRefused: unknown, used, expired or foreign token.
        ControlPlaneError: it could not be asked, or gave no usable answer.
    """
    identity = node_identity(trust_domain, node)
    key_pem, csr_pem = new_key_and_csr(identity)
    request = EnrolRequest(node=node, token=token.strip(), csr=csr_pem.decode())
    try:
        async with control_plane.connect() as channel:
            response = await EnrolmentStub(channel).Enrol(request, timeout=CALL_TIMEOUT)
        issued = credentials(identity, key_pem, response.cert_chain)
    except ControlPlaneError as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from error
    except BadCertificate as error:
        text = f"the control plane {control_plane.endpoint} issued an unusable certificate: {error}"
        raise ControlPlaneError(Failure.BROKEN, text) from error
    skew = clock_text("this node's new certificate", Validity(issued.not_before, issued.not_after), now())
    if skew:
        _log.warning("%s", skew)
    return issued


def _refusal(error: ControlPlaneError) -> EnrolmentRefused | None:
    if error.failure is not Failure.REFUSED or error.detail is None:
        return None
    reason, separator, _ = error.detail.partition(":")
    return EnrolmentRefused(reason if separator and reason.isupper() else "REFUSED", error.detail)
