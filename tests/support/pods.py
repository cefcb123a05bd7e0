"""An agent without systemd: captured namespaces, one proxy that serves them all, and what CNI asks."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tests.support.netns_helper import running_helper
from tests.support.patience import PATIENCE
from tests.support.pki import Authority
from tests.support.proxy import CONFIG, FakeMain, LoopThread

from hostmesh.daemon.doors import Doors
from hostmesh.daemon.doors_link import DoorsLink
from hostmesh.enrolment.attachments import Attachments
from hostmesh.enrolment.cni_server import CniServer
from hostmesh.enrolment.namespaces import CapturedNamespace, Namespaces
from hostmesh.enrolment.netns_client import NetnsHelper
from hostmesh.enrolment.numbers import Numbers
from hostmesh.model.address import parse_ip
from hostmesh.model.authorization import Authorization
from hostmesh.model.identity import Identity
from hostmesh.model.local import PROXY_MARK, LocalWorkload
from hostmesh.model.workload import Protocol, Workload
from hostmesh.proxy.server import ProxyServer
from hostmesh.redirect.plan import ListenerPorts
from hostmesh.state.store import MeshState
from hostmesh.transport.tls.system import SystemTls

DNS_PORT = 15053
_T = TypeVar("_T")


def identity(name: str) -> Identity:
    """Of a workload of the namespace prod."""
    return Identity("cluster.local", "prod", name)


def described(name: str, *addresses: str) -> Workload:
    """What the control plane says about prod/`name`."""
    return Workload(
        uid=f"lab//Pod/prod/{name}",
        name=name,
        namespace="prod",
        trust_domain="cluster.local",
        service_account=name,
        addresses=tuple(map(parse_ip, addresses)),
        network="lab",
        protocol=Protocol.HBONE,
    )


class AsyncThread:
    """An asyncio loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[object, object, _T]) -> _T:
        """The coroutine's result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def call(self, function: Callable[[], _T]) -> _T:
        """The function's result, run between two events of the loop."""

        async def run() -> _T:
            return function()

        return self.run(run())

    def close(self) -> None:
        """End it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


class PodAgent:
    """Main and one worker in one process; `helper` is asked for sockets in namespaces."""

    def __init__(self, directory: Path, helper: NetnsHelper, socks5: int = 0, *, original_source: bool = False) -> None:
        logging.getLogger("hostmesh").setLevel(logging.INFO)
        self.namespaces = Namespaces(helper, ListenerPorts(), socks5, original_source=original_source)
        self.attachments = Attachments(directory / "cni.json")
        self._numbers = Numbers(directory / "marks.json")
        self._named: dict[str, CapturedNamespace] = {}
        self._main = AsyncThread()
        self.doors = Doors(self.namespaces.supply)
        self._tasks = [self._main.run(self._start(self.doors.run()))]
        self._worker = LoopThread()
        self.state = MeshState()
        self.proxy_main = FakeMain(Authority())
        link = DoorsLink(self._main.call(self.doors.channel), self._worker.loop)
        self.server = ProxyServer(
            self._worker.loop,
            replace(CONFIG, mark=PROXY_MARK, original_source=original_source),
            SystemTls(),
            self.state,
            self.proxy_main,
            want_sockets=link.want_sockets,
        )
        self.proxy_main.server = self.server
        self._worker.call(lambda: link.begin(self.server))
        self._cni = CniServer(directory, self.attachments, self)
        self._cni.read_notes()
        self.cni_socket = directory / "cni.sock"

    def serve_cni(self) -> None:
        """Answer the plugin."""
        self._tasks.append(self._main.run(self._start(self._cni.run())))
        wait_until(self.cni_socket.exists)

    def put(self, *resources: Workload | Authorization) -> None:
        """What a push of the control plane does."""

        def apply() -> None:
            for resource in resources:
                if isinstance(resource, Workload):
                    self.state.upsert_workload(resource)
                else:
                    self.state.upsert_authorization(resource)
            self.server.state_changed()

        self._worker.call(apply)

    def capture(self, name: str, path: Path) -> None:
        """A document of workloads.d."""
        key = f"prod/{name}"
        number = self._numbers.assign([*self._named, *self.attachments.workloads, key])[key]
        workload = LocalWorkload(number, name, "prod", identity(name), "", in_namespace=True)
        self._named[key] = CapturedNamespace(workload, path, "test.yaml", 1)
        self._main.run(self.refresh())

    def release(self, name: str) -> None:
        """The document is gone."""
        del self._named[f"prod/{name}"]
        self._main.run(self.refresh())

    def reassert(self) -> tuple[str, ...]:
        """What the agent does every few seconds."""
        changes = self.namespaces.reassert()
        self._main.call(lambda: self.doors.follow(self.namespaces.open))
        return changes

    # As the CNI server's host

    async def refresh(self) -> None:
        """Namespaces as wanted, and the worker told."""
        numbers = self._numbers.assign([*self._named, *self.attachments.workloads])
        attached, _ = self.attachments.captured((), numbers, "cluster.local", DNS_PORT)
        wanted = [*self._named.values(), *attached]
        await asyncio.to_thread(self.namespaces.refresh, wanted)
        await asyncio.to_thread(
            self._worker.call, lambda: self.server.set_local_workloads([one.workload for one in wanted])
        )
        self.doors.follow(self.namespaces.open)

    def is_captured(self, workload: str) -> bool:
        """Whether it is."""
        return self.namespaces.is_open(workload)

    def problem_of(self, workload: str) -> str:
        """Why not."""
        return "; ".join(map(str, self.namespaces.problems)) or workload

    def close(self) -> None:
        """End main and worker."""
        drained = threading.Event()
        self._worker.call(lambda: self.server.drain(0.0, drained.set))
        assert drained.wait(PATIENCE), self._worker.call(self.server.connections)
        for task in self._tasks:
            self._main.run(_end(task))
        self._main.close()
        self._worker.settle()
        self._worker.stop()
        self.namespaces.close()
        self.attachments.close()

    @staticmethod
    async def _start(coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@contextmanager
def pod_agent(directory: Path, socks5: int = 0, *, original_source: bool = False) -> Iterator[PodAgent]:
    """An agent with its helper."""
    with running_helper(directory) as helper:
        agent = PodAgent(directory, helper, socks5, original_source=original_source)
        try:
            yield agent
        finally:
            agent.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Look every 20 ms."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def talk(client: socket.socket, server: socket.socket) -> tuple[bytes, bytes]:
    """What each side hears from the other."""
    client.settimeout(PATIENCE)
    server.settimeout(PATIENCE)
    client.sendall(b"question")
    heard = server.recv(100)
    server.sendall(b"answer")
    return heard, client.recv(100)
