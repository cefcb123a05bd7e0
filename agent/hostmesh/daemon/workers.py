"""Proxy workers as main sees them: started with the least privilege, fed, watched, replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hostmesh.daemon.frames import frame
from hostmesh.daemon.worker_link import WorkerLink
from hostmesh.kernel.process import AdoptedChild, Child, with_capabilities
from hostmesh.wire.proto import handover_pb2 as kept
from hostmesh.wire.proto import worker_pb2 as pb

_log = logging.getLogger("hostmesh.workers")

RESTART_DELAYS = (0.0, 0.2, 1.0, 5.0)
"""Seconds before the nth restart in a row of one worker; the last one repeats."""

HEALTHY_AFTER = 30.0
"""A worker that lived this long starts the delays anew."""

REPORT_TIMEOUT = 8.0
"""Seconds a scrape waits for a busy worker; scrapers give up after ten."""

MAX_GENERATIONS = 16
"""Workers of so many former programs may finish their connections side by side; then the oldest are hurried."""

HURRIED_DEADLINE = 5.0

HANDOVER_TIMEOUT = 5.0
"""Seconds that workers get to read what main has queued for them, before main may replace its program."""

Listener = tuple[str, socket.socket]


@dataclass(slots=True)
class WorkerHooks:
    """What the workers' owner does with what they say."""

    snapshot: Callable[[], Iterable[pb.ToWorker]]
    logs: Callable[[pb.LogBatch], None]
    want_credentials: Callable[[str], None]
    channel: Callable[[], socket.socket]
    want_name: Callable[[str], None]
    want_address: Callable[[str], None]
    used_addresses: Callable[[Iterable[str]], None]


class ProxyWorkers:
    """All proxy workers of the agent. `run` owns every process, link and task; cancelling it ends them all.

    After a reload there are two kinds: those of the program before go on until the new ones serve (`adopt`), then
    they finish what they have, at most `leave_within` seconds.
    """

    def __init__(
        self,
        count: int,
        start: pb.Start,
        listeners: Sequence[Listener],
        hooks: WorkerHooks,
        *,
        user: str | None,
        leave_within: float = 3600.0,
    ) -> None:
        self._count = count
        self._start = start
        self._listeners = listeners
        self._hooks = hooks
        self._user = user
        self._leave_within = leave_within
        self._new: list[WorkerLink] = []
        self._old: list[WorkerLink] = []
        self._unlinked: set[Child] = set()
        self._retired = pb.Report()
        self._report_id = 0
        self._draining = False
        self._all_serve = asyncio.Event()
        self.restarts = 0

    @property
    def links(self) -> Sequence[WorkerLink]:
        """The workers that are running now, those of this program first."""
        return [*self._new, *self._old]

    @property
    def ready(self) -> bool:
        """Whether every worker serves: those of this program, or those of the one before until they are relieved."""
        not_relieved = any(link.ready and not link.draining for link in self._old)
        return not_relieved or (len(self._new) == self._count and all(link.ready for link in self._new))

    def broadcast(self, message: pb.ToWorker) -> None:
        """Send to every running worker; one that starts later gets the snapshot."""
        for link in self.links:
            link.send(message)

    async def reports(self) -> list[pb.Report]:
        """Numbers of every worker, dead ones' last included so that counters never fall.

        A worker that does not answer in `REPORT_TIMEOUT` is represented by its previous report.
        """
        self._report_id += 1
        futures: list[asyncio.Future[pb.Report]] = []
        asked = self.links
        for link in asked:
            future = asyncio.get_running_loop().create_future()
            link.waiting[self._report_id] = future
            futures.append(future)
            link.send(pb.ToWorker(report=pb.ReportRequest(id=self._report_id)))
        if futures:
            await asyncio.wait(futures, timeout=REPORT_TIMEOUT)
        for link in asked:
            link.waiting.pop(self._report_id, None)
        retired = pb.Report()
        retired.CopyFrom(self._retired)  # the reader may be a thread, and this one grows
        return [retired, *(link.report for link in self.links)]

    async def drained(self, deadline: float) -> None:
        """Wait until every worker has ended after it was told to drain, at most `deadline` seconds."""
        self._draining = True
        processes = [link.process for link in self.links]
        await asyncio.gather(*(asyncio.to_thread(_exit_status, process, deadline) for process in processes))

    async def hand_over(self) -> tuple[list[kept.KeptWorker], pb.Report]:
        """Stop talking to the workers at the boundary of a frame each way, for the program that comes after this one.

        Returns:
            The workers with the descriptors of their links, and the counters of those that have ended. Nothing may be
            awaited between this and the replacement of the program.

        Raises:
            TimeoutError: a worker does not read; nothing has changed.
        """
        async with asyncio.timeout(HANDOVER_TIMEOUT):
            for link in self.links:
                await link.written()
        workers = []
        for link in self.links:
            control, partial = link.detach()
            workers.append(
                kept.KeptWorker(
                    pid=link.process.pid,
                    control=control,
                    partial_frame=partial,
                    last_report=link.report,
                    ready=link.ready,
                    draining=link.draining,
                    partial_report=link.slices,
                )
            )
        workers += [kept.KeptWorker(pid=child.pid) for child in self._unlinked]
        return workers, self._retired

    def resume(self) -> None:
        """The program could not be replaced: talk to the workers again."""
        for link in self.links:
            link.attach()

    async def adopt(self, workers: Iterable[kept.KeptWorker], retired: pb.Report, restarts: int) -> None:
        """Take over what `hand_over` of the program before gave; to be called before `run`."""
        self._retired.CopyFrom(retired)
        self.restarts = restarts
        for worker in workers:
            child = AdoptedChild(worker.pid)
            if not worker.control:
                self._unlinked.add(child)
                continue
            link = WorkerLink(len(self._old), child, self._handle, worker.partial_frame)
            link.report, link.slices = worker.last_report, worker.partial_report
            link.ready, link.draining = worker.ready, worker.draining
            self._old.append(link)
            await link.connect(socket.socket(fileno=worker.control))

    async def run(self) -> None:
        """Keep `count` workers alive until cancelled; let those of the program before go when these serve."""
        async with asyncio.TaskGroup() as tasks:
            for child in tuple(self._unlinked):
                tasks.create_task(self._reap(child), name=f"end of {child.pid}")
            for link in tuple(self._old):
                tasks.create_task(self._see_off(link), name=f"former proxy worker {link.process.pid}")
            for index in range(self._count):
                tasks.create_task(self._keep_alive(index), name=f"proxy-worker-{index}")
            if self._old:
                tasks.create_task(self._relieve(), name="relief of the former proxy workers")

    async def relieved(self) -> None:
        """Wait until all workers of this program have served."""
        await self._all_serve.wait()

    async def _relieve(self) -> None:
        await self._all_serve.wait()
        accepting = [link for link in self._old if not link.draining]
        hurried = self._old[MAX_GENERATIONS * self._count :]
        for link in hurried:
            link.send(pb.ToWorker(drain=pb.Drain(deadline_seconds=HURRIED_DEADLINE)))
        for link in accepting:
            link.draining = True
            link.send(pb.ToWorker(drain=pb.Drain(deadline_seconds=self._leave_within)))
        _log.info("new proxy workers serve; %d former ones finish their connections", len(accepting))

    async def _see_off(self, link: WorkerLink) -> None:
        try:
            reason = await link.lost()
            if not self._draining and (reason or not link.draining):
                _log.error("former proxy worker %d ended; its connections are lost: %s", link.process.pid, reason)
        finally:
            self._old.remove(link)
            await self._bury(link)

    async def _keep_alive(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            reason = await self._live(index)
            if self._draining:
                return
            failures = 0 if loop.time() - started > HEALTHY_AFTER else failures + 1
            delay = RESTART_DELAYS[min(failures, len(RESTART_DELAYS)) - 1] if failures else 0.0
            self.restarts += 1
            _log.error(
                "proxy worker ended; its connections are lost, a new one starts",
                extra={"fields": {"worker": index, "reason": reason, "restart_in": delay}},
            )
            await asyncio.sleep(delay)

    async def _live(self, index: int) -> str:
        """One life of one worker; why it ended."""
        try:
            process, ours = self._spawn()
        except OSError as error:
            return f"could not be started: {error}"
        link = WorkerLink(index, process, self._handle)
        self._unlinked.add(process)
        await link.connect(ours)
        self._unlinked.discard(process)
        self._new.append(link)
        for message in self._hooks.snapshot():
            link.send(message)
        try:
            reason = await link.lost()
            return reason or f"exited with status {await asyncio.to_thread(_exit_status, process)}"
        finally:
            self._new.remove(link)
            await self._bury(link)

    def _spawn(self) -> tuple[Child, socket.socket]:
        ours, theirs = socket.socketpair()
        self._start.listeners[:] = [kind for kind, _ in self._listeners]
        self._start.alone = self._count == 1
        head = frame(pb.ToWorker(start=self._start))
        with theirs, self._hooks.channel() as doors:
            try:
                # Small enough for an empty socket buffer, so the blocking send cannot wait for the worker.
                socket.send_fds(ours, [head], [sock.fileno() for _, sock in self._listeners])
                process = _start_process(self._user, theirs.fileno(), doors.fileno())
            except OSError:
                ours.close()
                raise
        return process, ours

    async def _bury(self, link: WorkerLink) -> None:
        self._retire(link)
        link.process.kill()
        link.close()
        await self._reap(link.process)

    async def _reap(self, child: Child) -> None:
        self._unlinked.add(child)
        await asyncio.shield(asyncio.to_thread(child.wait))
        self._unlinked.discard(child)

    def _handle(self, link: WorkerLink, message: pb.FromWorker) -> None:
        kind = message.WhichOneof("message")
        if kind == "logs":
            self._hooks.logs(message.logs)
        elif kind == "want_credentials":
            self._hooks.want_credentials(message.want_credentials.identity)
        elif kind == "want_name":
            self._hooks.want_name(message.want_name.hostname)
        elif kind == "want_address":
            self._hooks.want_address(message.want_address.name)
        elif kind == "used_addresses":
            self._hooks.used_addresses(message.used_addresses.names)
        elif kind == "report":
            link.take_report(message.report)
        elif kind == "ready":
            link.ready = True
            if len(self._new) == self._count and all(one.ready for one in self._new):
                self._all_serve.set()

    def _retire(self, link: WorkerLink) -> None:
        """Keep a dead worker's counters (not its gauges): a scrape must never see a counter fall."""
        totals = {(s.metric, tuple(s.labels)): s for s in self._retired.counters}
        for series in link.report.counters:
            known = totals.get((series.metric, tuple(series.labels)))
            if known is None:
                self._retired.counters.append(series)
            else:
                known.value += series.value


def _start_process(user: str | None, control: int, doors: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hostmesh.daemon.proxy_worker", str(control), str(doors)]
    if user is not None:
        # Marks and transparent sockets need this one capability; everything else a worker could do is main's.
        command = with_capabilities(command, user, ["net_admin"])
    return subprocess.Popen(command, pass_fds=[control, doors])  # noqa: S603 -- our own program


def _exit_status(process: Child, timeout: float = 5.0) -> int | None:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
