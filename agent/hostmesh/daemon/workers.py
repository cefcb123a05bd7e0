"""Proxy workers as main sees them: started with the least privilege, fed, watched, replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from hostmesh.daemon.frames import MAX_FROM_WORKER, FrameReader, FrameTooLarge, frame
from hostmesh.kernel.process import with_capabilities
from hostmesh.wire.proto import worker_pb2 as pb

_log = logging.getLogger("hostmesh.workers")

HEARTBEAT_TIMEOUT = 20.0
"""A worker beats every second; one that is silent this long is stuck and is replaced."""

RESTART_DELAYS = (0.0, 0.2, 1.0, 5.0)
"""Seconds before the nth restart in a row of one worker; the last one repeats."""

HEALTHY_AFTER = 30.0
"""A worker that lived this long starts the delays anew."""

MAX_QUEUED = 512 << 20
"""Bytes waiting for a worker that does not read; above it the worker is replaced."""

REPORT_TIMEOUT = 2.0
"""Seconds a scrape waits for a busy worker."""

Listener = tuple[str, socket.socket]


@dataclass(slots=True, eq=False)
class WorkerLink:
    """One running worker: its process, its end of the socket pair, and what it last reported."""

    index: int
    process: subprocess.Popen[bytes]
    writer: asyncio.StreamWriter
    ready: bool = False
    report: pb.Report = field(default_factory=pb.Report)
    waiting: dict[int, asyncio.Future[pb.Report]] = field(default_factory=dict)

    def send(self, message: pb.ToWorker) -> None:
        """Queue a message; a worker that does not read is killed rather than waited for."""
        if self.writer.transport.get_write_buffer_size() > MAX_QUEUED:
            self.process.kill()
            return
        self.writer.write(frame(message))


@dataclass(slots=True)
class WorkerHooks:
    """What the workers' owner does with what they say."""

    snapshot: Callable[[], Iterable[pb.ToWorker]]
    logs: Callable[[pb.LogBatch], None]
    want_credentials: Callable[[str], None]


class ProxyWorkers:
    """All proxy workers of the agent. `run` owns every process, link and task; cancelling it ends them all."""

    def __init__(
        self,
        count: int,
        start: pb.Start,
        listeners: Sequence[Listener],
        hooks: WorkerHooks,
        *,
        user: str | None,
    ) -> None:
        self._count = count
        self._start = start
        self._listeners = listeners
        self._hooks = hooks
        self._user = user
        self._links: list[WorkerLink] = []
        self._retired = pb.Report()
        self._report_id = 0
        self._draining = False
        self.restarts = 0

    @property
    def links(self) -> Sequence[WorkerLink]:
        """The workers that are running now."""
        return self._links

    @property
    def ready(self) -> bool:
        """Whether every worker serves."""
        return len(self._links) == self._count and all(link.ready for link in self._links)

    def broadcast(self, message: pb.ToWorker) -> None:
        """Send to every running worker; one that starts later gets the snapshot."""
        for link in self._links:
            link.send(message)

    async def reports(self) -> list[pb.Report]:
        """Numbers of every worker, dead ones' last included so that counters never fall.

        A worker that does not answer in `REPORT_TIMEOUT` is represented by its previous report.
        """
        self._report_id += 1
        futures: list[asyncio.Future[pb.Report]] = []
        for link in self._links:
            future = asyncio.get_running_loop().create_future()
            link.waiting[self._report_id] = future
            futures.append(future)
            link.send(pb.ToWorker(report=pb.ReportRequest(id=self._report_id)))
        if futures:
            await asyncio.wait(futures, timeout=REPORT_TIMEOUT)
        for link in self._links:
            link.waiting.pop(self._report_id, None)
        return [self._retired, *(link.report for link in self._links)]

    async def drained(self, deadline: float) -> None:
        """Wait until every worker has ended after it was told to drain, at most `deadline` seconds."""
        self._draining = True
        processes = [link.process for link in self._links]
        await asyncio.gather(*(asyncio.to_thread(_exit_status, process, deadline) for process in processes))

    async def run(self) -> None:
        """Keep `count` workers alive until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for index in range(self._count):
                tasks.create_task(self._keep_alive(index), name=f"proxy-worker-{index}")

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
            link, reader = await self._spawn(index)
        except OSError as error:
            return f"could not be started: {error}"
        self._links.append(link)
        for message in self._hooks.snapshot():
            link.send(message)
        try:
            return await self._listen(link, reader)
        finally:
            self._links.remove(link)
            self._retire(link)
            link.process.kill()
            link.writer.close()
            await asyncio.shield(asyncio.to_thread(link.process.wait))

    async def _spawn(self, index: int) -> tuple[WorkerLink, asyncio.StreamReader]:
        ours, theirs = socket.socketpair()
        self._start.listeners[:] = [kind for kind, _ in self._listeners]
        head = frame(pb.ToWorker(start=self._start))
        with theirs:
            try:
                # Small enough for an empty socket buffer, so the blocking send cannot wait for the worker.
                socket.send_fds(ours, [head], [sock.fileno() for _, sock in self._listeners])
                process = _start_process(self._user, theirs.fileno())
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        return WorkerLink(index, process, writer), reader

    async def _listen(self, link: WorkerLink, reader: asyncio.StreamReader) -> str:
        frames = FrameReader(MAX_FROM_WORKER)
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_TIMEOUT):
                    data = await reader.read(1 << 18)
            except TimeoutError:
                return f"no sign of life for {HEARTBEAT_TIMEOUT:.0f} s"
            except OSError as error:
                return str(error)
            if not data:
                return f"exited with status {await asyncio.to_thread(_exit_status, link.process)}"
            try:
                for body in frames.feed(data):
                    self._handle(link, pb.FromWorker.FromString(body))
            except (FrameTooLarge, DecodeError) as error:
                return f"spoke nonsense: {error}"

    def _handle(self, link: WorkerLink, message: pb.FromWorker) -> None:
        kind = message.WhichOneof("message")
        if kind == "logs":
            self._hooks.logs(message.logs)
        elif kind == "want_credentials":
            self._hooks.want_credentials(message.want_credentials.identity)
        elif kind == "report":
            link.report = message.report
            future = link.waiting.pop(message.report.id, None)
            if future is not None and not future.done():
                future.set_result(message.report)
        elif kind == "ready":
            link.ready = True

    def _retire(self, link: WorkerLink) -> None:
        """Keep a dead worker's counters (not its gauges): a scrape must never see a counter fall."""
        totals = {(s.metric, tuple(s.labels)): s for s in self._retired.counters}
        for series in link.report.counters:
            known = totals.get((series.metric, tuple(series.labels)))
            if known is None:
                self._retired.counters.append(series)
            else:
                known.value += series.value
        for future in link.waiting.values():
            if not future.done():
                future.set_result(link.report)


def _start_process(user: str | None, control: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hostmesh.daemon.worker", str(control)]
    if user is not None:
        # Marks and transparent sockets need this one capability; everything else a worker could do is main's.
        command = with_capabilities(command, user, ["net_admin"])
    return subprocess.Popen(command, pass_fds=[control])  # noqa: S603 -- our own program


def _exit_status(process: subprocess.Popen[bytes], timeout: float = 5.0) -> int | None:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
