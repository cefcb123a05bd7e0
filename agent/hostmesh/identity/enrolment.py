"""Enrolment: a join token or the SSH host key buys the node's certificate (hostmesh.enrolment.v1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from grpclib.client import Channel

from hostmesh.identity.host_key import HostKeyUnavailable
from hostmesh.model.identity import Credentials
from hostmesh.model.node import node_identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError, Failure, Validity, clock_text, skew_text
from hostmesh.wire.host_proof import Statement, request_hash
from hostmesh.wire.proto.enrolment_grpc import EnrolmentStub
from hostmesh.wire.proto.enrolment_pb2 import ChallengeRequest, EnrolRequest, HostProof
from hostmesh.wire.x509 import BadCertificate, credentials, new_key_and_csr

_log = logging.getLogger(__name__)

CALL_TIMEOUT = 15.0

Sign = Callable[[Statement], Awaitable[tuple[bytes, ...]]]
"""Signs with the host's keys; raises HostKeyUnavailable."""


class EnrolmentRefused(Exception):
    """The control plane does not admit this node. `reason` is a word like TOKEN_EXPIRED; the text has the next step."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


async def enrol(
    control_plane: ControlPlane,
    node: str,
    trust_domain: str,
    token: str = "",
    *,
    sign: Sign | None = None,
    now: Callable[[], float] = time.time,
) -> Credentials:
    """Become a node of the mesh; a token is used up unless this raises.

    With both, the token admits, and the control plane learns by which key it may know this host later.

    Args:
        control_plane: without node files.
        node: this host's name, as the token is bound to it or the host key is registered for it.
        trust_domain: of the mesh.
        token: as minted; surrounding white space is ignored; empty for none.
        sign: proves the host key; None for no proof.
        now: seconds since the epoch.

    Raises:
        EnrolmentRefused: the token or the key does not admit this node.
        HostKeyUnavailable: there is no token, and this host cannot sign.
        ControlPlaneError: it could not be asked, or gave no usable answer; CLOCK if the clocks differ too much.
    """
    identity = node_identity(trust_domain, node)
    key_pem, csr_pem = new_key_and_csr(identity)
    request = EnrolRequest(node=node, token=token.strip(), csr=csr_pem.decode())
    skew = None
    try:
        async with control_plane.connect() as channel:
            if sign is not None:
                skew = await _prove(channel, request, trust_domain, sign, now)
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
    _check_clock(issued, skew, now())
    return issued


async def _prove(
    channel: Channel, request: EnrolRequest, trust_domain: str, sign: Sign, now: Callable[[], float]
) -> float:
    """Add the proof to the request; how many seconds this host's clock is ahead of the control plane's."""
    asked = now()
    challenge = await EnrolmentStub(channel).Challenge(
        ChallengeRequest(node=request.node, csr=request.csr), timeout=CALL_TIMEOUT
    )
    skew = (asked + now()) / 2 - challenge.now
    try:
        statement = Statement(trust_domain, request.node, request_hash(request.csr), challenge.challenge)
    except ValueError as error:
        raise ControlPlaneError(Failure.BROKEN, f"the control plane's challenge cannot be signed: {error}") from error
    try:
        signatures = await sign(statement)
    except HostKeyUnavailable:
        if not request.token:
            raise
        return skew  # the token may do without
    request.proof.CopyFrom(HostProof(challenge=challenge.challenge, signatures=signatures))
    return skew


def _check_clock(issued: Credentials, skew: float | None, now: float) -> None:
    """Say how far apart the clocks are; a certificate that is over by this host's clock is of no use to it."""
    named = clock_text("this node's new certificate", Validity(issued.not_before, issued.not_after), now)
    measured = skew_text(skew) if skew is not None else None
    text = "; ".join(part for part in (named, measured) if part)
    if issued.not_after <= now:
        raise ControlPlaneError(Failure.CLOCK, text)
    if text:
        _log.warning("%s", text)


def _refusal(error: ControlPlaneError) -> EnrolmentRefused | None:
    if error.failure is not Failure.REFUSED or error.detail is None:
        return None
    reason, separator, _ = error.detail.partition(":")
    return EnrolmentRefused(reason if separator and reason.isupper() else "REFUSED", error.detail)
