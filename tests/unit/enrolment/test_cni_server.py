"""What the CNI server does with requests that are none, or come when it can take none."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.patience import PATIENCE

from hostmesh.enrolment.attachments import Attachments
from hostmesh.enrolment.cni_server import SOCKET_NAME, CniServer


class Nothing:
    """A host on which nothing is captured."""

    async def refresh(self) -> None:
        return

    def is_captured(self, workload: str) -> bool:
        del workload
        return False

    def problem_of(self, workload: str) -> str:
        return workload


@asynccontextmanager
async def asking(directory: Path) -> AsyncIterator[socket.socket]:
    """A client of a server that runs; it has asked nothing yet."""
    server = CniServer(directory, Attachments(directory / "cni.json"), Nothing(), frozenset({os.getuid()}))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        await asyncio.sleep(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.setblocking(False)
            client.connect(str(directory / SOCKET_NAME))
            yield client
        running.cancel()


def ask(client: socket.socket, verb: str, *descriptors: int) -> None:
    socket.send_fds(client, [json.dumps({"verb": verb}).encode()], descriptors)


async def answer(client: socket.socket) -> str:
    said: dict[str, str] = json.loads(await asyncio.get_running_loop().sock_recv(client, 4096))
    return said["error"]


def test_a_descriptor_that_nobody_wants_is_closed(tmp_path: Path) -> None:
    """Only `add` keeps one; else whoever asks could make the agent run out of them."""

    async def run() -> None:
        for verb, error in (("status", ""), ("nonsense", "not a request")):
            async with asking(tmp_path) as client:
                reading, writing = os.pipe()
                ask(client, verb, writing)
                os.close(writing)
                assert await answer(client) == error
                assert os.read(reading, 1) == b""
                os.close(reading)

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_out_of_descriptors_it_goes_on(tmp_path: Path) -> None:
    """A request that cannot be accepted waits until it can."""

    async def run() -> None:
        async with asking(tmp_path) as client:
            ask(client, "status")
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                await asyncio.sleep(0.05)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await answer(client) == ""

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
