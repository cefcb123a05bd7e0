"""The control plane's discovery under load: `python -m bench.xds_server`, told what to change by lines of JSON.

The real gRPC server with real certificates and the real ADS service, fed with a made-up mesh instead of documents.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.scale import made_up
from hostmesh.control.ads import AdsService
from hostmesh.control.ca import CertificateAuthority
from hostmesh.control.collector import settle
from hostmesh.control.grpc_server import GrpcServer
from hostmesh.control.record_file import FileRecords
from hostmesh.control.snapshot import Snapshot, SnapshotMaker
from hostmesh.identity.node import NodeStore
from hostmesh.model.node import node_identity
from hostmesh.wire.x509 import credentials, new_key_and_csr

TRUST_DOMAIN = "cluster.local"


class World:
    """The mesh, one workload of which changes at a time."""

    def __init__(self, workloads: int, services: int) -> None:
        self._workloads, self._services = made_up(workloads, services)
        self._maker = SnapshotMaker()

    def snapshot(self) -> Snapshot:
        """As it is now."""
        return self._maker.make(self._workloads, self._services)

    def change(self, number: int) -> str:
        """Give a workload one more unit of capacity; its name."""
        before = self._workloads[number]
        self._workloads[number] = replace(before, capacity=before.capacity + 1)
        return before.uid


async def _main(directory: Path, workloads: int, services: int) -> None:
    ca = CertificateAuthority(directory / "ca", TRUST_DOMAIN, FileRecords(directory / "records.jsonl"))
    node = node_identity(TRUST_DOMAIN, "bench")
    key, csr = new_key_and_csr(node)
    store = NodeStore(directory)
    store.save(credentials(node, key, ca.sign_node(csr.decode(), "bench").chain))
    world, ads = World(workloads, services), AdsService(TRUST_DOMAIN)
    ads.publish(world.snapshot())
    server = GrpcServer(ca, [ads], hosts=["127.0.0.1"], bind="127.0.0.1", port=0)
    await server.start()
    settle()
    async with asyncio.TaskGroup() as group:
        pushing = group.create_task(ads.run(), name="xds")
        files = {"root": str(ca.root_path), "chain": str(store.files.chain), "key": str(store.files.key)}
        _say({"port": server.port, **files})
        await _obey(world, ads)
        pushing.cancel()
    await server.stop()


async def _obey(world: World, ads: AdsService) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        uid = world.change(json.loads(line)["change"])
        began = time.monotonic()
        snapshot = await asyncio.to_thread(world.snapshot)  # as the control plane does it
        published = time.monotonic()
        ads.publish(snapshot)
        _say({"mark": snapshot.addresses.versions[uid], "published": published, "built_s": published - began})


def _say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
