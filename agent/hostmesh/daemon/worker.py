"""A proxy worker's process: listeners and state come from main, bytes go through the proxy, numbers go back.

No asyncio, no disk, no keys but those main sends. When main goes away the worker ends: captured traffic then fails
closed, because the rules stay.
"""

from __future__ import annotations

import gc
import socket
import sys

from hostmesh.config.proxy import ProxyConfig
from hostmesh.daemon.doors_link import DoorsLink
from hostmesh.daemon.frames import LENGTH
from hostmesh.daemon.idling import Idling
from hostmesh.daemon.main_link import MainLink
from hostmesh.kernel.memory import Memory, keep_freed
from hostmesh.proxy.server import ProxyServer
from hostmesh.state.store import MeshState
from hostmesh.telemetry.logs import set_up_forwarding
from hostmesh.transport import scratch
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.select import provider
from hostmesh.wire.proto import worker_pb2 as pb

MAX_LISTENERS = 16

HEARTBEAT_INTERVAL = 1.0

GC_THRESHOLDS = (5000, 20, 100)
"""Connections come and go without cycles, so the collector has little to find: it looks at fewer, larger batches, each
for a fraction of a millisecond (Python's own: 700, 10, 10)."""

LARGEST_KEPT = 2 << 20
"""What a slow application has not taken yet waits in blocks of up to 1 MiB."""
FREED_KEPT = 16 << 20
"""As much as all streams of one tunnel may let wait, its window."""


def main() -> None:
    """Entry point of `python -m hostmesh.daemon.proxy_worker FD DOORS-FD`."""
    control, doors_end = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    start, descriptors = receive_start(control)
    keep_freed(LARGEST_KEPT, FREED_KEPT)
    config = ProxyConfig.from_json(start.config_json)
    loop = Loop()
    state = MeshState()
    # The collector need not look at the mesh again and again: at 100,000 workloads a look would hold up all bytes for
    # half a second. What is frozen still goes away when nobody refers to it; the byte path makes no cycles.
    link = MainLink(control, loop, state, plain_logs=start.plain_logs, settled=gc.freeze)
    doors = DoorsLink(doors_end, loop)
    set_up_forwarding(lambda record: link.log([record]), {})
    server = ProxyServer(
        loop,
        config,
        provider(config.tls_engine),
        state,
        link,
        want_sockets=doors.want_sockets,
        alone=start.alone,
    )
    listeners = [(kind, socket.socket(fileno=fd)) for kind, fd in zip(start.listeners, descriptors, strict=True)]
    link.begin(server, listeners, HEARTBEAT_INTERVAL, lambda: doors.begin(server))
    memory = Memory()
    memory.settle()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    Idling(loop, (memory.give_back, scratch.give_back)).start()
    loop.run()


def receive_start(control: socket.socket) -> tuple[pb.Start, list[int]]:
    """Wait for the first message, with the listeners beside it.

    Raises:
        ConnectionError: main closed the pair before it said anything whole.
    """
    data, descriptors, _, _ = socket.recv_fds(control, LENGTH.size, MAX_LISTENERS)
    while len(data) < LENGTH.size:
        data += _receive(control, LENGTH.size - len(data))
    (length,) = LENGTH.unpack(data)
    body = b""
    while len(body) < length:
        body += _receive(control, length - len(body))
    return pb.ToWorker.FromString(body).start, list(descriptors)


def _receive(control: socket.socket, size: int) -> bytes:
    data = control.recv(size)
    if not data:
        raise ConnectionError("main closed the control socket before it said what to do")
    return data
