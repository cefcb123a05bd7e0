"""What istiod tells whom it takes for a ztunnel."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from grpclib.client import Channel
from tests.support.real_istiod import RealIstiod
from tests.support.resources import Resource, comparable

from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceStub
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest
from hostmesh.xds.client import NodeInfo
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE

Resources = dict[str, Resource]


class Follower(threading.Thread):
    """Listens in a thread of its own in istiod's namespace."""

    def __init__(self, istiod: RealIstiod) -> None:
        super().__init__(daemon=True)
        self._where = istiod.where
        self._held: dict[str, dict[str, bytes]] = {ADDRESS_TYPE: {}, AUTHORIZATION_TYPE: {}}
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._following = self._loop.create_task(self._follow())

    def run(self) -> None:
        with self._where.entered(), suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._following)
        self._loop.close()

    def end(self) -> None:
        """And wait until it has ended."""
        self._loop.call_soon_threadsafe(self._following.cancel)
        self.join()

    async def _follow(self) -> None:
        node = NodeInfo("node", "10.9.9.9").message()
        async with (
            Channel("127.0.0.1", 15010) as channel,
            AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources.open() as stream,
        ):
            for url in self._held:
                request = DeltaDiscoveryRequest(node=node, type_url=url, resource_names_subscribe=["*"])
                await stream.send_message(request)
            while (told := await stream.recv_message()) is not None:
                held = self._held[told.type_url]
                with self._news:
                    held.update({one.name: one.resource.value for one in told.resources})
                    for name in told.removed_resources:
                        held.pop(name, None)
                    self._news.notify_all()
                await stream.send_message(DeltaDiscoveryRequest(type_url=told.type_url, response_nonce=told.nonce))

    def told(self) -> Resources:
        """Now, without the API server's own service."""
        with self._news:
            held = {url: list(resources.values()) for url, resources in self._held.items()}
        found = {key: one for url, resources in held.items() for key, one in comparable(url, resources).items()}
        return {key: one for key, one in found.items() if "default/kubernetes" not in key}

    def comes_to(self, expected: Resources, seconds: float) -> Resources:
        """What is told as soon as it is that, or after so long."""
        with self._news:
            self._news.wait_for(lambda: self.told() == expected, seconds)
            return self.told()
