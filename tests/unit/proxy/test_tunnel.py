"""Tunnels against peers that misbehave: each pays alone."""

from __future__ import annotations

import socket
import ssl
import threading

import h2.events
from tests.support.hbone_peer import Peer
from tests.support.patience import PATIENCE
from tests.support.proxy import Mesh, echo, receive_all

from hostmesh.telemetry.metrics import OPENED

DATA, PING_FRAME, GOAWAY = 0, 6, 7
PING_ACK = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + bytes(8)
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)


def assert_serves(mesh: Mesh) -> None:
    """A well-behaved neighbour notices nothing."""
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"fine")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"fine"


def read_to_the_end(peer: Peer) -> bytes:
    data = b""
    try:
        while piece := peer.sock.recv(65536):
            data += piece
    except (ConnectionError, ssl.SSLError):
        pass  # closed the hard way
    return data


def test_a_broken_frame_ends_the_tunnel_with_a_reason(mesh: Mesh, peer: Peer) -> None:
    """GOAWAY, its streams reset at the application's side, an error in the log."""
    cut = threading.Event()

    def serve(sock: socket.socket) -> None:
        try:
            while sock.recv(4096):
                pass
        except ConnectionResetError:
            cut.set()

    with mesh.app(serve) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        peer.sock.sendall(b"\x00\x00\x01\x06\x00\x00\x00\x00\x00x")
        assert b"\x07" in read_to_the_end(peer)
        assert cut.wait(PATIENCE)
    record = mesh.server.main.wait_logs(1)[0]
    assert record.level == "error"
    assert "FRAME_SIZE_ERROR" in str(dict(record.fields)["error"])
    assert_serves(mesh)


def test_a_ping_on_a_quiet_tunnel_is_answered_at_once(peer: Peer) -> None:
    """Nothing else happens on it that would carry the answer along."""
    peer.sock.settimeout(8)  # our own keepalive comes after ten seconds
    for _ in range(2):
        peer.sock.sendall(PING)
        answer = b""
        while PING_ACK not in answer:
            answer += peer.sock.recv(4096)


def test_a_flood_of_pings_ends_the_tunnel(mesh: Mesh, peer: Peer) -> None:
    """Each costs an answer."""
    sender = threading.Thread(target=_flood, args=(peer,))
    sender.start()
    read_to_the_end(peer)
    sender.join(PATIENCE)
    assert not sender.is_alive()
    assert_serves(mesh)


def test_a_peer_that_never_reads_holds_up_nobody(mesh: Mesh, peer: Peer) -> None:
    """What the application sends waits in its own socket; other tunnels go on."""
    blocked = threading.Event()

    def pour(sock: socket.socket) -> None:
        sock.settimeout(0.3)
        try:
            while True:
                sock.sendall(bytes(1 << 20))
        except TimeoutError:
            blocked.set()

    with mesh.app(pour) as app:
        peer.connect(f"{mesh.ip}:{app.port}")
        assert blocked.wait(PATIENCE)
        assert_serves(mesh)


def test_a_peer_that_vanishes_resets_its_applications(mesh: Mesh, peer: Peer) -> None:
    """No close_notify, no GOAWAY: half a request must not look whole."""
    ended: list[str] = []
    heard = threading.Event()

    def serve(sock: socket.socket) -> None:
        try:
            while sock.recv(4096):
                heard.set()
            ended.append("end")
        except ConnectionResetError:
            ended.append("reset")

    with mesh.app(serve) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        peer.send(stream, b"half")
        assert heard.wait(PATIENCE)
        raw = socket.socket(fileno=peer.sock.detach())
        raw.close()
        mesh.server.main.wait_logs(1)
        mesh.thread.settle()
    assert ended == ["reset"]


def test_a_tunnel_without_streams_may_be_cut_without_noise(mesh: Mesh, peer: Peer) -> None:
    """Truncation is an end when nothing was open."""
    peer.connect("10.1.1.1:1")
    peer.answer(1)
    before = len(mesh.server.main.wait_logs(1))
    peer.close()
    mesh.thread.settle()
    while mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"]):
        mesh.thread.settle()
    assert len(mesh.server.main.records) == before
    assert mesh.server.samples(OPENED) == []


def test_trailers_end_a_stream(mesh: Mesh, peer: Peer) -> None:
    """Their content means nothing."""
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        peer.send(stream, b"x")
        assert peer.wait(h2.events.DataReceived, stream).data == b"x"  # type: ignore[attr-defined]
        peer.h2.send_headers(stream, [("checksum", "1")], end_stream=True)
        peer.flush()
        peer.wait(h2.events.StreamEnded, stream)


def test_a_draining_server_says_when_it_stops_listening(mesh: Mesh, peer: Peer) -> None:
    """First an announcement, after a round trip the last stream; running streams finish."""
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        mesh.server.call(lambda: mesh.server.server.drain(PATIENCE))
        assert next_frame(peer) == (GOAWAY, 0, (2**31 - 1).to_bytes(4, "big") + bytes(4))
        kind, _, payload = next_frame(peer)
        assert kind == PING_FRAME
        peer.sock.sendall(b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + payload)
        assert next_frame(peer) == (GOAWAY, 0, stream.to_bytes(4, "big") + bytes(4))
        peer.sock.sendall(data_frame(stream, b"goes on"))
        kind, _, payload = next_frame(peer)
        assert (kind, payload) == (DATA, b"goes on")


def next_frame(peer: Peer) -> tuple[int, int, bytes]:
    """Kind, flags and payload, past the `h2` library, which knows no life after GOAWAY."""
    head = read_exactly(peer, 9)
    return head[3], head[4], read_exactly(peer, int.from_bytes(head[:3], "big"))


def read_exactly(peer: Peer, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.sock.recv(size - len(data))
        assert piece
        data += piece
    return data


def data_frame(stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + b"\x00\x00" + stream.to_bytes(4, "big") + payload


def _flood(peer: Peer) -> None:
    try:
        while True:
            peer.sock.sendall(PING * 500)
    except (ConnectionError, ssl.SSLError, TimeoutError):
        return
