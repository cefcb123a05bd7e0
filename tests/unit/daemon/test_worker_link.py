"""What main makes of a worker's slices."""

from __future__ import annotations

import asyncio

from hostmesh.daemon.worker_link import WorkerLink
from hostmesh.wire.proto import worker_pb2 as pb


class NoProcess:
    pid = 0

    def kill(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> int:
        del timeout
        return 0


def piece(report_id: int, value: int, *, more: bool) -> pb.Report:
    return pb.Report(id=report_id, counters=[pb.Series(metric="m", labels=["a"], value=value)], more=more)


def test_a_report_is_shown_when_it_is_whole() -> None:
    """Until then the one before stands: a sum of half a report would make counters fall."""

    async def run() -> None:
        link = WorkerLink(0, NoProcess(), lambda *_: None)
        wanted = link.waiting[2] = asyncio.get_running_loop().create_future()
        link.take_report(piece(1, 5, more=False))
        link.take_report(piece(2, 7, more=True))
        assert [series.value for series in link.report.counters] == [5]
        assert not wanted.done()
        link.take_report(piece(2, 8, more=False))
        assert [series.value for series in wanted.result().counters] == [7, 8]
        assert link.report is wanted.result()

    asyncio.run(run())


def test_a_report_that_was_broken_off_is_forgotten() -> None:
    """The next one begins anew."""

    async def run() -> None:
        link = WorkerLink(0, NoProcess(), lambda *_: None)
        link.take_report(piece(1, 5, more=True))
        link.take_report(piece(2, 7, more=False))
        assert [series.value for series in link.report.counters] == [7]

    asyncio.run(run())
