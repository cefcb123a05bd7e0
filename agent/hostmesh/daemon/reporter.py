"""A worker's report in slices: however much there is to tell, one turn of the loop tells little of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from hostmesh.proxy.connections import OpenConnection
from hostmesh.proxy.server import ProxyServer
from hostmesh.telemetry.metrics import GAUGES, Series
from hostmesh.transport.loop import Loop
from hostmesh.wire.proto import worker_pb2 as pb

SLICE = 100
"""Series or connections in one message: about a millisecond of a turn."""

MAX_REPORTS = 4
"""Reports that may be asked for at once; main makes do with the last one where a further request is not answered."""

FULL = 1 << 20
"""Bytes waiting for main above which a report pauses: it must not push log records out."""

PAUSE = 0.01

Item = Series | OpenConnection


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
    """

    def __init__(
        self, loop: Loop, server: ProxyServer, send: Callable[[pb.FromWorker], None], waiting: Callable[[], int]
    ) -> None:
        self._loop = loop
        self._server = server
        self._send = send
        self._waiting = waiting
        self._reports: deque[_Report] = deque()

    def begin(self, report_id: int) -> None:
        """Report in this turn and as many more as it takes."""
        if len(self._reports) < MAX_REPORTS:
            self._reports.append(_Report(report_id, self._items()))
            if len(self._reports) == 1:
                self._loop.call_later(0, self._go_on)

    def everything(self) -> None:
        """Report all of it at once, for the last time."""
        items = self._items()
        while (message := _slice(0, items)).more:
            self._send(pb.FromWorker(report=message))
        self._send(pb.FromWorker(report=message))

    def _items(self) -> Iterator[Item]:
        yield from self._server.metrics.each()
        yield from self._server.metrics.gauges()
        yield from self._server.connections()

    def _go_on(self) -> None:
        delay = PAUSE
        if self._waiting() < FULL:
            report = self._reports[0]
            message = _slice(report.id, report.items)
            self._send(pb.FromWorker(report=message))
            delay = 0.0
            if not message.more:
                self._reports.popleft()
        if self._reports:
            self._loop.call_later(delay, self._go_on)


def _slice(report_id: int, items: Iterator[Item]) -> pb.Report:
    """The next items; `more` unless they were the last."""
    message = pb.Report(id=report_id)
    taken = 0
    for item in islice(items, SLICE):
        taken += 1
        if isinstance(item, OpenConnection):
            message.connections.append(_connection(item))
        else:
            series = message.gauges if item.metric in GAUGES else message.counters
            series.append(pb.Series(metric=item.metric, labels=item.labels, value=item.value))
    message.more = taken == SLICE
    return message


def _connection(one: OpenConnection) -> pb.OpenConnection:
    return pb.OpenConnection(
        direction=one.direction,
        source=one.source,
        original_destination=one.original_destination,
        actual_destination=one.actual_destination,
        protocol=one.protocol,
        workload=one.workload,
    )
