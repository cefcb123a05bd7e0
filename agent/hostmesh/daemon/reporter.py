"""A worker's report in slices: however much there is to tell, no byte waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from time import monotonic

from hostmesh.daemon.background import Background
from hostmesh.kernel.usage import descriptors, usage
from hostmesh.proxy.connections import OpenConnection
from hostmesh.proxy.server import ProxyServer
from hostmesh.telemetry.metrics import CPU, GAUGES, MAX_FDS, OPEN_FDS, RESIDENT_MEMORY, VIRTUAL_MEMORY, Series
from hostmesh.transport.loop import Loop
from hostmesh.wire.proto import worker_pb2 as pb

SLICE = 40
"""Series or connections in one message: 0.15 ms, a slice of `Background`'s. While there is traffic 100,000 series thus
take three seconds, of the eight that main waits."""

MAX_REPORTS = 4
"""Reports that may be asked for at once; main makes do with the last one where a further request is not answered."""

FULL = 1 << 20
"""Bytes waiting for main above which a report pauses: it must not push log records out."""

PAUSE = 0.01

Item = Series | OpenConnection | None
"""None ends a slice: to find the next item took all of its time."""


@dataclass(slots=True)
class _Report:
    id: int
    items: Iterator[Item]


class Reporter:
    """Answers main's requests for numbers.

    Args:
        loop: the worker's.
        server: whose numbers.
        send: hands a message to the link.
        waiting: bytes that wait for main.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        loop: Loop,
        server: ProxyServer,
        send: Callable[[pb.FromWorker], None],
        waiting: Callable[[], int],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._loop = loop
        self._server = server
        self._send = send
        self._waiting = waiting
        self._reports: deque[_Report] = deque()
        self._telling = Background(loop, self._tell(), clock)

    def begin(self, report_id: int) -> None:
        """Report in the next turn and as many more as it takes."""
        if len(self._reports) < MAX_REPORTS:
            self._reports.append(_Report(report_id, self._items()))
            if len(self._reports) == 1:
                self._loop.call_later(0, self._telling.start)

    def everything(self) -> None:
        """Report all of it at once, for the last time."""
        items = self._items()
        while (message := _slice(0, items)).more:
            self._send(pb.FromWorker(report=message))
        self._send(pb.FromWorker(report=message))

    def _items(self) -> Iterator[Item]:
        yield from self._server.metrics.each()
        yield from self._server.metrics.gauges()
        yield from _used()
        yield from self._server.connections()

    def _tell(self) -> Iterator[bool]:
        """A slice at a time, as `Background` has it done."""
        while True:
            if not self._reports:
                yield False
            elif self._waiting() >= FULL:
                self._loop.call_later(PAUSE, self._telling.start)
                yield False
            else:
                report = self._reports[0]
                message = _slice(report.id, report.items)
                self._send(pb.FromWorker(report=message))
                if not message.more:
                    self._reports.popleft()
                yield True


def _slice(report_id: int, items: Iterator[Item]) -> pb.Report:
    """The next items; `more` unless they were the last."""
    message = pb.Report(id=report_id)
    taken = 0
    for item in islice(items, SLICE):
        taken += 1
        if item is None:
            taken = SLICE
            break
        if isinstance(item, OpenConnection):
            message.connections.append(_connection(item))
        else:
            series = message.gauges if item.metric in GAUGES else message.counters
            series.append(pb.Series(metric=item.metric, labels=item.labels, value=item.value))
    message.more = taken == SLICE
    return message


def _used() -> Iterator[Series | None]:
    """What this process uses. Read here: main's user may not look into a worker's /proc."""
    used = usage()
    yield Series(CPU, (), used.cpu_microseconds)
    yield Series(VIRTUAL_MEMORY, (), used.virtual_memory)
    yield Series(RESIDENT_MEMORY, (), used.resident_memory)
    yield Series(MAX_FDS, (), used.allowed)
    for count in descriptors():
        yield None if count is None else Series(OPEN_FDS, (), count)


def _connection(one: OpenConnection) -> pb.OpenConnection:
    return pb.OpenConnection(
        direction=one.direction,
        source=one.source,
        original_destination=one.original_destination,
        actual_destination=one.actual_destination,
        protocol=one.protocol,
        workload=one.workload,
    )
