"""RegistryService: nodes renew their leases and report the health of their workloads (hostmesh.registry.v1)."""

from __future__ import annotations

import time
from collections.abc import Callable

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from hostmesh.control.peer import Authenticate, receive_bounded, unavailable
from hostmesh.control.registry import Registry
from hostmesh.wire.proto.registry_grpc import RegistryBase
from hostmesh.wire.proto.registry_pb2 import RenewRequest, RenewResponse, WorkloadHealth

MAX_REQUEST_BYTES = 1 << 20
MAX_WORKLOADS = 2000
"""Of one node; more than fit on a host."""
_MAX_TEXT = 256


class RegistryService(RegistryBase):
    """What a node says is about that node only, whatever names it uses.

    Args:
        registry: remembers.
        authenticate: tells the calling node or raises.
        now: seconds since the epoch.
    """

    def __init__(self, registry: Registry, authenticate: Authenticate, now: Callable[[], float] = time.time) -> None:
        self._registry = registry
        self._authenticate = authenticate
        self._now = now

    async def Renew(self, stream: Stream[RenewRequest, RenewResponse]) -> None:  # noqa: N802
        """One renewal."""
        peer = self._authenticate(stream)
        request = await receive_bounded(stream, RenewRequest, MAX_REQUEST_BYTES)
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the call carries no request")
        if len(request.workloads) > MAX_WORKLOADS:
            raise GRPCError(Status.INVALID_ARGUMENT, f"more than {MAX_WORKLOADS} workloads on one node")
        reported = {one.workload[:_MAX_TEXT]: _why(one) for one in request.workloads}
        try:
            await self._registry.renew(peer.node, reported)
        except OSError as error:
            raise unavailable(error) from error
        await stream.send_message(RenewResponse(lease_seconds=self._registry.lease, now=self._now()))


def _why(one: WorkloadHealth) -> str | None:
    """As `Registry.renew` wants it."""
    if one.status == WorkloadHealth.Status.UNKNOWN:
        return None
    if one.status == WorkloadHealth.Status.UNHEALTHY:
        return one.reason[:_MAX_TEXT] or "it says so"
    return ""
