"""What is written after the end of a connection is ignored, as on a plain one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.mesh import Mesh

from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceStub


def test_a_stream_may_be_ended_just_after_the_connection_was(tmp_path: Path) -> None:
    """A control plane that stops closes both; the agent must outlive it."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            async with host.control_plane.connect() as channel:
                protocol = await channel.__connect__()
                stream = AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources.open()
                async with stream:
                    await stream.send_request()
                    for _ in range(2):  # by us, and once more when it is lost
                        protocol.connection._transport.close()
                    await stream.end()

    asyncio.run(main())
