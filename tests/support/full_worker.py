"""`python -m tests.support.full_worker LABEL-SETS CONTROL-FD DOORS-FD`: a real proxy worker that has counted a lot.

It answers datagrams to the abstract address `hostmesh-full-worker-PID` through its own loop: how much of its report
it has told so far, and at most in one turn.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from hostmesh.daemon import worker
from hostmesh.proxy.server import ProxyServer
from hostmesh.telemetry.labels import TRAFFIC_LABEL_NAMES
from hostmesh.telemetry.metrics import Metrics, Series
from hostmesh.transport.loop import Loop


def address(pid: int) -> str:
    """Where it answers."""
    return f"\0hostmesh-full-worker-{pid}"


class CountedMetrics(Metrics):
    """Says how much of it has been read."""

    def __init__(self, label_sets: int) -> None:
        super().__init__()
        self.told = 0
        for number in range(label_sets):
            traffic = self.traffic(("source", f"client-{os.getpid()}-{number}", *TRAFFIC_LABEL_NAMES[2:]))
            traffic.opened.value += 1
            traffic.ended("DENY", ("ns/policy",), "POLICY_DENIED")

    def each(self) -> Iterator[Series]:
        """One by one, counted."""
        for series in super().each():
            self.told += 1
            yield series


class CountingLoop(Loop):
    """Remembers the turn that told most."""

    metrics: CountedMetrics
    most = 0

    def turn(self, max_wait: float | None = None) -> None:
        """As ever."""
        before = self.metrics.told
        super().turn(max_wait)
        self.most = max(self.most, self.metrics.told - before)


class FullServer(ProxyServer):
    """With numbers from before the first connection, and a door for pings."""

    def __init__(self, loop: CountingLoop, *others: Any, **named: Any) -> None:
        super().__init__(loop, *others, **named)
        self.metrics = loop.metrics
        door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        door.bind(address(os.getpid()))

        def answer(_: int) -> None:
            while True:
                try:
                    _, peer = door.recvfrom(16)
                except BlockingIOError:
                    return
                door.sendto(f"{loop.metrics.told} {loop.most}".encode(), peer)

        loop.register(door.fileno(), answer)


if __name__ == "__main__":
    CountingLoop.metrics = CountedMetrics(int(sys.argv.pop(1)))
    worker.Loop = CountingLoop  # type: ignore[misc]
    worker.ProxyServer = FullServer  # type: ignore[misc,assignment]
    worker.main()
