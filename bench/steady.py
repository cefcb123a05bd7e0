"""Small messages through both proxies of one process, one after the other: what a tool that counts instructions runs.

`python -m bench.steady COUNT`: everything beside the messages is the same for each COUNT.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import ExitStack, suppress

from tests.support.proxy import Mesh

from hostmesh.transport.tls.select import provider

SIZE = 1000
"""Bytes of a message."""
LONGEST_TURN = 0.1
"""Seconds: something else may have kept the loop busy when a message arrived."""


def main() -> None:
    """Alice's application says something, bob's answers; each way is two turns of the loop that both proxies share."""
    count = int(sys.argv[1])
    tls = provider("auto"), provider("auto")  # one for each host: what they keep is each process's own
    accepted: list[socket.socket] = []
    arrived, done = threading.Event(), threading.Event()

    def serve(sock: socket.socket) -> None:
        accepted.append(sock)
        arrived.set()
        done.wait()

    with ExitStack() as stack:
        mesh = stack.enter_context(Mesh(client_tls=tls[0], server_tls=tls[1]))
        app = stack.enter_context(mesh.app(serve))
        stack.callback(done.set)
        alice = stack.enter_context(mesh.connect(app.port))
        alice.sendall(bytes(SIZE))
        arrived.wait()
        bob = accepted[0]
        left = SIZE
        while left:
            left -= len(bob.recv(left))
        for sock in (alice, bob):
            sock.settimeout(None)  # with one, even a call that must not wait would
        mesh.thread.call(lambda: pings(count, mesh, alice, bob))


def pings(count: int, mesh: Mesh, alice: socket.socket, bob: socket.socket) -> None:
    """There and back, again and again."""
    for sender, receiver in ((alice, bob), (bob, alice)) * count:
        sender.sendall(bytes(SIZE))
        left = SIZE
        while left:
            mesh.thread.loop.turn(LONGEST_TURN)
            with suppress(BlockingIOError):
                left -= len(receiver.recv(left, socket.MSG_DONTWAIT))


if __name__ == "__main__":
    main()
