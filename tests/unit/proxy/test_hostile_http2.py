"""Peers that have a certificate of the mesh and break HTTP/2, by accident or on purpose: one row each."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import tracemalloc
from dataclasses import dataclass

import h2.events
import pytest
from tests.support.foreign import Foreign
from tests.support.hbone_peer import Peer, dial
from tests.support.http2 import data, headers, parse, ping, settings
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE
from tests.support.proxy import Mesh, echo, receive_all

from hostmesh.proxy.splice import Splice
from hostmesh.telemetry.metrics import OPENED
from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.frames import END_HEADERS, END_STREAM, frame, rst_stream
from hostmesh.wire.http2.headers import encode
from hostmesh.wire.http2.limits import (
    CONTROL_ROOM,
    MAX_CONTINUATIONS,
    MAX_IDLE_FRAMES,
    MAX_PINGS,
    MAX_RAPID_RESETS,
    MAX_SETTINGS,
    SERVER_LIMITS,
)
from hostmesh.wire.http2.settings import INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE

GOAWAY, RST_STREAM, HEADERS = frames.GOAWAY, frames.RST_STREAM, frames.HEADERS
ODD = range(3, 2**31, 2)


def window_update(stream: int, increment: int) -> bytes:
    return frame(frames.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def request(stream: int, flags: int = END_HEADERS) -> bytes:
    """A CONNECT to the application of the row."""
    return headers(stream, encode([(b":method", b"CONNECT"), (b":authority", b"@")]), flags)


SOON_SAID = 4096
"""Bytes that arrive at once: whoever says no more than that reads the answer to it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a peer says on a tunnel with stream 1 open, and how that ends; `@` is the application's authority."""

    name: str
    said: bytes
    code: ErrorCode
    error: str


FATAL = [
    Row(
        "a frame above the advertised size",
        b"\x10\x00\x01\x00\x00\x00\x00\x00\x01",
        ErrorCode.FRAME_SIZE_ERROR,
        "a frame of 1048577 bytes, 1048576 advertised",
    ),
    Row("a PING of nine bytes", frame(frames.PING, 0, 0, bytes(9)), ErrorCode.FRAME_SIZE_ERROR, "with 9 bytes"),
    Row(
        "SETTINGS that are cut", frame(frames.SETTINGS, 0, 0, b"\0\4\0"), ErrorCode.FRAME_SIZE_ERROR, "no multiple of 6"
    ),
    Row("a window of 2^31", settings((INITIAL_WINDOW_SIZE, 2**31)), ErrorCode.FLOW_CONTROL_ERROR, "above 2^31-1"),
    Row("frames of one byte", settings((MAX_FRAME_SIZE, 1)), ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE 1"),
    Row("SETTINGS flood", settings() * MAX_SETTINGS, ErrorCode.ENHANCE_YOUR_CALM, "too many SETTINGS"),
    Row("PING flood", ping() * (MAX_PINGS + 1), ErrorCode.ENHANCE_YOUR_CALM, "too many PINGs"),
    Row("flood of empty DATA", data(1, b"") * (MAX_IDLE_FRAMES + 1), ErrorCode.ENHANCE_YOUR_CALM, "carry nothing"),
    Row(
        "flood of PRIORITY",
        frame(frames.PRIORITY, 0, 1, bytes(5)) * (MAX_IDLE_FRAMES + 1),
        ErrorCode.ENHANCE_YOUR_CALM,
        "carry nothing",
    ),
    Row(
        "flood of malformed HEADERS",
        b"".join(headers(n, encode([(b":method", b"CONNECT")])) for n in ODD[: MAX_RAPID_RESETS + 1]),
        ErrorCode.ENHANCE_YOUR_CALM,
        "opened and reset",
    ),
    Row(
        "flood of HEADERS above the advertised streams",
        b"".join(request(n) for n in ODD[: MAX_RAPID_RESETS + 1000]),
        ErrorCode.ENHANCE_YOUR_CALM,
        "opened and reset",
    ),
    Row(
        "rapid reset",
        b"".join(request(n) + rst_stream(n, ErrorCode.CANCEL) for n in ODD[: MAX_RAPID_RESETS + 1000]),
        ErrorCode.ENHANCE_YOUR_CALM,
        "opened and reset",
    ),
    Row(
        "CONTINUATION flood",
        headers(3, b"", 0) + frame(frames.CONTINUATION, 0, 3, b"") * (MAX_CONTINUATIONS + 1),
        ErrorCode.ENHANCE_YOUR_CALM,
        "too many CONTINUATION frames",
    ),
    Row(
        "a header block without end",
        headers(3, b"", 0) + frame(frames.CONTINUATION, 0, 3, bytes(60_000)) * 2,
        ErrorCode.ENHANCE_YOUR_CALM,
        "above the advertised list size",
    ),
    Row(
        "a header bomb",
        headers(3, b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 30_000),
        ErrorCode.COMPRESSION_ERROR,
        "no header table entry",
    ),
    Row(
        "frames inside a header block", headers(3, b"", 0) + ping(), ErrorCode.PROTOCOL_ERROR, "inside the header block"
    ),
    Row(
        "a broken header block", headers(3, b"\xff\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR, "five bytes"
    ),
    Row("a stream of the server's numbers", request(2), ErrorCode.PROTOCOL_ERROR, "not the peer's to open"),
    Row("DATA on a stream that nobody opened", data(5, b"x"), ErrorCode.PROTOCOL_ERROR, "DATA on idle stream 5"),
    Row("PUSH_PROMISE", frame(frames.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE"),
    Row("GOAWAY that is cut", frame(GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR, "with 7 bytes"),
    Row(
        "overflow of the connection's window",
        window_update(0, 2**31 - 1),
        ErrorCode.FLOW_CONTROL_ERROR,
        "the connection's window above 2^31-1",
    ),
    Row("WINDOW_UPDATE of nothing", window_update(0, 0), ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0"),
]

STREAM_ONLY = [
    Row(
        "overflow of a stream's window", window_update(1, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR, "FLOW_CONTROL_ERROR"
    ),
    Row("WINDOW_UPDATE of nothing on a stream", window_update(1, 0), ErrorCode.PROTOCOL_ERROR, "PROTOCOL_ERROR"),
    Row("a second request on a stream", request(1), ErrorCode.PROTOCOL_ERROR, "PROTOCOL_ERROR"),
    Row("DATA after the end", data(1, b"", END_STREAM) + data(1, b"x"), ErrorCode.STREAM_CLOSED, ""),
]


def assert_serves(mesh: Mesh) -> None:
    """A well-behaved neighbour notices nothing."""
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"fine")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"fine"


def resized(said: bytes, authority: str) -> bytes:
    """The authority in place of its sign, in every frame: a literal whose length is in front of it."""
    short, long = encode([(b":authority", b"@")]), encode([(b":authority", authority.encode())])
    if short not in said:
        return said
    out, grown = bytearray(), len(long) - len(short)
    for one in parse(said):
        payload = one.payload.replace(short, long)
        assert len(payload) - len(one.payload) in (0, grown)
        out += frame(one.kind, one.flags, one.stream, payload)
    return bytes(out)


def talk(peer: Peer, said: bytes) -> bytes:
    """Say it, then listen until the other side has closed or answered a PING that follows.

    What it answers meanwhile fits in its buffers.
    """
    heard = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        peer.sock.sendall(said + ping(b"question"))
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while b"question" not in heard and (piece := peer.sock.recv(1 << 16)):
            heard += piece
    return heard


@pytest.mark.parametrize("row", FATAL, ids=lambda row: row.name)
def test_it_ends_the_tunnel_with_a_reason(mesh: Mesh, peer: Peer, row: Row) -> None:
    """GOAWAY with a code, the application of its open stream cut, a reason in the log; neighbours notice nothing."""
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(stream)[":status"] == "200"
        heard = talk(peer, resized(row.said, f"{mesh.ip}:{app.port}"))
        assert b"question" not in heard
        last = heard[heard.rindex(b"\x07\x00\x00\x00\x00\x00") :] if b"\x07\x00\x00\x00\x00\x00" in heard else b""
        if last or len(row.said) < SOON_SAID:  # a peer that floods may be cut off before it reads why
            assert last[10:14] == int(row.code).to_bytes(4, "big")
        mesh.thread.settle()
        records = mesh.server.main.wait_logs(1)
        assert any(row.error in str(dict(record.fields).get("error")) for record in records)
        assert mesh.server.call(lambda: len(mesh.server.server._host.inbound)) == 0
    assert_serves(mesh)


@pytest.mark.parametrize("row", STREAM_ONLY, ids=lambda row: row.name)
def test_it_ends_its_stream_only(mesh: Mesh, peer: Peer, row: Row) -> None:
    """RST_STREAM with a code; the tunnel goes on, and so do its other streams."""
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        other = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(other)
        heard = talk(peer, row.said)
        assert rst_stream(stream, row.code) in heard
        peer.sock.sendall(data(other, b"goes on"))
        heard = b""
        while b"goes on" not in heard:
            heard += peer.sock.recv(4096)


def test_a_truncated_frame_is_a_lost_tunnel(mesh: Mesh, peer: Peer) -> None:
    """A peer that ends inside a frame has not said all it wanted: the application is reset, not ended."""
    ended = []
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
        peer.sock.sendall(data(stream, bytes(1000))[:500])
        assert heard.wait(PATIENCE)
        peer.close()
        error = str(dict(mesh.server.main.wait_logs(1)[0].fields)["error"])
        assert error == "h2 failed: connection closed by peer"
        mesh.thread.settle()
    assert ended == ["reset"]


SERVERS = [
    row
    for row in FATAL
    if row.name
    in {
        "a frame above the advertised size",
        "SETTINGS flood",
        "PING flood",
        "flood of empty DATA",
        "frames of one byte",
        "DATA on a stream that nobody opened",
        "PUSH_PROMISE",
        "overflow of the connection's window",
        "WINDOW_UPDATE of nothing",
    }
]


@pytest.mark.parametrize("row", SERVERS, ids=lambda row: row.name)
def test_a_server_that_breaks_http2_loses_its_tunnel_and_nothing_else(row: Row) -> None:
    """Its applications' connections are reset, the log says why, and the next one has another tunnel."""
    greeted, done = threading.Event(), threading.Event()

    def serve(peer: Peer, number: int) -> None:
        request: int = peer.wait(h2.events.RequestReceived).stream_id  # type: ignore[attr-defined]
        peer.h2.send_headers(request, [(":status", "200")])
        peer.send(request, b"hello")
        assert greeted.wait(PATIENCE)
        if not number:
            assert b"question" not in talk(peer, row.said)
        else:
            assert done.wait(PATIENCE)

    with Foreign(serve) as far:
        with far.mesh.dial() as sock:
            assert sock.recv(5) == b"hello"
            greeted.set()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            assert row.error in str(dict(far.mesh.client.main.wait_logs(1)[0].fields)["error"])
        with far.mesh.dial() as again:
            assert again.recv(5) == b"hello"
        done.set()


def splices(mesh: Mesh) -> list[Splice]:
    """All that the server's proxy carries now."""
    tunnels = mesh.server.server._host.inbound.tunnels()
    return [one for tunnel in tunnels for one in tunnel._streams.handlers.values() if isinstance(one, Splice)]


def test_more_data_than_the_window_resets_the_stream(mesh: Mesh, peer: Peer) -> None:
    """An application that never reads, and a peer that sends without credit: what is kept stays within one window."""
    release = threading.Event()
    with mesh.app(lambda _: (release.wait(PATIENCE), None)[1]) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        heard = talk(peer, data(stream, bytes(1 << 20)) * 15)
        assert rst_stream(stream, ErrorCode.FLOW_CONTROL_ERROR) in heard
        assert mesh.server.call(lambda: splices(mesh)) == []
        release.set()
    assert_serves(mesh)


def test_what_unread_streams_hold_is_bounded_by_the_windows(mesh: Mesh, peer: Peer) -> None:
    """Eight applications that never read, a peer that uses all its credit: a window each, the connection's in all."""
    release = threading.Event()
    with mesh.app(lambda _: (release.wait(PATIENCE), None)[1]) as app:
        streams = [peer.connect(f"{mesh.ip}:{app.port}") for _ in range(8)]
        for stream in streams:
            peer.answer(stream)
        fill(peer, streams)
        held = mesh.server.call(lambda: [sum(map(len, one._pending)) for one in splices(mesh)])
        assert len(held) == 8
        assert sum(held) > SERVER_LIMITS.stream_window, "the applications took everything, so nothing was tried"
        assert max(held) <= SERVER_LIMITS.stream_window
        assert sum(held) <= SERVER_LIMITS.connection_window
        assert_serves(mesh)
        release.set()


def fill(peer: Peer, streams: list[int]) -> None:
    """Use up all credit that there is."""
    blocked = False
    while not blocked:
        blocked = True
        for stream in streams:
            while room := min(peer.h2.local_flow_control_window(stream), 1 << 20):
                blocked = False
                peer.send(stream, bytes(room))
        round_trip(peer)


def test_memory_for_connections_that_nobody_reads_is_bounded(mesh: Mesh, peer: Peer) -> None:
    """Measured: 40 unread streams cost the window of their tunnel, 40 whose peer takes nothing 64 KiB each at most."""
    release = threading.Event()
    with (
        mesh.app(lambda _: (release.wait(PATIENCE), None)[1]) as unread,
        mesh.app(pour) as pouring,
        dial((mesh.ip, 15008), mesh.authority.issue(ALICE), mesh.authority.pem) as stalled,
    ):
        streams = [peer.connect(f"{mesh.ip}:{unread.port}") for _ in range(40)]
        for stream in streams:
            peer.answer(stream)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            fill(peer, streams)
            unread_holds = tracemalloc.get_traced_memory()[0] - before
            stalled.sock.sendall(settings((INITIAL_WINDOW_SIZE, 0)))
            before, _ = tracemalloc.get_traced_memory()
            for number in range(40):
                authority = f"{mesh.ip}:{pouring.port}".encode()
                stalled.sock.sendall(
                    headers(2 * number + 1, encode([(b":method", b"CONNECT"), (b":authority", authority)]))
                )
            while len(mesh.server.call(lambda: splices(mesh))) < 80:
                assert_serves(mesh)
            stalled_holds = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert unread_holds <= SERVER_LIMITS.connection_window + (2 << 20)
        assert stalled_holds <= 40 * (64 << 10)
        release.set()


def round_trip(peer: Peer) -> None:
    """A round trip, so that all credit that there is has arrived."""
    peer.h2.ping(b"anything")
    peer.flush()
    peer.wait(h2.events.PingAckReceived)


_WORDS = bytes(1 << 20)


def pour(sock: socket.socket) -> None:
    """An application that talks until nobody listens."""
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(_WORDS)


def test_a_window_of_zero_stops_the_application_and_nobody_else(mesh: Mesh, peer: Peer) -> None:
    """A stall holds not a byte of the application's: it waits in the application's own socket."""
    with mesh.app(pour) as app:
        talk(peer, settings((INITIAL_WINDOW_SIZE, 0)))
        peer.sock.sendall(
            headers(1, encode([(b":method", b"CONNECT"), (b":authority", f"{mesh.ip}:{app.port}".encode())]))
        )
        heard = b""
        while b"\x88" not in heard:
            heard += peer.sock.recv(4096)
        assert_serves(mesh)
        assert mesh.server.call(lambda: [one.bytes_from_app for one in splices(mesh)]) == [0]


def held(mesh: Mesh) -> list[int]:
    """Bytes that wait in tunnels whose socket takes no more."""
    blocked = (one for one in mesh.server.server._host.inbound.tunnels() if one._tls.blocked)
    return [one.http2.pending_output + len(one._tls.engine.pending_out()) for one in blocked]


def test_a_peer_that_never_reads_holds_a_buffer_and_no_more(mesh: Mesh, peer: Peer) -> None:
    """All windows open, the socket full: one output buffer and what TLS has made of it, whatever is sent."""
    peer.h2.increment_flow_control_window(2**31 - 1 - 65535)
    peer.flush()
    round_trip(peer)
    peer.sock.sendall(settings((INITIAL_WINDOW_SIZE, 2**31 - 1)))
    with mesh.app(pour) as app:
        peer.connect(f"{mesh.ip}:{app.port}")
        before, now = (-1, []), (0, [])
        while now != before or not now[1]:  # the application may be slow to begin, and stands still between two looks
            before = now
            assert_serves(mesh)
            now = mesh.server.call(lambda: (sum(one.bytes_from_app for one in splices(mesh)), held(mesh)))
        assert 0 < sum(now[1]) <= 2 * (SERVER_LIMITS.output_buffer + CONTROL_ROOM)


NONSENSE = "é\t;;=,=;,,\"'%00%ff" * 20


@pytest.mark.parametrize(
    "extra",
    [
        ("baggage", "k8s.namespace.name"),
        ("baggage", "=,=,=a=b=c,,"),
        ("baggage", NONSENSE),
        ("baggage", "k8s.deployment.name=mallory," + NONSENSE),
        ("forwarded", "for"),
        ("forwarded", 'for="[::1;host="'),
        ("forwarded", NONSENSE),
        ("traceparent", "00-" + "0" * 52),
        ("traceparent", "00-zz"),
        ("traceparent", NONSENSE),
        ("x-forwarded-network", NONSENSE),
    ],
    ids=lambda extra: f"{extra[0]}: {extra[1][:12]}",
)
def test_malformed_telemetry_costs_no_connection(mesh: Mesh, peer: Peer, extra: tuple[str, str]) -> None:
    """What peers say about themselves is for labels and logs only: what cannot be read is as if it were not there."""
    mesh.server.call(lambda: mesh.server.state.remove_address("lab//alice"))  # else nobody listens to what it says
    told = []
    with mesh.app(echo) as app:
        for said in ((), (extra,)):
            stream = peer.connect(f"{mesh.ip}:{app.port}", *said)
            assert peer.answer(stream)[":status"] == "200"
            peer.send(stream, b"x", end=True)
            peer.wait(h2.events.StreamEnded, stream)
            record = mesh.server.main.wait_logs(len(told) + 1)[-1]
            told.append((record.level, {name: value for name, value in record.fields if name != "duration"}))
    assert told[0] == told[1]
    assert (told[1][0], told[1][1]["src.identity"]) == ("info", str(ALICE))
    (once,) = mesh.server.samples(OPENED)  # both under the same labels
    assert once[1] == 2
