"""A scrape of a hundred thousand series over two real workers: whoever sends a byte meanwhile meets a slice at most."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.full_worker import address

from hostmesh.config.proxy import ProxyConfig
from hostmesh.daemon.doors import Doors
from hostmesh.daemon.workers import ProxyWorkers, WorkerHooks
from hostmesh.wire.proto import worker_pb2 as pb

LABEL_SETS = 10_000
SERIES = LABEL_SETS * 5
"""Of each of two workers, which have met different clients: opened, closed, failed, received, sent."""

MOST_IN_A_TURN = 500
"""A turn tells 40, or a few times as many on a fast machine; all at once would be a hundred times this."""


def start(_: str | None, control: int, doors: int) -> subprocess.Popen[bytes]:
    """A worker that has counted a lot, in the place of a fresh one."""
    command = [sys.executable, "-m", "tests.support.full_worker", str(LABEL_SETS), str(control), str(doors)]
    return subprocess.Popen(command, pass_fds=[control, doors])


class Pings:
    """Round trips through the loop of one worker, one after the other, while somebody else waits for a scrape."""

    def __init__(self, pid: int) -> None:
        self.seen: list[tuple[int, int]] = []
        self._over = threading.Event()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("")
        self._sock.settimeout(60)
        self._sock.connect(address(pid))
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """The first has come back before, the last comes back after."""
        with self._sock:
            self._one()
            self._thread.start()
            try:
                yield
            finally:
                self._over.set()
                self._thread.join()
            self._one()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            self._one()

    def _one(self) -> None:
        self._sock.send(b"?")
        told, most = self._sock.recv(64).split()
        self.seen.append((int(told), int(most)))


def test_the_loops_of_the_workers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings come back from the middle of each worker's report, no turn tells more than a slice, nothing is lost."""
    monkeypatch.setattr("hostmesh.daemon.workers._start_process", start)
    monkeypatch.setattr("hostmesh.daemon.workers.REPORT_TIMEOUT", 60.0)

    async def run() -> tuple[list[pb.Report], list[Pings]]:
        hooks = WorkerHooks(
            lambda: [pb.ToWorker(serve=pb.Serve())],
            lambda _: None,
            lambda _: None,
            Doors(lambda *_: []).channel,
            lambda _: None,
            lambda _: None,
            lambda _: None,
        )
        workers = ProxyWorkers(2, pb.Start(config_json=ProxyConfig(mark=None).to_json()), [], hooks, user=None)
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(120):
            task = tasks.create_task(workers.run())
            while not workers.ready:
                await asyncio.sleep(0.02)
            first, second = (Pings(link.process.pid) for link in workers.links)
            with first.going_on(), second.going_on():
                reports = await workers.reports()
            task.cancel()
        return reports, [first, second]

    reports, pings = asyncio.run(run())
    assert [len(report.counters) for report in reports] == [0, SERIES + 1, SERIES + 1]  # and the time that it has used
    for one in pings:
        assert (one.seen[0][0], one.seen[-1][0]) == (0, SERIES)
        assert any(0 < told < SERIES for told, _ in one.seen)
        assert one.seen[-1][1] <= MOST_IN_A_TURN
    assert len({(one.metric, *one.labels) for report in reports for one in report.counters}) == 2 * SERIES + 1
