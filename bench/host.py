"""The small main of one host of the benchmark: what the agent's main does on the byte path, without a control plane.

It binds the real listeners, starts the real workers, writes their access log to stderr and applies updates from files.
The whole agent is imported, so that its memory is the agent's.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import hostmesh.daemon.agent  # noqa: F401  for its size in memory
from hostmesh.daemon.addresses import DOORS
from hostmesh.daemon.doors import Doors
from hostmesh.daemon.frames import MAX_TO_WORKER, FrameReader
from hostmesh.daemon.logs import LogSink
from hostmesh.daemon.workers import ProxyWorkers, WorkerHooks
from hostmesh.kernel.memory import Memory
from hostmesh.transport.listeners import bind_listener
from hostmesh.wire.proto import worker_pb2 as pb

READY = "ready"
APPLIED = "applied"

_LOOK = 0.01
"""Seconds between two looks at whether the workers are ready: they tell main, not its caller."""


def main() -> None:
    """`python -m bench.host CONFIG SNAPSHOT`: ends when its stdin does."""
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2])))


async def _serve(config: str, snapshot: Path) -> None:
    sink = LogSink("plain", "info")
    listeners = [(door.kind, _bind(door.address, door.port)) for door in DOORS]
    doors = Doors(lambda *_: [])  # no workload here has a network namespace to itself
    hooks = WorkerHooks(
        lambda: read_messages(snapshot), sink.write_batch, _nothing, doors.channel, _nothing, _nothing, _nothing
    )
    workers = ProxyWorkers(1, pb.Start(config_json=config, plain_logs=sink.plain_lines), listeners, hooks, user=None)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(workers.run())
        async with asyncio.timeout(20):
            while not workers.ready:  # noqa: ASYNC110  it has no event
                await asyncio.sleep(_LOOK)
        Memory().settle()
        _say(READY, *(str(link.process.pid) for link in workers.links))
        while path := (await asyncio.to_thread(sys.stdin.readline)).strip():
            await _apply(workers, Path(path))
            _say(APPLIED)
        running.cancel()


async def _apply(workers: ProxyWorkers, path: Path) -> None:
    """Hand over and wait for a report: workers take messages in order."""
    for message in read_messages(path):
        workers.broadcast(message)
    before = [link.report.id for link in workers.links]
    while any(link.report.id <= earlier for link, earlier in zip(workers.links, before, strict=True)):
        await workers.reports()


def read_messages(path: Path) -> Iterator[pb.ToWorker]:
    """What `meshes.write_messages` wrote."""
    for body in FrameReader(MAX_TO_WORKER).feed(path.read_bytes()):
        yield pb.ToWorker.FromString(body)


def _bind(address: str, port: int) -> socket.socket:
    return bind_listener(address, port, dual_stack=address == "::")


def _nothing(wanted: object) -> None:
    """What the snapshot has is all there is; who asks for more waits, and its connection fails."""
    del wanted


def _say(*words: str) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    main()
