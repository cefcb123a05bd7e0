"""The agent's side of the lease, against a real control plane."""

from __future__ import annotations

import asyncio
from pathlib import Path

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream
from tests.support.addresses import free_port
from tests.support.mesh import Mesh, until
from tests.support.patience import PATIENCE

from hostmesh.daemon.lease import LeaseClient
from hostmesh.health.judge import Standing
from hostmesh.model.health import Verdict
from hostmesh.wire.proto.registry_grpc import RegistryBase
from hostmesh.wire.proto.registry_pb2 import RenewRequest, RenewResponse


def test_a_lease_is_renewed_and_verdicts_are_told_at_once(tmp_path: Path) -> None:
    """The node's name is that of its certificate; a verdict does not wait for the next renewal."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            node = await mesh.host("mesh1")
            standings = {"ns/web": Standing(Verdict.UNKNOWN)}
            client = LeaseClient(lambda: standings)
            async with node.control_plane.connect() as channel, asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(client.keep(channel))
                await until(lambda: "alive/mesh1" in mesh.registry._records.under("alive/"))
                assert not mesh.registry.presence
                standings["ns/web"] = Standing(Verdict.UNHEALTHY, reason="refused")
                client.tell()
                await until(lambda: mesh.registry.presence.unhealthy == {"mesh1": frozenset({"ns/web"})})
                standings["ns/web"] = Standing(Verdict.UNKNOWN)
                client.tell()
                standings["ns/web"] = Standing(Verdict.HEALTHY)
                client.tell()
                await until(lambda: not mesh.registry.presence)
                keeping.cancel()

    asyncio.run(main())


class NoLeases(RegistryBase):
    """As istiod answers."""

    async def Renew(self, stream: Stream[RenewRequest, RenewResponse]) -> None:  # noqa: ARG002, N802
        raise GRPCError(Status.UNIMPLEMENTED, "unknown service hostmesh.registry.v1.Registry")


def test_a_control_plane_without_leases_is_left_in_peace() -> None:
    """Istiod does not know the service."""

    async def main() -> None:
        server = Server([NoLeases()])
        port = free_port()
        await server.start("127.0.0.1", port)
        try:
            async with asyncio.timeout(PATIENCE), Channel("127.0.0.1", port) as channel:
                await LeaseClient(dict).keep(channel)
        finally:
            server.close()
            await server.wait_closed()

    asyncio.run(main())
