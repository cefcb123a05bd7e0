"""Connections of a child process, closed from outside."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.patience import PATIENCE

from hostmesh.kernel.foreign_sockets import shut_down

_CHILD = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
held = [server.accept()[0] for _ in range(2)]
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], list[socket.socket]]]:
    """A process with two connections, and their other ends."""
    argv = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        ends = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(2)]
        assert process.stdout.readline() == "ready\n"
        try:
            yield process, ends
        finally:
            for end in ends:
                end.close()
            process.kill()


def test_only_the_chosen_ones_end(child: tuple[subprocess.Popen[str], list[socket.socket]]) -> None:
    """Both ends find it ended; the listener and other connections live on."""
    process, (first, second) = child
    assert shut_down(process.pid, lambda _, peer: peer == first.getsockname()) == 1
    assert first.recv(1) == b""
    second.settimeout(0.1)
    with pytest.raises(TimeoutError):
        second.recv(1)


def test_a_process_that_is_gone_has_none(child: tuple[subprocess.Popen[str], list[socket.socket]]) -> None:
    """It may end at any time."""
    process, _ = child
    process.kill()
    process.wait()
    assert shut_down(process.pid, lambda *_: True) == 0
