"""The end of a tunnel takes nothing from a peer or an application that reads slowly."""

from __future__ import annotations

import socket
import threading

import h2.events
import pytest
from tests.support.hbone_peer import Peer, PeerServer, dial
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import Mesh, fresh_ip, receive_all, workload

from hostmesh.model.address import SocketAddress

WINDOW = 4 << 20
FITS = 256 << 10
"""What the tunnel's and the kernel's smallest buffers hold while the peer reads nothing."""


def test_a_server_that_drains_lets_its_client_read_and_close() -> None:
    """After the last stream it says GOAWAY, but the connection ends when the client ends it."""
    drained = threading.Event()

    def serve(sock: socket.socket) -> None:
        assert sock.recv(1) == b""
        sock.sendall(bytes(FITS))

    with Mesh() as mesh, mesh.app(serve) as app:
        with dial((mesh.ip, 15008), mesh.authority.issue(ALICE), mesh.authority.pem) as peer:
            peer.h2.increment_flow_control_window(8 << 20)
            stream = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", f"{mesh.ip}:{app.port}")], True)
            peer.h2.increment_flow_control_window(8 << 20, stream)
            peer.flush()
            mesh.server.main.wait_logs(1)  # all of it has been taken from the application
            mesh.server.call(lambda: mesh.server.server.drain(PATIENCE, drained.set))
            heard = bytearray()
            while b"\x00\x00\x08\x07" not in heard[-17:] or len(heard) < FITS:
                heard += peer.sock.recv(1 << 16)
            peer.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                heard += peer.sock.recv(1) or b"the end"
            assert len(heard) > FITS
            assert heard[-17:].startswith(b"\x00\x00\x08\x07"), "GOAWAY is its last word"
            assert not drained.is_set()
        assert drained.wait(PATIENCE)


def test_an_application_gets_what_came_before_the_tunnel_ended() -> None:
    """The server said END_STREAM and closed: its bytes are all here, however slowly the application takes them."""
    gone = threading.Event()

    def serve(peer: Peer, number: int) -> None:
        del number
        stream = 1
        peer.wait(h2.events.RequestReceived)
        peer.h2.send_headers(stream, [(":status", "200")])
        peer.flush()
        peer.wait(h2.events.StreamEnded)
        left = WINDOW
        while left:
            room = min(left, peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size)
            left -= room
            peer.send(stream, bytes(room), end=not left)
        peer.sock.shutdown(socket.SHUT_WR)
        gone.set()
        while peer.sock.recv(1 << 16):
            continue

    ip = fresh_ip()
    with Mesh() as mesh, PeerServer(ip, mesh.authority.issue(BOB), serve):
        mesh.client.put(workload("far", BOB, ip))
        mesh.client.destination = SocketAddress.of(ip, 8080)
        with mesh.dial() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            sock.shutdown(socket.SHUT_WR)
            assert gone.wait(PATIENCE)
            mesh.thread.settle()
            assert len(receive_all(sock)) == WINDOW
        assert mesh.client.main.wait_logs(1)[0].level == "info"
