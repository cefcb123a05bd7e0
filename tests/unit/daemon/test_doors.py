"""Doors of workers that are real processes: told of namespaces while they run, and answered whatever happens."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.support.patience import PATIENCE

from hostmesh.config.proxy import ProxyConfig
from hostmesh.daemon.doors import Doors
from hostmesh.daemon.workers import ProxyWorkers, WorkerHooks
from hostmesh.enrolment.namespaces import OpenNamespace
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.transport.listeners import bind_listener
from hostmesh.wire.proto import doors_pb2, worker_pb2

WEB = LocalWorkload(1, "web", "prod", Identity("cluster.local", "prod", "web"), "", in_namespace=True)


def opened(id_: int, number: int) -> tuple[OpenNamespace, int]:
    """A namespace with one listener, for plaintext, and its port; the worker need not know where it is."""
    listener = bind_listener("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    held = os.open("/dev/null", os.O_RDONLY)
    return OpenNamespace(id_, number, held, (0, 0), (("inbound_plaintext", listener),), "", (), WEB, Path("/")), port


def test_a_running_worker_serves_a_namespace_until_it_is_left() -> None:
    """Who comes there is the workload whose namespace it is; a worker that is replaced hears of it as well."""
    logs: list[bytes] = []

    def snapshot() -> Iterable[worker_pb2.ToWorker]:
        yield worker_pb2.ToWorker(local_workloads=worker_pb2.LocalWorkloads())
        yield worker_pb2.ToWorker(serve=worker_pb2.Serve())

    async def body() -> None:
        doors = Doors(lambda *_: [])
        hooks = WorkerHooks(
            snapshot,
            lambda batch: logs.append(batch.records),
            lambda _: None,
            doors.channel,
            lambda _: None,
            lambda _: None,
            lambda _: None,
        )
        config = ProxyConfig(mark=None, certificate_wait=0.1).to_json()
        workers = ProxyWorkers(1, worker_pb2.Start(config_json=config), [], hooks, user=None)
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(workers.run()), tasks.create_task(doors.run())]
            while not workers.ready:
                await asyncio.sleep(0.02)
            for round_ in (1, 2):
                namespace, port = opened(round_, 6 + round_)
                doors.follow([namespace])
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with suppress(ConnectionResetError):
                    await reader.read(1)
                writer.close()
                while not any(f"has the number {6 + round_}".encode() in records for records in logs):
                    await asyncio.sleep(0.02)
                if round_ == 1:
                    doors.follow([])
                    namespace.close()
                    while await accepts(port):
                        await asyncio.sleep(0.02)
                else:
                    workers.links[0].process.kill()
                    while workers.restarts < 1 or not workers.ready:
                        await asyncio.sleep(0.02)
                    namespace.close()
                    assert await accepts(port)  # the new worker has it
            for task in running:
                task.cancel()

    asyncio.run(body())


async def accepts(port: int) -> bool:
    """Whether anybody has the listener."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        return True  # it was there, and was closed with this connection in its queue
    writer.close()
    return True


def test_every_question_is_answered() -> None:
    """With sockets, with none when they cannot be made, with none for a namespace that nobody knows (any more)."""
    asked: list[tuple[int, bool, int]] = []

    def supply(id_: int, ipv6: bool, count: int) -> list[socket.socket]:
        asked.append((id_, ipv6, count))
        if ipv6:
            raise OSError("no IPv6 there")
        return [socket.socket() for _ in range(count)]

    async def body() -> list[tuple[int, bool, int]]:
        doors = Doors(supply)
        namespace, _ = opened(7, 1)
        heard: list[tuple[int, bool, int]] = []
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(doors.run())
            with doors.channel() as worker:
                worker.settimeout(PATIENCE)
                doors.follow([namespace])
                await receive(worker)
                for id_, ipv6, count in ((7, False, 3), (7, True, 3), (8, False, 3), (7, False, 1000)):
                    worker.send(doors_pb2.WantSockets(id=id_, ipv6=ipv6, count=count).SerializeToString())
                    message, sockets = await receive(worker)
                    heard.append((message.supplied.id, message.supplied.ipv6, sockets))
            running.cancel()
        namespace.close()
        return heard

    assert asyncio.run(body()) == [(7, False, 3), (7, True, 0), (8, False, 0), (7, False, 64)]
    assert asked == [(7, False, 3), (7, True, 3), (7, False, 64)]


async def receive(worker: socket.socket) -> tuple[doors_pb2.ToWorker, int]:
    """A packet and how many descriptors came with it."""
    packet, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, worker, 512, 64)
    for descriptor in descriptors:
        os.close(descriptor)
    return doors_pb2.ToWorker.FromString(packet), len(descriptors)
