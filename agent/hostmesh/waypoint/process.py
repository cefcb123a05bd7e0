"""The running Envoy: started, started again when it ends, replaced without a cut (Envoy hot restart), looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from hostmesh.kernel.foreign_sockets import Address, shut_down
from hostmesh.kernel.record import Record
from hostmesh.transport.backoff import Backoff
from hostmesh.waypoint.envoy import EnvoyMissing, binary
from hostmesh.waypoint.names import host_port
from hostmesh.waypoint.tunnels import ACCEPTED, FLUSH_MILLISECONDS, OPENED, Peer

_log = logging.getLogger("hostmesh.waypoint")

DRAIN_SECONDS = 20
"""How long a replaced Envoy finishes what it has: its clients get GOAWAY and open new tunnels to its successor."""

STOP_SECONDS = 10.0
_HEALTHY = 30.0
_LOOK = 0.2
"""Seconds between two looks at a child whose end asyncio does not hear of."""

_ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class Child(Protocol):
    """As asyncio has it."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def returncode(self) -> int | None:
        """None while it runs."""

    def send_signal(self, signum: int) -> None:
        """Tell it something."""

    def kill(self) -> None:
        """End it."""

    async def wait(self) -> int:
        """Until it has ended."""


@dataclass(frozen=True, slots=True)
class Note:
    """For the program after this one: which process serves, and its epoch."""

    process: int
    epoch: int


class Adopted:
    """A child that an earlier program of this process started.

    Raises:
        OSError: there is no such child, or it has ended.
    """

    def __init__(self, pid: int) -> None:
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            raise ProcessLookupError(f"process {pid} has ended")
        self.pid = pid
        self.returncode: int | None = None

    def send_signal(self, signum: int) -> None:
        """See `Child`."""
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """See `Child`."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """See `Child`."""
        while self.returncode is None:
            if not self._look():
                await asyncio.sleep(_LOOK)
        return self.returncode

    def _look(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)
        return bool(pid)


class EnvoyProcess:
    """One Envoy and, while it is being replaced, its predecessor, which the program before this one may have left.

    Args:
        directory: for its admin socket and its notes; short-lived.
        bootstrap: its configuration file.
        concurrency: worker threads.
        started: told about every start, with its process id.
    """

    def __init__(self, directory: Path, bootstrap: Path, concurrency: int, started: Callable[[int], None]) -> None:
        self.admin = directory / "admin.sock"
        self._base_id = directory / "base-id"
        self._note = Record(directory / "envoy.json", Note)
        self._bootstrap = bootstrap
        self._concurrency = concurrency
        self._started = started
        self._replace = asyncio.Event()
        self._epoch = 0
        self.starts = 0
        self._processes: list[Child] = []

    async def run(self) -> None:
        """Keep one running until cancelled; then it finishes what it has, within `STOP_SECONDS`.

        Raises:
            EnvoyMissing: it is not installed.
        """
        backoff = Backoff(0.1, 10.0)
        former = await self._left_behind()
        while True:
            if former is None:
                self._epoch = 0
                self._base_id.unlink(missing_ok=True)
            began = time.monotonic()
            process = await self._start()
            try:
                await self._live(process, [former] if former is not None else [])
            except asyncio.CancelledError:
                await _end(process)
                self._note.remove()
                raise
            former = None
            if time.monotonic() - began > _HEALTHY:
                backoff.reset()
            pause = backoff.next()
            _log.error("envoy ended with status %s; it is started again in %.1f s", process.returncode, pause)
            await asyncio.sleep(pause)

    def replace(self) -> None:
        """Let a new Envoy (an upgraded one, say) take over the listeners; the old one drains and ends."""
        self._replace.set()

    async def _left_behind(self) -> Child | None:
        """The Envoy of the program that this process ran before, if it still serves."""
        note = self._note.read()
        if note is None:
            return None
        try:
            child, epoch = Adopted(note.process), note.epoch + 1
        except (OSError, TypeError, OverflowError):  # it has ended, or these are no numbers
            return None
        self._processes.append(child)
        self._epoch = epoch
        return child

    async def _live(self, process: Child, former: list[Child]) -> None:
        """Until the newest one ends; predecessors end by themselves."""
        current = process
        try:
            while True:
                async with asyncio.TaskGroup() as group:
                    ended = group.create_task(current.wait())
                    asked = group.create_task(self._replace.wait())
                    await asyncio.wait([ended, asked], return_when=asyncio.FIRST_COMPLETED)
                    done = ended.done()
                    ended.cancel()
                    asked.cancel()
                if done:
                    if not former or former[-1].returncode is not None or not await self._serves():
                        return
                    _log.error("the new envoy ended with status %s; the one before it goes on", current.returncode)
                    current = self._go_back(former)
                    continue
                self._replace.clear()
                former.append(current)
                self._epoch += 1
                try:
                    current = await self._start()
                except (EnvoyMissing, OSError) as error:
                    _log.error("the running envoy goes on, there is none to take over: %s", error)
                    current = self._go_back(former)
        finally:
            if current is not process and current.returncode is None:
                await _end(current)
            for one in former:
                await _end(one)

    def _go_back(self, former: list[Child]) -> Child:
        """To the one that was to be replaced; it has not been told to drain yet."""
        self._epoch -= 1
        child = former.pop()
        self._note.write(Note(child.pid, self._epoch))
        return child

    async def _serves(self) -> bool:
        """Whether the one that answers has its listeners; one that drains has none."""
        try:
            status = await self.status()
        except (OSError, ValueError, KeyError):
            return False
        return bool(status["state"] == "LIVE" and status["listeners"])

    async def _start(self) -> asyncio.subprocess.Process:
        argv = [str(binary()), "--config-path", str(self._bootstrap), "--concurrency", str(self._concurrency)]
        argv += ["--log-level", "warning", "--log-format", "%l envoy %n: %v", "--restart-epoch", str(self._epoch)]
        argv += ["--file-flush-interval-msec", str(FLUSH_MILLISECONDS)]
        argv += ["--drain-time-s", str(DRAIN_SECONDS // 2), "--parent-shutdown-time-s", str(DRAIN_SECONDS)]
        if self._epoch == 0:
            argv += ["--use-dynamic-base-id", "--base-id-path", str(self._base_id)]
        else:
            argv += ["--base-id", self._base_id.read_text().strip()]
        process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, start_new_session=True)
        self._note.write(Note(process.pid, self._epoch))
        _log.info("envoy started: process %d, epoch %d", process.pid, self._epoch)
        self.starts += 1
        self._processes = [one for one in (*self._processes, process) if one.returncode is None]
        self._started(process.pid)
        return process

    def close_tunnels(self, peers: Collection[Peer], insist: bool) -> bool:
        """Close the connections of these peers.

        Args:
            peers: whose.
            insist: end Envoy, and so all connections, where single ones cannot be closed (in most containers).

        Returns:
            Whether they are closed.
        """
        done = True
        wanted = frozenset(peers)

        def chosen(own: Address, peer: Address) -> bool:
            return (ACCEPTED, host_port(*peer)) in wanted or (OPENED, host_port(*own)) in wanted

        for one in self._processes:
            if one.returncode is not None:
                continue
            if isinstance(one, Adopted):  # whose tunnels it has are not known here; it is draining anyway
                with contextlib.suppress(ProcessLookupError):
                    one.kill()
                continue
            try:
                count = shut_down(one.pid, chosen)
            except PermissionError as error:
                if not insist:
                    done = False  # Envoy may refuse them by now, and the others' tunnels are not to suffer
                    continue
                _log.error("envoy is started again, so that no tunnel of somebody revoked stays open: %s", error)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGTERM)
            else:
                _log.warning("%d connections of revoked peers are closed", count)
        return done

    async def ask(self, path: str) -> str:
        """GET from its admin port.

        Raises:
            OSError: it does not answer.
        """
        try:
            connector = aiohttp.UnixConnector(str(self.admin))
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_ADMIN_TIMEOUT) as session,
                session.get(f"http://envoy{path}") as response,
            ):
                return await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"envoy's admin socket {self.admin} does not answer: {error}") from error

    async def status(self) -> dict[str, Any]:
        """`state` is LIVE when it serves; `listeners` are those that are active."""
        info = json.loads(await self.ask("/server_info"))
        stats = json.loads(await self.ask("/stats?filter=^listener_manager[.]&format=json"))["stats"]
        numbers = {one["name"]: one["value"] for one in stats if "name" in one}
        return {
            "state": info["state"],
            "version": info["version"].split("/")[1],
            "uptime": info["uptime_all_epochs"],
            "listeners": numbers.get("listener_manager.total_listeners_active", 0),
            "rejected": numbers.get("listener_manager.lds.update_rejected", 0),
        }


async def _end(process: Child) -> None:
    """Ask, wait, insist."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
