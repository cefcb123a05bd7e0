"""LeaseClient: keeps this host's workloads in rotation, and says which are not healthy (hostmesh.registry.v1)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from hostmesh.health.judge import Standing
from hostmesh.model.health import Verdict
from hostmesh.rpc.failure import skew_text
from hostmesh.transport.backoff import Backoff
from hostmesh.wire.proto.registry_grpc import RegistryStub
from hostmesh.wire.proto.registry_pb2 import RenewRequest, WorkloadHealth

_log = logging.getLogger("hostmesh.registry")

CALL_TIMEOUT = 5.0
_RETRY, _LONGEST_RETRY = 0.5, 15.0
_LONGEST = 300.0
_MAX_REASON = 200

_STATUS = {
    Verdict.UNKNOWN: WorkloadHealth.Status.UNKNOWN,
    Verdict.HEALTHY: WorkloadHealth.Status.HEALTHY,
    Verdict.UNHEALTHY: WorkloadHealth.Status.UNHEALTHY,
}


class LeaseClient:
    """Works on the connection of xDS.

    Args:
        standings: of the workloads that are probed, by `namespace/name`.
        now: seconds since the epoch.
    """

    def __init__(self, standings: Callable[[], Mapping[str, Standing]], now: Callable[[], float] = time.time) -> None:
        self._standings = standings
        self._now = now
        self._news = asyncio.Event()
        self._skew = ""

    def tell(self) -> None:
        """A verdict has changed: renew now."""
        self._news.set()

    async def keep(self, channel: Channel) -> None:
        """Renew on this connection until cancelled; returns if the control plane has no leases (istiod has none)."""
        stub, backoff = RegistryStub(channel), Backoff(_RETRY, _LONGEST_RETRY)
        while True:
            self._news.clear()
            try:
                response = await stub.Renew(self._request(), timeout=CALL_TIMEOUT)
            except GRPCError as error:
                if error.status is Status.UNIMPLEMENTED:
                    return
                _log.debug("the lease is not renewed: %s", error.message)
                await asyncio.sleep(backoff.next())
            except (StreamTerminatedError, OSError) as error:  # xDS notices too, and says so
                _log.debug("the lease is not renewed: %s", error)
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                self._compare_clocks(response.now)
                await self._wait(min(max(response.lease_seconds / 3, 0.5), _LONGEST))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _request(self) -> RenewRequest:
        return RenewRequest(
            workloads=[
                WorkloadHealth(workload=key, status=_STATUS[one.verdict], reason=one.reason[:_MAX_REASON])
                for key, one in sorted(self._standings().items())
            ]
        )

    def _compare_clocks(self, theirs: float) -> None:
        """Said once, when it begins."""
        text = skew_text(self._now() - theirs) or ""
        if text and not self._skew:
            _log.warning("%s: certificates of either may not be accepted by the other", text)
        self._skew = text
