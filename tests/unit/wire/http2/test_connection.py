"""The sending side: what is said, in place, inside every limit of the peer (RFC 9113 §3.4, §5, §6)."""

from __future__ import annotations

import pytest
from tests.support.http2 import (
    CONNECT_BLOCK,
    OK_BLOCK,
    SETTINGS_ACK,
    Frame,
    Wire,
    client,
    data,
    headers,
    parse,
    server,
    settings,
)

from hostmesh.wire.http2 import frames, limits
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.errors import ErrorCode, StreamLimit
from hostmesh.wire.http2.events import Reset
from hostmesh.wire.http2.frames import END_HEADERS, END_STREAM, PREFACE, frame
from hostmesh.wire.http2.headers import encode
from hostmesh.wire.http2.limits import Limits, Role

DATA, HEADERS = frames.DATA, frames.HEADERS


def wide(wire: Wire, *, frame_size: int = 1 << 20) -> Http2Connection:
    """The peer advertises as we do: 4 MiB streams, 16 MiB in all."""
    wire.feed(
        settings((0x4, 4 << 20), (0x5, frame_size)), frame(frames.WINDOW_UPDATE, 0, 0, (16 << 20).to_bytes(4, "big"))
    )
    wire.sent()
    return wire.connection


def test_a_clients_first_words() -> None:
    """Preface, SETTINGS by rising id, and the connection's window raised to 16 MiB (§3.4)."""
    said = Wire(Role.CLIENT, greet=False).raw()
    assert said.startswith(PREFACE)
    hello = parse(said[len(PREFACE) :])
    assert hello == [
        Frame(frames.SETTINGS, 0, 0, bytes.fromhex("000100000000 000200000000 000400400000 000500100000 000600004000")),
        Frame(frames.WINDOW_UPDATE, 0, 0, ((16 << 20) - 65535).to_bytes(4, "big")),
    ]


def test_a_servers_first_words() -> None:
    """SETTINGS by rising id: no header table, 200 streams, 4 MiB, 1 MiB frames, 64 KiB of headers."""
    said = Wire(Role.SERVER, greet=False).sent()
    payload = "000100000000 0003000000c8 000400400000 000500100000 000600010000"
    assert said[0] == Frame(frames.SETTINGS, 0, 0, bytes.fromhex(payload))
    assert said[1] == Frame(frames.WINDOW_UPDATE, 0, 0, ((16 << 20) - 65535).to_bytes(4, "big"))


def test_streams_are_numbered_by_two() -> None:
    """A client's streams are 1, 3, 5 ... (§5.1.1); the first block reduces the header table (§4.3.1)."""
    wire = client()
    assert [wire.connection.open_stream(CONNECT_BLOCK, end) for end in (False, True)] == [1, 3]
    assert wire.sent() == [
        Frame(HEADERS, END_HEADERS, 1, b"\x20" + CONNECT_BLOCK),
        Frame(HEADERS, END_HEADERS | END_STREAM, 3, CONNECT_BLOCK),
    ]


def test_stream_limits_of_either_end() -> None:
    """The smaller of the peer's MAX_CONCURRENT_STREAMS and ours counts; an ended stream makes room (§5.1.2)."""
    wire = client(Limits(max_concurrent_streams=2), streams=2)
    http2 = wire.connection
    assert not http2.can_open
    with pytest.raises(StreamLimit):
        http2.open_stream(CONNECT_BLOCK)
    wire.feed(frame(frames.RST_STREAM, 0, 1, b"\0\0\0\0"))
    assert http2.open_stream(CONNECT_BLOCK) == 5
    wire.feed(settings((0x3, 0)), frame(frames.RST_STREAM, 0, 3, b"\0\0\0\0"))
    assert not http2.can_open
    assert not http2.spent


def test_stream_ids_run_out() -> None:
    """After 2^31-1 the connection is spent (§5.1.1)."""
    wire = client()
    wire.connection._state.next_stream = frames.MAX_STREAM
    assert wire.connection.open_stream(CONNECT_BLOCK) == 2**31 - 1
    assert not wire.connection.can_open
    assert wire.connection.spent


def test_long_blocks_are_continued() -> None:
    """A block above the peer's frame size goes on in CONTINUATION; END_STREAM stays on HEADERS (§6.10)."""
    wire = server()
    wire.feed(headers(1))
    block = encode([(b":status", b"200"), (b"x", b"y" * 40000)])
    wire.connection.send_headers(1, block, end=True)
    said = wire.sent()
    assert [(one.kind, one.flags) for one in said] == [(HEADERS, END_STREAM), (9, 0), (9, END_HEADERS)]
    assert b"".join(one.payload for one in said) == b"\x20" + block


def test_reserve_and_commit() -> None:
    """The header is written in front of what was filled in; less than reserved is fine."""
    wire = client(streams=1)
    http2 = wire.connection
    place = http2.reserve(1, 100)
    assert len(place) == 100
    place[:5] = b"hello"
    http2.commit(1, 5)
    http2.reserve(1, 3)[:] = b"end"
    http2.commit(1, 3, end=True)
    assert wire.sent() == [Frame(DATA, 0, 1, b"hello"), Frame(DATA, END_STREAM, 1, b"end")]
    assert len(http2.reserve(1, 1)) == 0, "half-closed"


def test_an_unused_reservation_leaves_nothing() -> None:
    """Reserve without commit, then anything else."""
    wire = client(streams=1)
    http2 = wire.connection
    http2.reserve(1, 100)
    http2.ping(b"12345678")
    http2.reserve(1, 100)
    http2.commit(1, 0)
    http2.end_stream(1)
    assert [one.kind for one in wire.sent()] == [frames.PING, DATA]


def test_a_stale_reservation_is_a_bug() -> None:
    """Committing after another call would write over its frame."""
    http2 = client(streams=1).connection
    http2.reserve(1, 100)
    http2.ping(b"12345678")
    with pytest.raises(ValueError, match="without a reservation"):
        http2.commit(1, 5)
    http2.reserve(1, 4)
    with pytest.raises(ValueError, match="without a reservation"):
        http2.commit(1, 5)
    http2.reserve(1, 4)
    assert http2.reserve_slots(99, 1) == []
    with pytest.raises(ValueError, match="without a reservation"):
        http2.commit(1, 4)


def test_reserve_is_inside_every_limit() -> None:
    """Frame size, stream window, connection window and output buffer each bound a frame (§4.2, §5.2)."""
    wire = client(streams=4)
    http2 = wire.connection
    assert len(http2.reserve(1, 1 << 20)) == 16384, "the default frame size"
    wire.feed(settings((0x5, 1 << 20)))
    assert len(http2.reserve(1, 1 << 20)) == 65535, "the default window"
    wire.feed(settings((0x4, 30_000)))
    assert len(http2.reserve(1, 1 << 20)) == 30_000, "the stream's window"
    for stream in (1, 3):
        assert http2.send_data(stream, b"x" * 30_000) == 30_000
    assert len(http2.reserve(5, 1 << 20)) == 5535, "the connection's window"
    wire = client(Limits(output_buffer=20_000), streams=1)
    http2 = wide(wire)
    assert len(http2.reserve(1, 1 << 20)) == 20_000 - 9, "the output buffer"


def test_the_output_buffer_blocks_data_only() -> None:
    """A full tunnel still takes control frames and answers; DATA waits for sent()."""
    wire = server(Limits(output_buffer=20_000), streams=2)
    http2 = wide(wire)
    assert http2.send_data(1, b"x" * 50_000) == 20_000 - 9
    assert len(http2.reserve(3, 1)) == 0
    http2.reset_stream(1, ErrorCode.CANCEL)
    http2.ping(b"12345678")
    http2.end_stream(3)
    wire.feed(headers(5))
    http2.send_headers(5, OK_BLOCK)
    assert [one.kind for one in wire.sent()] == [DATA, frames.RST_STREAM, frames.PING, DATA, HEADERS]
    assert len(http2.reserve(5, 1)) == 1


def test_a_full_client_opens_no_streams() -> None:
    """can_open counts the output buffer in."""
    wire = client(Limits(output_buffer=1000), streams=1)
    assert wire.connection.send_data(1, b"x" * 2000) == 991
    assert not wire.connection.can_open
    wire.sent()
    assert wire.connection.can_open


def test_output_leaves_in_parts() -> None:
    """What was not sent stays, in order, and the room of what was sent is used again."""
    wire = client(Limits(output_buffer=10_000), streams=1)
    http2 = wide(wire)
    said = bytearray()
    given = bytearray()
    for step in range(400):
        chunk = bytes((step % 251,)) * 3000
        given += chunk[: http2.send_data(1, chunk)]
        part = bytes(http2.take()[:2000])
        said += part
        http2.sent(len(part))
    said += wire.raw()
    assert b"".join(one.payload for one in parse(bytes(said))) == bytes(given)
    assert len(given) > 500_000


def test_slots_are_several_frames() -> None:
    """For a peer with small frames one scattered read fills several; commit() cuts what came."""
    wire = client(streams=1)
    http2 = wide(wire, frame_size=16384)
    slots = http2.reserve_slots(1, 40_000)
    assert [len(slot) for slot in slots] == [16384, 16384, 40_000 - 32768]
    for number, slot in enumerate(slots):
        slot[:] = bytes((number,)) * len(slot)
    http2.commit(1, 20_000)
    assert wire.sent() == [Frame(DATA, 0, 1, b"\0" * 16384), Frame(DATA, 0, 1, b"\1" * (20_000 - 16384))]
    slots = http2.reserve_slots(1, 32768)
    http2.commit(1, 32768, end=True)
    assert [(len(one.payload), one.flags) for one in wire.sent()] == [(16384, 0), (16384, END_STREAM)]


def test_slots_are_inside_every_limit() -> None:
    """At most 64 frames; never more than windows and output buffer hold; none when blocked."""
    wire = client(Limits(output_buffer=50_000), streams=1)
    http2 = wide(wire, frame_size=16384)
    slots = http2.reserve_slots(1, 1 << 20)
    assert sum(map(len, slots)) + 9 * len(slots) == 50_000
    http2.commit(1, sum(map(len, slots)))
    assert http2.reserve_slots(1, 1) == []
    assert len(http2.take()) == 50_000
    wire = client(streams=1)
    http2 = wide(wire, frame_size=16384)
    assert len(http2.reserve_slots(1, 4 << 20)) <= 64
    assert [len(slot) for slot in http2.reserve_slots(1, 10)] == [10]
    assert http2.reserve_slots(99, 10) == []


def test_windows_are_charged_for_payload_only() -> None:
    """Frame headers do not count (§6.9.1)."""
    wire = client(streams=1)
    assert wire.connection.send_data(1, b"x" * 70_000, end=True) == 65535
    assert sum(len(one.payload) for one in wire.sent()) == 65535
    wire.feed(frame(frames.WINDOW_UPDATE, 0, 0, b"\0\1\0\0"), frame(frames.WINDOW_UPDATE, 0, 1, b"\0\1\0\0"))
    assert wire.connection.send_data(1, b"x" * 4465, end=True) == 4465
    assert wire.sent() == [Frame(DATA, END_STREAM, 1, b"x" * 4465)]


def test_half_close_both_ways() -> None:
    """END_STREAM ends one direction; the stream is over after both (§5.1)."""
    for wire in (client(streams=2), server(streams=2)):
        http2 = wire.connection
        http2.end_stream(1)
        http2.end_stream(1)
        assert wire.sent() == [Frame(DATA, END_STREAM, 1, b"")]
        assert wire.feed(data(1, b"still", 0))
        assert http2.streams_open == 2
        wire.feed(data(1, b"", END_STREAM))
        assert http2.streams_open == 1
        wire.feed(data(3, b"", END_STREAM))
        assert http2.send_data(3, b"still") == 5
        http2.send_data(3, b"", end=True)
        assert http2.streams_open == 0


def test_reset() -> None:
    """RST_STREAM is sent once, and the stream is gone."""
    wire = server(streams=1)
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    wire.connection.end_stream(1)
    wire.connection.send_headers(1, OK_BLOCK)
    wire.connection.commit(1, 5)
    assert wire.sent() == [Frame(frames.RST_STREAM, 0, 1, b"\0\0\0\x08")]


def test_what_we_reset_is_remembered_within_bounds() -> None:
    """The memory for late frames does not grow with the tunnel's age."""
    wire = server()
    for number in range(1, 4 * limits.MAX_REMEMBERED_RESETS, 2):
        wire.feed(headers(number))
        wire.connection.reset_stream(number, ErrorCode.CANCEL)
        wire.raw()
    assert len(wire.connection._state.remembered) == limits.MAX_REMEMBERED_RESETS
    assert wire.feed(data(number, b"late")) == []
    assert wire.sent() == []


def test_graceful_goaway() -> None:
    """First 2^31-1, so that streams under way still come; then the highest one seen (§6.8)."""
    wire = server(streams=1)
    http2 = wire.connection
    http2.goaway(last_stream=2**31 - 1)
    wire.feed(headers(3))
    assert http2.streams_open == 2
    http2.goaway()
    assert wire.feed(headers(5)) == []
    assert http2.spent
    assert [one.payload for one in wire.sent()] == [b"\x7f\xff\xff\xff" + b"\0" * 4, b"\0\0\0\3" + b"\0" * 4]
    for stream in (1, 3):
        assert not http2.closed
        http2.reset_stream(stream, ErrorCode.CANCEL)
    assert http2.closed


def test_an_announced_goaway_does_not_close() -> None:
    """Between announcement and the real one a stream may still come."""
    wire = server()
    wire.connection.goaway(last_stream=2**31 - 1)
    assert wire.connection.goaway_sent
    assert not wire.connection.closed
    wire.connection.goaway()
    assert wire.connection.closed


def test_goaway_after_an_error_is_silent() -> None:
    """The error has said it."""
    wire = server()
    wire.fails(headers(2))
    wire.connection.goaway()
    assert wire.sent() == []


def test_crediting_more_than_came_is_a_bug() -> None:
    """Else a window could be opened beyond memory."""
    wire = server(streams=1)
    wire.feed(data(1, b"12345"))
    with pytest.raises(ValueError, match="credited"):
        wire.connection.credit(1, 6)
    wire.feed(data(1, b"", END_STREAM))
    wire.connection.end_stream(1)
    with pytest.raises(ValueError, match="credited"):
        wire.connection.credit(1, 6)
    wire.connection.credit(1, 5)
    wire.connection.credit(99, 5)


def test_a_ping_is_eight_bytes() -> None:
    """§6.7."""
    with pytest.raises(ValueError, match="8 bytes"):
        client().connection.ping(b"short")


def test_events_of_gone_streams_do_not_stop_the_owner() -> None:
    """The owner may learn of a reset only after deciding to write: its calls do nothing."""
    wire = server(streams=1)
    assert wire.feed(data(1, b"x"), frame(frames.RST_STREAM, 0, 1, b"\0\0\0\0"))[-1] == Reset(1, ErrorCode.NO_ERROR)
    http2 = wire.connection
    http2.credit(1, 1)
    http2.send_headers(1, OK_BLOCK)
    http2.end_stream(1)
    http2.reset_stream(1, ErrorCode.CANCEL)
    assert len(http2.reserve(1, 10)) == 0
    assert wire.sent() == []


def test_early_requests() -> None:
    """A client may open streams before it has heard the server's SETTINGS (§3.4)."""
    early, late = Wire(Role.CLIENT, greet=False), Wire(Role.SERVER, greet=False)
    early.connection.open_stream(CONNECT_BLOCK)
    early.connection.send_data(1, b"early")
    assert len(late.feed(early.raw())) == 3
    late.connection.send_headers(1, OK_BLOCK)
    assert len(early.feed(late.raw())) == 2
    assert early.sent() == parse(SETTINGS_ACK)
