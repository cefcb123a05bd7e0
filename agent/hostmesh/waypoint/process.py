"""The running Envoy: started, started again when it ends, replaced without a cut (Envoy hot restart), looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from hostmesh.transport.backoff import Backoff
from hostmesh.waypoint.envoy import binary

_log = logging.getLogger("hostmesh.waypoint")

DRAIN_SECONDS = 20
"""How long a replaced Envoy finishes what it has: its clients get GOAWAY and open new tunnels to its successor."""

STOP_SECONDS = 10.0
_HEALTHY = 30.0
_ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class EnvoyProcess:
    """One Envoy and, while it is being replaced, its predecessor.

    Args:
        directory: for its admin socket and its notes; short-lived.
        bootstrap: its configuration file.
        concurrency: worker threads.
        started: told about every start, with its process id.
    """

    def __init__(self, directory: Path, bootstrap: Path, concurrency: int, started: Callable[[int], None]) -> None:
        self.admin = directory / "admin.sock"
        self._base_id = directory / "base-id"
        self._bootstrap = bootstrap
        self._concurrency = concurrency
        self._started = started
        self._replace = asyncio.Event()
        self._epoch = 0
        self.starts = 0

    async def run(self) -> None:
        """Keep one running until cancelled; then it finishes what it has, within `STOP_SECONDS`.

        Raises:
            EnvoyMissing: it is not installed.
        """
        backoff = Backoff(0.1, 10.0)
        while True:
            self._epoch = 0
            self._base_id.unlink(missing_ok=True)
            began = time.monotonic()
            process = await self._start()
            try:
                await self._live(process)
            except asyncio.CancelledError:
                await _end(process)
                raise
            if time.monotonic() - began > _HEALTHY:
                backoff.reset()
            pause = backoff.next()
            _log.error("envoy ended with status %s; it is started again in %.1f s", process.returncode, pause)
            await asyncio.sleep(pause)

    def replace(self) -> None:
        """Let a new Envoy (an upgraded one, say) take over the listeners; the old one drains and ends."""
        self._replace.set()

    async def _live(self, process: asyncio.subprocess.Process) -> None:
        """Until the newest one ends; predecessors end by themselves."""
        current = process
        former: list[asyncio.subprocess.Process] = []
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
                    return
                self._replace.clear()
                former.append(current)
                self._epoch += 1
                current = await self._start()
        finally:
            if current is not process and current.returncode is None:
                await _end(current)
            for one in former:
                await _end(one)

    async def _start(self) -> asyncio.subprocess.Process:
        argv = [str(binary()), "--config-path", str(self._bootstrap), "--concurrency", str(self._concurrency)]
        argv += ["--log-level", "warning", "--log-format", "%l envoy %n: %v", "--restart-epoch", str(self._epoch)]
        argv += ["--file-flush-interval-msec", "1000"]  # of the access log
        argv += ["--drain-time-s", str(DRAIN_SECONDS // 2), "--parent-shutdown-time-s", str(DRAIN_SECONDS)]
        if self._epoch == 0:
            argv += ["--use-dynamic-base-id", "--base-id-path", str(self._base_id)]
        else:
            argv += ["--base-id", self._base_id.read_text().strip()]
        process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, start_new_session=True)
        _log.info("envoy started: process %d, epoch %d", process.pid, self._epoch)
        self.starts += 1
        self._started(process.pid)
        return process

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


async def _end(process: asyncio.subprocess.Process) -> None:
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
