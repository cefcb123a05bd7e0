"""A process of simulated agents: `python -m bench.xds_swarm`, told what to do by lines of JSON on standard input.

Each agent holds an open stream, says what it wants, checks what it gets and acknowledges it. A response that begins
with the same bytes as one that was decoded before holds the same resources: it is compared instead of decoded again.
Moments are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.xds_peer import XdsPeer
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from hostmesh.xds.types import ADDRESS_TYPE, AUTHORIZATION_TYPE

_NONCE_TAG = DeltaDiscoveryResponse(nonce="x").SerializeToString()[:1]
_MOST_KNOWN = 64


@dataclass(slots=True)
class Agent:
    """What one simulated agent wants, and when it heard of what."""

    wants: tuple[str, ...]
    answered: set[str] = field(default_factory=set)
    resources: int = 0
    heard: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Body:
    """A response without its nonce."""

    type_url: str
    resources: int
    marks: tuple[str, ...]


class Swarm:
    """All agents of this process.

    Args:
        order: as the parent wrote it: port, root, chain, key, agents (each a list of names), concurrency.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._agents: dict[XdsPeer, Agent] = {}
        self._bodies: dict[bytes, _Body] = {}
        self._context = ssl.create_default_context(cafile=order["root"])
        self._context.load_cert_chain(order["chain"], order["key"])
        self._context.set_alpn_protocols(["h2"])
        self._context.check_hostname = False
        self._synced = asyncio.Event()
        self._marked: dict[str, list[float]] = {}
        self.ended = ""

    async def connect(self) -> None:
        """Open all streams, a few at a time, and ask."""
        turns = asyncio.Semaphore(self._order["concurrency"])
        async with asyncio.TaskGroup() as group:
            for wants in self._order["agents"]:
                group.create_task(self._one(Agent(tuple(wants)), turns))
        await self._synced.wait()
        if self.ended:
            raise ConnectionError(self.ended)

    def marked(self, mark: str) -> list[float]:
        """When the agents heard of it."""
        return self._marked.pop(mark, [])

    def heard(self, mark: str) -> int:
        """How many have."""
        return len(self._marked.get(mark, ()))

    def resources(self) -> int:
        """All that all agents were sent."""
        return sum(agent.resources for agent in self._agents.values())

    def close(self) -> None:
        """End every stream."""
        for peer in self._agents:
            peer.close()

    async def _one(self, agent: Agent, turns: asyncio.Semaphore) -> None:
        async with turns:
            _, peer = await asyncio.get_running_loop().create_connection(
                lambda: XdsPeer(self._take, self._end), "127.0.0.1", self._order["port"], ssl=self._context
            )
        self._agents[peer] = agent
        node = Node(id="ztunnel~127.0.0.1~bench.bench~bench.svc.cluster.local")
        first = DeltaDiscoveryRequest(node=node, type_url=ADDRESS_TYPE)
        if agent.wants:
            first.resource_names_subscribe.extend(agent.wants)
        peer.send(first)
        peer.send(DeltaDiscoveryRequest(node=node, type_url=AUTHORIZATION_TYPE))

    def _take(self, peer: XdsPeer, message: bytes) -> None:
        now, agent = time.monotonic(), self._agents[peer]
        body, nonce = self._read(message)
        agent.resources += body.resources
        agent.answered.add(body.type_url)
        for mark in body.marks:
            self._marked.setdefault(mark, []).append(now)
        peer.send(DeltaDiscoveryRequest(type_url=body.type_url, response_nonce=nonce))
        if len(agent.answered) == 2 and not self._synced.is_set():
            agents = self._agents.values()
            if len(agents) == len(self._order["agents"]) and all(len(one.answered) == 2 for one in agents):
                self._synced.set()

    def _read(self, message: bytes) -> tuple[_Body, str]:
        cut = message.rindex(_NONCE_TAG)
        front = message[:cut]
        known = self._bodies.get(front)
        if known is not None:
            return known, message[cut + 2 :].decode()
        response = DeltaDiscoveryResponse.FromString(message)
        marks = tuple(one.version for one in response.resources) if len(response.resources) < 64 else ()
        found = _Body(response.type_url, len(response.resources), marks)
        if len(message) - cut - 2 == len(response.nonce):
            if len(self._bodies) >= _MOST_KNOWN:
                del self._bodies[next(iter(self._bodies))]
            self._bodies[front] = found
        return found, response.nonce

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
        self._synced.set()


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    swarm = Swarm(json.loads(await reader.readline()))
    began = time.monotonic()
    await swarm.connect()
    _say(began=began, synced=time.monotonic(), resources=swarm.resources())
    while line := await reader.readline():
        order = json.loads(line)
        async with asyncio.timeout(30):
            while swarm.heard(order["mark"]) < order["agents"]:
                if swarm.ended:
                    raise ConnectionError(swarm.ended)
                await asyncio.sleep(0.001)
        _say(heard=swarm.marked(order["mark"]))
    swarm.close()


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
