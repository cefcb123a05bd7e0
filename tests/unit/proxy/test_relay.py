"""Two TCP connections joined: integrity, half-close, resets, bounded buffers."""

from __future__ import annotations

import errno
import hashlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.patience import PATIENCE
from tests.support.proxy import LoopThread, pattern, receive_all, send_until_blocked

from hostmesh.proxy.failure import Failure
from hostmesh.proxy.relay import Relay
from hostmesh.telemetry.metrics import Counter
from hostmesh.telemetry.reasons import Reason, reason_of

SIZE = 16 << 20


@dataclass
class Joined:
    """`client` and `server` talk to each other through the relay."""

    client: socket.socket
    server: socket.socket
    relay: Relay
    done: threading.Event
    failures: list[Failure | None]
    up: Counter = field(default_factory=Counter)


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outer = socket.create_connection(listener.getsockname(), PATIENCE)
        inner, _ = listener.accept()
    outer.settimeout(PATIENCE)
    return outer, inner


@dataclass
class Apart:
    """`client` and `server`, who are joined when the test says so: `left` and `right` are the relay's ends."""

    thread: LoopThread
    client: socket.socket
    left: socket.socket
    server: socket.socket
    right: socket.socket
    done: queue.SimpleQueue[Failure | None] = field(default_factory=queue.SimpleQueue)

    def join(self, right: Callable[[], socket.socket] | None = None) -> None:
        """In the loop's thread, after what `right` does there; it may give the relay another end."""

        def start() -> None:
            end = right() if right is not None else self.right
            self.thread.loop.register(end.fileno(), lambda _: None, writable=True)
            Relay(self.thread.loop, self.left, end, self.done.put).start()

        self.thread.call(start)

    def failure(self) -> Failure | None:
        """What the relay says at its end."""
        return self.done.get(timeout=PATIENCE)


@pytest.fixture
def apart() -> Iterator[Apart]:
    thread = LoopThread()
    made = Apart(thread, *pair(), *pair())
    with made.client, made.server:
        yield made
    thread.settle()
    thread.stop()


@pytest.fixture
def joined() -> Iterator[Joined]:
    thread = LoopThread()
    client, left = pair()
    server, right = pair()
    done, up = threading.Event(), Counter()
    failures: list[Failure | None] = []

    def finish(failure: Failure | None) -> None:
        failures.append(failure)
        done.set()

    def start() -> Relay:
        thread.loop.register(right.fileno(), lambda _: None, writable=True)
        relay = Relay(thread.loop, left, right, finish, up)
        relay.start()
        return relay

    made = Joined(client, server, thread.call(start), done, failures, up)
    yield made
    client.close()
    server.close()
    thread.call(made.relay.abort)
    thread.settle()
    thread.stop()


def test_both_directions_at_once_arrive_unchanged(joined: Joined) -> None:
    """By hash, with readers that are slower than writers."""
    digests: dict[str, bytes] = {}

    def send(sock: socket.socket, seed: int) -> None:
        for piece in pattern(SIZE, seed):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)

    def receive(sock: socket.socket, name: str) -> None:
        seen = hashlib.blake2b()
        while data := sock.recv(50_000):
            seen.update(data)
        digests[name] = seen.digest()

    ends = ((joined.client, 1, "client"), (joined.server, 2, "server"))
    threads = [threading.Thread(target=send, args=(sock, seed)) for sock, seed, _ in ends]
    threads += [threading.Thread(target=receive, args=(sock, name)) for sock, _, name in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {seed: hashlib.blake2b(b"".join(pattern(SIZE, seed))).digest() for seed in (1, 2)}
    assert digests == {"server": expected[1], "client": expected[2]}
    assert joined.done.wait(PATIENCE)
    assert joined.up.value == joined.relay.bytes_up == joined.relay.bytes_down == SIZE


def test_an_end_goes_one_way(joined: Joined) -> None:
    """The other direction lives until it ends itself."""
    joined.client.shutdown(socket.SHUT_WR)
    assert joined.server.recv(1) == b""
    joined.server.sendall(b"still")
    assert joined.client.recv(5) == b"still"
    assert not joined.done.is_set()
    joined.server.close()
    assert joined.client.recv(1) == b""
    assert joined.done.wait(PATIENCE)


ABRUPTLY = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER of a connection that ends by a reset."""


@pytest.mark.parametrize(("rude", "direction"), [("client", "send"), ("server", "receive")])
def test_a_reset_goes_on_as_a_reset(joined: Joined, rude: str, direction: str) -> None:
    """Either side, and the log says whose."""
    broken, other = (joined.client, joined.server) if rude == "client" else (joined.server, joined.client)
    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
    broken.close()
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert joined.done.wait(PATIENCE)
    assert joined.failures == [Failure(f"{direction}: io error: Connection reset by peer (os error 104)", "CONNECT")]


def test_what_was_said_before_a_reset_that_a_writer_meets_is_not_taken_for_all(apart: Apart) -> None:
    """The kernel tells the error once, to who writes; who reads afterwards would find an end."""

    def leave() -> socket.socket:
        apart.client.sendall(b"to nobody")
        apart.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
        apart.server.close()
        return apart.right

    apart.join(leave)
    with pytest.raises(ConnectionResetError):
        receive_all(apart.client)
    assert apart.failure() == Failure("receive: io error: Connection reset by peer (os error 104)", "CONNECT")


def test_who_falls_silent_after_its_own_end_is_a_failure(apart: Apart) -> None:
    """The client has ended and then vanishes while its answer comes: no reset says that it wanted no more."""
    apart.left.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50)
    apart.join()
    apart.client.shutdown(socket.SHUT_WR)
    assert apart.server.recv(1) == b""
    with pytest.raises(ConnectionError):
        send_for_ever(apart.server)
    assert apart.failure() == Failure("receive: io error: Connection timed out (os error 110)", "CONNECT")


def send_for_ever(sock: socket.socket) -> None:
    while True:
        sock.sendall(bytes(1 << 20))


def test_a_peer_that_is_gone_without_a_word_is_a_failure_and_no_end(apart: Apart) -> None:
    """What a timeout breaks off looks broken off to the other side, and the log says what it was."""
    apart.right.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50)
    apart.join()
    with pytest.raises(ConnectionError):  # the server takes nothing: to its sender it is as good as gone
        send_for_ever(apart.client)
    failure = apart.failure()
    assert failure == Failure("send: io error: Connection timed out (os error 110)", "CONNECT")
    assert reason_of(failure.error, failure.flags) is Reason.INTERRUPTED


class Silent(socket.socket):
    """A connection whose keepalive gets no answer any more, once it has given what was there."""

    def recv_into(self, *args: Any) -> int:
        """See `socket`."""
        try:
            return super().recv_into(*args)
        except BlockingIOError:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out") from None


def test_half_an_answer_does_not_look_like_a_whole_one(apart: Apart) -> None:
    """The client's connection is reset, as the server has not ended."""
    apart.server.sendall(b"half")
    apart.join(lambda: Silent(fileno=apart.right.detach()))
    with pytest.raises(ConnectionResetError):
        receive_all(apart.client)
    assert apart.failure() == Failure("receive: io error: Connection timed out (os error 110)", "CONNECT")


def test_a_reader_that_sleeps_stops_the_writer(joined: Joined) -> None:
    """No more than the kernel's buffers and one chunk are in flight."""
    sent = send_until_blocked(joined.client)
    assert sent < 64 << 20
    received = 0
    joined.client.shutdown(socket.SHUT_WR)
    while data := joined.server.recv(1 << 20):
        received += len(data)
    assert received == sent


def test_a_writer_to_a_reset_connection_is_released(joined: Joined) -> None:
    """Its reader is gone: what it sends is dropped, and both sides end."""
    joined.server.shutdown(socket.SHUT_WR)
    assert joined.client.recv(1) == b""
    joined.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
    joined.server.close()
    assert joined.done.wait(PATIENCE)
    assert joined.failures == [None], "it had ended, and takes no more"
