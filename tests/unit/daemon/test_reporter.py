"""Reports in slices: a worker with a hundred thousand series goes on serving while it tells them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest

from hostmesh.daemon.background import SLICE as BACKGROUND_SLICE
from hostmesh.daemon.frames import MAX_FROM_WORKER, frame
from hostmesh.daemon.reporter import FULL, MAX_REPORTS, SLICE, Reporter
from hostmesh.proxy.connections import OpenConnection
from hostmesh.proxy.server import ProxyServer
from hostmesh.telemetry.labels import TRAFFIC_LABEL_NAMES
from hostmesh.telemetry.metrics import CPU, GAUGES, OPENED, PROCESS, Metrics
from hostmesh.transport.loop import Loop
from hostmesh.wire.proto import worker_pb2 as pb


class Server:
    """The numbers of a proxy, without its traffic."""

    def __init__(self, label_sets: int, connections: int) -> None:
        self.metrics = Metrics(max_series=1_000_000)
        self.count = connections
        for number in range(label_sets):
            self.count_one(number)

    def count_one(self, number: int) -> None:
        labels = (f"workload-{number}", *TRAFFIC_LABEL_NAMES[1:])
        self.metrics.traffic(labels).opened.value += 1

    def connections(self) -> Iterator[OpenConnection]:
        for _ in range(self.count):
            yield OpenConnection("inbound", "10.0.0.1:1", "", "10.0.0.2:80", "HBONE", "uid")


class Main:
    """What main would read, turn by turn."""

    def __init__(self, server: Server) -> None:
        self.loop = Loop()
        self.sent: list[pb.Report] = []
        self.waiting = 0
        self.now = 0.0
        self.reporter = Reporter(self.loop, cast("ProxyServer", server), self._take, lambda: self.waiting, self._clock)

    def _clock(self) -> float:
        """Each slice takes its whole time."""
        self.now += 1.5 * BACKGROUND_SLICE
        return self.now

    def _take(self, message: pb.FromWorker) -> None:
        assert len(frame(message)) < MAX_FROM_WORKER / 10
        self.sent.append(message.report)

    def turns(self, limit: int = 10_000) -> list[int]:
        """How many messages each turn sent, until the last one."""
        counts = []
        while not (self.sent and not self.sent[-1].more) and len(counts) < limit:
            before = len(self.sent)
            self.loop.turn(0.1)
            counts.append(len(self.sent) - before)
        return counts


@pytest.fixture
def busy() -> Server:
    """20,000 label sets are 60,000 series at least."""
    return Server(20_000, 1_000)


def size(report: pb.Report) -> int:
    return len(report.counters) + len(report.gauges) + len(report.connections)


def test_a_turn_tells_one_slice(busy: Server) -> None:
    """However many series there are, the work of one turn is bounded; nothing is told twice, nothing is left out."""
    main = Main(busy)
    main.reporter.begin(7)
    assert max(main.turns()) == 1
    assert max(map(size, main.sent)) == SLICE
    assert {report.id for report in main.sent} == {7}
    opened = [series.labels[0] for report in main.sent for series in report.counters if series.metric == OPENED]
    assert (len(opened), len(set(opened))) == (20_000, 20_000)
    assert sum(len(report.connections) for report in main.sent) == 1_000
    assert {series.metric for report in main.sent for series in report.gauges} == GAUGES
    assert [report.more for report in main.sent[-2:]] == [True, False]


def test_bytes_flow_between_slices(busy: Server) -> None:
    """Each turn looks at the sockets; new label sets meanwhile do no harm."""
    main = Main(busy)
    ours, theirs = socket.socketpair()
    seen: list[int] = []

    def ready(_: int) -> None:
        ours.recv(1)
        seen.append(len(main.sent))
        busy.count_one(100_000 + len(seen))
        theirs.send(b"x")

    ours.setblocking(False)
    main.loop.register(ours.fileno(), ready)
    main.reporter.begin(1)
    theirs.send(b"x")
    turns = main.turns()
    assert len(seen) >= len(turns) - 1
    ours.close()
    theirs.close()
    main.loop.close()


def test_it_waits_for_a_main_that_does_not_read() -> None:
    """Log records must not be pushed out by numbers."""
    main = Main(Server(1_000, 0))
    main.waiting = FULL
    main.reporter.begin(1)
    assert sum(main.turns(5)) == 0
    main.waiting = 0
    main.turns()
    assert not main.sent[-1].more


def test_reports_are_told_one_after_the_other_and_not_without_end() -> None:
    """Two scrapes at a time are usual; more than a few are somebody's mistake."""
    main = Main(Server(100, 0))
    for number in range(1, MAX_REPORTS + 3):
        main.reporter.begin(number)
    while {report.id for report in main.sent if not report.more} != set(range(1, MAX_REPORTS + 1)):
        main.loop.turn(0.1)
    assert [report.id for report in main.sent] == sorted(report.id for report in main.sent)
    for _ in range(3):
        main.loop.turn(0.01)
    assert {report.id for report in main.sent} == set(range(1, MAX_REPORTS + 1))


def test_the_last_report_is_told_at_once() -> None:
    """The loop turns no more; the messages stay within what main takes."""
    main = Main(Server(1_000, 0))
    main.reporter.everything()
    assert sum(len(report.counters) for report in main.sent) == 3_000 + len({CPU})
    assert [report.more for report in main.sent] == [True] * (len(main.sent) - 1) + [False]


def test_nothing_but_the_process_is_told() -> None:
    """Main waits for an answer."""
    server = Server(0, 0)
    server.metrics.sockets_open.clear()
    main = Main(server)
    main.reporter.begin(3)
    main.turns()
    assert [(report.id, size(report)) for report in main.sent] == [(3, len(PROCESS))]


def test_a_slice_ends_where_an_item_took_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand descriptors that are counted one by one hold no byte up."""
    monkeypatch.setattr("hostmesh.daemon.reporter.descriptors", lambda: iter((None, None, 1_234)))
    main = Main(Server(0, 3))
    main.reporter.begin(1)
    assert max(main.turns()) == 1
    assert [size(report) for report in main.sent] == [6, 0, 4]
    assert [report.more for report in main.sent] == [True, True, False]
    assert [series.value for series in main.sent[-1].gauges] == [1_234]
