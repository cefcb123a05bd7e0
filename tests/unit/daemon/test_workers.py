"""Proxy workers as real processes: they serve when told, are replaced when killed, end when drained."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable

import pytest
from tests.support.patience import PATIENCE

from hostmesh.config.proxy import ProxyConfig
from hostmesh.daemon.doors import Doors
from hostmesh.daemon.workers import ProxyWorkers, WorkerHooks
from hostmesh.transport.listeners import bind_listener
from hostmesh.wire.proto import worker_pb2 as pb

KINDS = ("outbound", "inbound", "inbound_plaintext")


class Main:
    """Main's side: what it would tell a worker, and what workers told it."""

    def __init__(self, *, known: bool = True) -> None:
        self.known = known
        self.logs: list[bytes] = []
        self.wanted: list[str] = []
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.used: list[str] = []
        self.doors = Doors(lambda *_: [])

    def snapshot(self) -> Iterable[pb.ToWorker]:
        yield pb.ToWorker(local_workloads=pb.LocalWorkloads())
        if self.known:
            yield pb.ToWorker(serve=pb.Serve())

    def hooks(self) -> WorkerHooks:
        return WorkerHooks(
            self.snapshot,
            lambda batch: self.logs.append(batch.records),
            self.wanted.append,
            self.doors.channel,
            self.names.append,
            self.addresses.append,
            self.used.extend,
        )


async def until(condition: Callable[[], bool]) -> None:
    """Look every 20 ms, for a long time at most."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


Listeners = list[tuple[str, socket.socket]]


def make(main: Main, count: int, listeners: Listeners) -> ProxyWorkers:
    start = pb.Start(config_json=ProxyConfig(mark=None).to_json())
    return ProxyWorkers(count, start, listeners, main.hooks(), user=None)


def with_workers(main: Main, count: int, body: Callable[[ProxyWorkers, dict[str, int]], Awaitable[None]]) -> None:
    async def run() -> None:
        listeners: Listeners = [(kind, bind_listener("127.0.0.1", 0)) for kind in KINDS]
        ports = {kind: sock.getsockname()[1] for kind, sock in listeners}
        workers = make(main, count, listeners)
        try:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(workers.run())
                await body(workers, ports)
                task.cancel()
        finally:
            for _, sock in listeners:
                sock.close()

    asyncio.run(run())


def test_a_killed_worker_is_replaced_and_the_listeners_never_close() -> None:
    """Main holds the sockets, so a connect that comes meanwhile waits instead of being refused."""

    async def body(workers: ProxyWorkers, ports: dict[str, int]) -> None:
        await until(lambda: workers.ready)
        victim = workers.links[0].process.pid
        os.kill(victim, signal.SIGKILL)
        with socket.create_connection(("127.0.0.1", ports["inbound"]), timeout=PATIENCE):
            await until(lambda: workers.restarts == 1 and workers.ready)
        assert victim not in [link.process.pid for link in workers.links]

    with_workers(Main(), 2, body)


def test_a_worker_accepts_nothing_before_it_knows_the_mesh() -> None:
    """It would take every peer for a stranger and let traffic pass in plaintext."""

    async def body(workers: ProxyWorkers, ports: dict[str, int]) -> None:
        await until(lambda: len(workers.links) == 1)
        with socket.create_connection(("127.0.0.1", ports["inbound_plaintext"]), timeout=PATIENCE) as client:
            client.settimeout(0.3)
            [_, report] = await workers.reports()
            assert report.id == 1
            assert await asyncio.to_thread(_is_silent, client)
            workers.broadcast(pb.ToWorker(serve=pb.Serve()))
            client.settimeout(PATIENCE)
            assert not await asyncio.to_thread(_is_silent, client)

    with_workers(Main(known=False), 1, body)


def test_a_drained_worker_ends_by_itself_and_is_not_replaced() -> None:
    """Nothing is open, so the deadline is not waited for."""

    async def body(workers: ProxyWorkers, _: dict[str, int]) -> None:
        await until(lambda: workers.ready)
        process = workers.links[0].process
        workers.broadcast(pb.ToWorker(drain=pb.Drain(deadline_seconds=10)))
        await workers.drained(5)
        assert process.returncode == 0
        assert workers.restarts == 0

    with_workers(Main(), 1, body)


def test_counters_of_a_dead_worker_stay_in_the_sum() -> None:
    """A scrape must never see a counter fall: every round of reports holds the dead ones' last."""

    async def body(workers: ProxyWorkers, ports: dict[str, int]) -> None:
        await until(lambda: workers.ready)
        workers.links[0].report.counters.append(pb.Series(metric="m", labels=["a"], value=3))
        os.kill(workers.links[0].process.pid, signal.SIGKILL)
        await until(lambda: workers.restarts == 1 and workers.ready)
        retired = (await workers.reports())[0]
        assert [(series.metric, series.value) for series in retired.counters] == [("m", 3)]

    with_workers(Main(), 1, body)


def test_workers_go_over_to_the_next_program() -> None:
    """The former go on until the new ones serve, then end; what they say on the way, and last, is not lost.

    Both programs are objects of this process here: the second gets a copy of each descriptor, as after an exec.
    """
    main = Main()

    async def body(before: ProxyWorkers, _: dict[str, int]) -> None:
        await until(lambda: before.ready)
        former = before.links[0]
        before.broadcast(pb.ToWorker(report=pb.ReportRequest(id=9)))
        workers, retired = await before.hand_over()
        retired.counters.append(pb.Series(metric="m", labels=["a"], value=3))
        [worker] = workers
        worker.control = os.dup(worker.control)
        listeners: Listeners = [(kind, bind_listener("127.0.0.1", 0)) for kind in KINDS]
        after = make(main, 1, listeners)
        await after.adopt(workers, retired, 2)
        assert after.ready
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(after.run())
            await after.relieved()
            await until(lambda: len(after.links) == 1)
            assert after.links[0].process.pid != former.process.pid
            assert (worker.draining, after.restarts) == (False, 2)
            ended = (await after.reports())[0].counters
            assert [series.value for series in ended if series.metric == "m"] == [3]
            task.cancel()
        for _, sock in listeners:
            sock.close()

    with_workers(main, 1, body)


def test_nothing_is_handed_over_to_a_worker_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a message must not be followed by the next program's first one; the reload is refused instead."""
    monkeypatch.setattr("hostmesh.daemon.workers.HANDOVER_TIMEOUT", 0.2)

    async def body(workers: ProxyWorkers, _: dict[str, int]) -> None:
        await until(lambda: workers.ready)
        os.kill(workers.links[0].process.pid, signal.SIGSTOP)
        workers.broadcast(pb.ToWorker(state=pb.StateUpdate(removed_addresses=["x" * 4_000_000])))
        with pytest.raises(TimeoutError):
            await workers.hand_over()
        os.kill(workers.links[0].process.pid, signal.SIGCONT)
        workers.resume()
        [_, report] = await workers.reports()
        assert report.id == 1

    with_workers(Main(), 1, body)


def _is_silent(client: socket.socket) -> bool:
    """Whether the peer neither answers nor closes within the socket's time-out."""
    try:
        client.recv(1)
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False
    return False
