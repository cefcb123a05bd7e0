"""CaClient: asks the control plane for certificates over Istio's certificate service (istio.v1.auth)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from google.protobuf.struct_pb2 import Struct

from hostmesh.identity.failure import FetchFailed
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError
from hostmesh.wire.proto.ca_grpc import IstioCertificateServiceStub
from hostmesh.wire.proto.ca_pb2 import IstioCertificateRequest
from hostmesh.wire.x509 import BadCertificate, credentials, new_key_and_csr

CALL_TIMEOUT = 15.0
IMPERSONATED = "ImpersonatedIdentity"


class CaClient:
    """Authenticated by the node's certificate; each call has its own connection, so a renewed one is used at once.

    Args:
        control_plane: with the node's files.
        ttl: seconds asked for; the authority may grant less.
        now: seconds since the epoch.
    """

    def __init__(self, control_plane: ControlPlane, ttl: float, now: Callable[[], float] = time.time) -> None:
        self._control_plane = control_plane
        self._ttl = ttl
        self._now = now

    async def fetch(self, identity: Identity) -> Credentials:
        """A new key with a certificate for `identity`: a workload registered on this node, or the node itself.

        Of a control plane whose clock runs ahead it may not be valid yet: the next one is then another's.

        Raises:
            FetchFailed: unreachable, refused or answered nonsense; the text says which.
        """
        issued = await request_certificate(self._control_plane, identity, self._ttl, impersonate=True)
        if issued.not_before > self._now():
            self._control_plane.pass_over()
        return issued


async def request_certificate(
    control_plane: ControlPlane,
    identity: Identity,
    ttl: float,
    *,
    impersonate: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Credentials:
    """One request with a new key, over a connection of its own.

    Args:
        control_plane: with the caller's files, unless the headers say who calls.
        identity: who is to be certified.
        ttl: seconds asked for.
        impersonate: whether the caller is somebody else.
        headers: of the call.

    Raises:
        FetchFailed: unreachable, refused or answered nonsense; the text says which.
    """
    key_pem, csr_pem = new_key_and_csr(identity)
    metadata = Struct()
    if impersonate:
        metadata.update({IMPERSONATED: str(identity)})
    request = IstioCertificateRequest(csr=csr_pem.decode(), validity_duration=int(ttl), metadata=metadata)
    try:
        async with control_plane.connect() as channel:
            stub = IstioCertificateServiceStub(channel)
            response = await stub.CreateCertificate(request, timeout=CALL_TIMEOUT, metadata=dict(headers or {}))
        return credentials(identity, key_pem, response.cert_chain)
    except ControlPlaneError as error:
        raise FetchFailed(str(error), error.failure) from error
    except BadCertificate as error:
        raise FetchFailed(str(error)) from error
