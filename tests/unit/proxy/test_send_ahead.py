"""What an application has said before its tunnel is there leaves with the CONNECT, and is lost in no way it may go."""

from __future__ import annotations

import socket
import threading
from typing import cast

import h2.errors
import h2.events
import pytest
from tests.support.foreign import Foreign
from tests.support.hbone_peer import Peer
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE
from tests.support.proxy import App, Mesh, echo, fresh_ip, receive_all

from hostmesh.proxy.ahead import MAX_AHEAD
from hostmesh.wire.hbone import encode_hosts_port
from hostmesh.wire.http2.headers import TABLE_SIZE_ZERO

WORDS = b"first words"


def speak(mesh: Mesh, words: bytes) -> socket.socket:
    """An application that has sent its words before its proxy can open a tunnel."""
    mesh.client.main.issue = False
    sock = mesh.dial()
    sock.sendall(words)
    mesh.client.main.issue = True
    mesh.client.call(lambda: mesh.client.server.put_credentials(mesh.authority.issue(ALICE)))
    return sock


def heard(peer: Peer, size: int) -> tuple[int, bytes]:
    """A request and what comes with it before any answer."""
    stream: int = cast("h2.events.RequestReceived", peer.wait(h2.events.RequestReceived)).stream_id
    data = b""
    while len(data) < size:
        event = cast("h2.events.DataReceived", peer.wait(h2.events.DataReceived, stream))
        data += event.data or b""
    return stream, data


def accept(peer: Peer, stream: int) -> None:
    peer.h2.send_headers(stream, [(":status", "200")])
    peer.flush()


def test_words_come_before_the_answer() -> None:
    """The peer has them when it has answered nothing; the log counts them once."""

    def serve(peer: Peer, number: int) -> None:
        del number
        stream, data = heard(peer, len(WORDS))
        assert data == WORDS
        accept(peer, stream)
        peer.send(stream, b"answer", end=True)
        peer.wait(h2.events.StreamEnded, stream)

    with Foreign(serve) as world:
        with speak(world.mesh, WORDS) as sock:
            assert sock.recv(64) == b"answer"
        (record,) = world.mesh.client.main.wait_logs(1)
        assert dict(record.fields)["bytes_sent"] == len(WORDS)
        assert "error" not in dict(record.fields)


def test_more_than_leaves_ahead_follows_in_order() -> None:
    """100 KB said before the answer arrive unchanged, and what is said after it behind them."""
    words = bytes(range(256)) * 400
    more = b"more"

    def serve(peer: Peer, number: int) -> None:
        del number
        stream, ahead = heard(peer, MAX_AHEAD)
        assert ahead == words[:MAX_AHEAD]
        accept(peer, stream)
        peer.h2.increment_flow_control_window(1 << 20)
        peer.h2.increment_flow_control_window(1 << 20, stream)
        peer.flush()
        data = ahead
        while len(data) < len(words) + len(more):
            data += cast("h2.events.DataReceived", peer.wait(h2.events.DataReceived, stream)).data or b""
        assert data == words + more
        peer.send(stream, b"all", end=True)
        peer.wait(h2.events.StreamEnded, stream)

    with Foreign(serve) as world, speak(world.mesh, words) as sock:
        sock.sendall(more)
        assert sock.recv(64) == b"all"


def test_a_refused_stream_is_tried_again_with_its_words() -> None:
    """The peer leaves without having looked at the stream: the next tunnel carries the words once more."""

    def serve(peer: Peer, number: int) -> None:
        stream, data = heard(peer, len(WORDS))
        assert data == WORDS
        if number == 0:
            peer.h2.close_connection(last_stream_id=0)
            peer.flush()
            while peer.sock.recv(4096):
                pass
            return
        accept(peer, stream)
        peer.send(stream, data, end=True)
        peer.wait(h2.events.StreamEnded, stream)

    with Foreign(serve) as world, speak(world.mesh, WORDS) as sock:
        assert receive_all(sock) == WORDS


def test_the_hosts_own_service_gets_them_too() -> None:
    """The peer's proxy says that the port is no workload's: in plaintext the service hears the words from the start."""

    def serve(peer: Peer, number: int) -> None:
        del number
        stream, _ = heard(peer, len(WORDS))
        peer.sock.sendall(_response(stream, TABLE_SIZE_ZERO + encode_hosts_port()))
        peer.wait(h2.events.ConnectionTerminated)

    ip = fresh_ip()
    with App(ip, echo) as app, Foreign(serve, port=app.port, ip=ip) as world:
        with speak(world.mesh, WORDS) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == WORDS
        (record,) = world.mesh.client.main.wait_logs(1)
        assert dict(record.fields)["bytes_sent"] == len(WORDS)


def _response(stream: int, block: bytes) -> bytes:
    """A HEADERS frame with END_STREAM and END_HEADERS around an encoded block."""
    return len(block).to_bytes(3, "big") + b"\x01\x05" + stream.to_bytes(4, "big") + block


@pytest.mark.parametrize("status", ["401", "503"])
def test_a_peer_that_refuses_has_them_for_nothing(status: str) -> None:
    """The connection is reset, and nothing counts as sent."""

    def serve(peer: Peer, number: int) -> None:
        del number
        stream, _ = heard(peer, len(WORDS))
        peer.h2.send_headers(stream, [(":status", status)], end_stream=True)
        peer.h2.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)
        peer.flush()
        peer.wait(h2.events.ConnectionTerminated)

    with Foreign(serve) as world:
        with speak(world.mesh, WORDS) as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        (record,) = world.mesh.client.main.wait_logs(1)
        assert (dict(record.fields)["bytes_sent"], status in str(dict(record.fields)["error"])) == (0, True)


def test_an_application_that_is_gone_before_the_answer_is_noticed() -> None:
    """It reset its connection behind its words: the peer is told so as soon as it has answered."""
    told = threading.Event()
    codes: list[int] = []

    def serve(peer: Peer, number: int) -> None:
        del number
        stream, _ = heard(peer, len(WORDS))
        gone.wait(PATIENCE)
        accept(peer, stream)
        codes.append(peer.wait(h2.events.StreamReset, stream).error_code)  # type: ignore[attr-defined]
        told.set()

    gone = threading.Event()
    with Foreign(serve) as world:
        sock = speak(world.mesh, WORDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        gone.set()
        assert told.wait(PATIENCE)
        assert codes == [h2.errors.ErrorCodes.CONNECT_ERROR]
