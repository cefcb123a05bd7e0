"""DATA and the cutting of the input: RFC 9113 §4, §5.2, §6.1."""

from __future__ import annotations

import pytest
from tests.support.http2 import (
    CONNECT_BLOCK,
    Frame,
    Wire,
    client,
    data,
    headers,
    ping,
    server,
    settings,
)

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.events import Data, Reset
from hostmesh.wire.http2.frames import END_STREAM, PADDED, PREFACE, frame
from hostmesh.wire.http2.limits import Limits, Role

SMALL = Limits(stream_window=100_000, connection_window=200_000, max_frame_size=65536)


def window_updates(sent: list[Frame]) -> list[tuple[int, int]]:
    assert all(one.kind == frames.WINDOW_UPDATE for one in sent)
    return [(one.stream, int.from_bytes(one.payload, "big")) for one in sent]


def padded(stream: int, payload: bytes, padding: int, flags: int = 0) -> bytes:
    return data(stream, bytes((padding,)) + payload + b"\0" * padding, flags | PADDED)


def test_a_whole_frame_is_one_event() -> None:
    """DATA is delivered as it came, END_STREAM with it."""
    wire = server(streams=2)
    assert wire.feed(data(1, b"one"), data(3, b"two", END_STREAM)) == [
        Data(1, memoryview(b"one"), False),
        Data(3, memoryview(b"two"), True),
    ]


def test_payload_is_not_copied() -> None:
    """Data.view is a slice of what was received."""
    wire = server(streams=1)
    received = bytearray(data(1, b"abc"))
    (event,) = wire.connection.receive(memoryview(received))
    received[-1:] = b"X"
    assert isinstance(event, Data)
    assert bytes(event.view) == b"abX"


def test_a_large_frame_comes_in_pieces() -> None:
    """Nothing of a DATA frame waits for the rest; END_STREAM is on the last piece only."""
    wire = server(streams=1)
    whole = data(1, b"x" * 500_000, END_STREAM)
    seen = []
    for start in range(0, len(whole), 70_001):
        seen += wire.feed(whole[start : start + 70_001])
    assert [event.end for event in seen if isinstance(event, Data)] == [False] * 7 + [True]
    assert sum(len(event.view) for event in seen if isinstance(event, Data)) == 500_000


def test_padding_is_dropped_and_credited() -> None:
    """Padding counts for flow control (§6.1), and nobody else can give it back."""
    wire = server(SMALL, streams=1)
    for _ in range(99):
        assert wire.feed(padded(1, b"x", 255)) == [Data(1, memoryview(b"x"), False)]
    assert window_updates(wire.sent()) == [(1, 98 * 256)]
    wire.feed(*[padded(1, b"x", 255)] * 97)
    assert window_updates(wire.sent()) == [(0, 196 * 256), (1, 98 * 256)]


def test_a_frame_of_padding_alone() -> None:
    """An empty payload is no event unless it ends the stream."""
    wire = server(streams=1)
    assert wire.feed(padded(1, b"", 10)) == []
    assert wire.feed(padded(1, b"", 10, END_STREAM)) == [Data(1, memoryview(b""), True)]


@pytest.mark.parametrize("split", range(1, 30))
def test_padding_over_two_reads(split: int) -> None:
    """The pad length, the payload or the padding may be cut anywhere."""
    wire = server(streams=1)
    whole = padded(1, b"payload", 5) + padded(1, b"end", 0, END_STREAM)
    seen = [event for piece in (whole[:split], whole[split:]) for event in wire.feed(piece)]
    assert b"".join(bytes(event.view) for event in seen if isinstance(event, Data)) == b"payloadend"
    assert [event.end for event in seen if isinstance(event, Data)][-1]


@pytest.mark.parametrize("wrong", [data(1, b"", PADDED), data(1, b"\x01", PADDED), data(1, b"\x05abcd", PADDED)])
def test_padding_longer_than_the_frame(wrong: bytes) -> None:
    """Padding that leaves no room for itself is a PROTOCOL_ERROR (§6.1)."""
    assert server(streams=1).fails(wrong) is ErrorCode.PROTOCOL_ERROR


def test_frame_size() -> None:
    """A frame above the advertised size is a FRAME_SIZE_ERROR, known from its header alone (§4.2)."""
    largest, larger = data(1, b"x" * 65536), data(1, b"x" * 65537)
    assert server(SMALL, streams=1).feed(largest)
    assert server(SMALL, streams=1).fails(larger) is ErrorCode.FRAME_SIZE_ERROR
    assert server(SMALL, streams=1).fails(larger[:9]) is ErrorCode.FRAME_SIZE_ERROR


def test_stream_window() -> None:
    """More than a stream's window is an error of that stream; what was credited may be sent again (§6.9)."""
    wire = server(SMALL, streams=2)
    wire.feed(data(1, b"x" * 50_000), data(1, b"x" * 50_000))
    wire.connection.credit(1, 30_000)
    assert window_updates(wire.sent()) == [(1, 30_000)]
    wire.feed(data(1, b"x" * 30_000))
    assert wire.feed(data(1, b"x"), data(3, b"y")) == [
        Reset(1, ErrorCode.FLOW_CONTROL_ERROR),
        Data(3, memoryview(b"y"), False),
    ]


def test_connection_window() -> None:
    """More than the connection's window ends it."""
    wire = server(SMALL, streams=3)
    for stream in (1, 3):
        wire.feed(data(stream, b"x" * 50_000), data(stream, b"x" * 50_000))
    assert wire.fails(data(5, b"x")) is ErrorCode.FLOW_CONTROL_ERROR


def test_credit_goes_back_in_steps() -> None:
    """A WINDOW_UPDATE is worth a quarter of the window, at most 1 MiB of a stream and 4 MiB of the connection."""
    wire = server(streams=1)
    chunk = b"x" * (1 << 20)
    said = []
    for _ in range(8):
        wire.feed(data(1, chunk))
        for _ in range(1024):
            wire.connection.credit(1, 1024)
        said += window_updates(wire.sent())
    assert [n for stream, n in said if stream] == [1 << 20] * 8
    assert [n for stream, n in said if not stream] == [4 << 20] * 2


def test_a_reset_stream_gives_its_credit_back() -> None:
    """Bytes that nobody will read do not shrink the connection's window, whoever resets and when."""
    wire = server(SMALL)
    cancel = frame(frames.RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    wire.feed(headers(1), data(1, b"x" * 60_000), cancel)
    assert window_updates(wire.sent()) == [(0, 60_000)]
    wire.feed(headers(3), data(3, b"x" * 50_000)[:20_000])
    wire.connection.reset_stream(3, ErrorCode.CANCEL)
    assert [one.kind for one in wire.sent()] == [frames.RST_STREAM, frames.WINDOW_UPDATE]
    assert wire.feed(data(3, b"x" * 50_000)[20_000:], headers(5), data(5, b"z")) != []


def test_late_data_on_a_stream_that_we_reset() -> None:
    """DATA that was under way is dropped, counted and credited, without an answer (§5.1)."""
    wire = server(SMALL, streams=1)
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    wire.sent()
    assert wire.feed(data(1, b"x" * 50_000)) == []
    assert window_updates(wire.sent()) == [(0, 50_000)]


def test_late_data_is_no_flood() -> None:
    """A window full of small frames may be under way on every stream that we reset; empty ones are a flood."""
    wire = server(Limits(max_idle_frames=10), streams=1)
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    assert wire.feed(*[data(1, b"x" * 100)] * 500) == []
    assert wire.fails(*[data(1, b"")] * 11) is ErrorCode.ENHANCE_YOUR_CALM


def test_credit_after_the_end() -> None:
    """A stream that ended both ways still owes the bytes that the application has not taken."""
    wire = server(SMALL, streams=1)
    wire.feed(data(1, b"x" * 60_000, END_STREAM))
    wire.connection.end_stream(1)
    wire.sent()
    assert wire.connection.streams_open == 0
    wire.connection.credit(1, 10_000)
    assert wire.sent() == []
    wire.connection.credit(1, 50_000)
    assert window_updates(wire.sent()) == [(0, 60_000)]
    wire.connection.credit(1, 1)


def test_giving_up_on_an_ended_stream() -> None:
    """reset_stream() also ends the debt of a stream that is over; nothing is said to the peer."""
    wire = server(SMALL, streams=1)
    wire.feed(data(1, b"x" * 60_000, END_STREAM))
    wire.connection.end_stream(1)
    wire.sent()
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    assert window_updates(wire.sent()) == [(0, 60_000)]


def test_data_after_end_stream() -> None:
    """A half-closed (remote) stream takes no more DATA: STREAM_CLOSED (§5.1)."""
    wire = server(streams=1)
    wire.feed(data(1, b"x", END_STREAM))
    assert wire.feed(data(1, b"y")) == [Reset(1, ErrorCode.STREAM_CLOSED)]


def test_data_on_a_closed_stream() -> None:
    """Both ends are done: the peer is told STREAM_CLOSED (§5.1)."""
    wire = server(streams=1)
    wire.feed(data(1, b"x", END_STREAM))
    wire.connection.end_stream(1)
    wire.sent()
    assert wire.feed(data(1, b"y")) == []
    assert wire.sent() == [Frame(frames.RST_STREAM, 0, 1, b"\0\0\0\5")]


def test_data_before_the_response() -> None:
    """A response starts with HEADERS (§8.1)."""
    wire = client()
    wire.connection.open_stream(CONNECT_BLOCK)
    assert wire.feed(data(1, b"x")) == [Reset(1, ErrorCode.PROTOCOL_ERROR)]


def test_streams_above_the_last_one_are_ignored() -> None:
    """After our GOAWAY new streams get no answer, but count for the connection (§6.8)."""
    wire = server(SMALL, streams=1)
    wire.connection.goaway()
    wire.sent()
    assert wire.feed(headers(3), data(3, b"x" * 60_000), data(1, b"x")) == [Data(1, memoryview(b"x"), False)]
    assert window_updates(wire.sent()) == [(0, 60_000)]
    assert not wire.connection.closed
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    assert wire.connection.closed


def test_the_preface_is_exact() -> None:
    """A server hears the preface byte by byte, and anything else is a PROTOCOL_ERROR (§3.4)."""
    wire = Wire(Role.SERVER, greet=False)
    for byte in PREFACE + settings() + ping():
        wire.feed(bytes((byte,)))
    assert [one.kind for one in wire.sent()][-1] == frames.PING
    for wrong in (b"GET / HTTP/1.1\r\n", PREFACE[:-1] + b"x", b"\x16\x03\x01"):
        assert Wire(Role.SERVER, greet=False).fails(wrong) is ErrorCode.PROTOCOL_ERROR


def test_held_input_is_bounded() -> None:
    """A control frame is refused by its header, before a megabyte of it is collected."""
    for kind in (frames.HEADERS, frames.SETTINGS):
        header = frames.HEADER.pack(0x0F00, 0, kind, 0, 1 if kind == frames.HEADERS else 0)
        assert server().fails(header) is ErrorCode.ENHANCE_YOUR_CALM
