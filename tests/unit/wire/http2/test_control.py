"""Frames other than DATA: each rule of RFC 9113 §6 in one transcript."""

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
    ping,
    server,
    settings,
)

from hostmesh.wire.http2 import frames, limits
from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.events import GoAway, Headers, PingAck, Reset, SettingsChanged, WindowOpened
from hostmesh.wire.http2.frames import PREFACE, frame
from hostmesh.wire.http2.limits import Limits, Role

FLOODS = Limits(max_pings=50, max_settings=10, max_rapid_resets=60, max_idle_frames=200)

INVALID_LENGTHS = [
    (frame(frames.RST_STREAM, 0, 1, b"123"), "RST_STREAM is 4 bytes"),
    (frame(frames.PING, 0, 0, b"1234567"), "PING is 8 bytes"),
    (frame(frames.PING, 0, 0, b"123456789"), "PING is 8 bytes"),
    (frame(frames.WINDOW_UPDATE, 0, 1, b"12345"), "WINDOW_UPDATE is 4 bytes"),
    (frame(frames.WINDOW_UPDATE, 0, 0, b"123"), "WINDOW_UPDATE is 4 bytes"),
    (frame(frames.GOAWAY, 0, 0, b"1234567"), "GOAWAY is at least 8 bytes"),
    (frame(frames.SETTINGS, 0, 0, b"12345"), "SETTINGS is a multiple of 6 bytes"),
    (frame(frames.SETTINGS, frames.ACK, 0, b"123456"), "a SETTINGS acknowledgement is empty"),
    (frame(frames.PRIORITY, 0, 9, b"1234"), "PRIORITY is 5 bytes; the stream is idle and cannot be reset"),
]

WRONG_STREAM = [
    frame(frames.DATA, 0, 0, b"x"),
    frame(frames.HEADERS, frames.END_HEADERS, 0, CONNECT_BLOCK),
    frame(frames.PRIORITY, 0, 0, b"12345"),
    frame(frames.RST_STREAM, 0, 0, b"\0\0\0\0"),
    frame(frames.SETTINGS, 0, 1, b""),
    frame(frames.PING, 0, 1, b"12345678"),
    frame(frames.GOAWAY, 0, 1, b"\0" * 8),
    frame(frames.CONTINUATION, 0, 0, b""),
]

ON_IDLE = [
    data(5, b"x"),
    data(2, b"x"),
    frame(frames.RST_STREAM, 0, 5, b"\0\0\0\0"),
    frame(frames.WINDOW_UPDATE, 0, 5, b"\0\0\0\1"),
    frame(frames.RST_STREAM, 0, 2, b"\0\0\0\0"),
]


@pytest.mark.parametrize(("wrong", "rule"), INVALID_LENGTHS)
def test_lengths(wrong: bytes, rule: str) -> None:
    """A frame of the wrong length is a connection error FRAME_SIZE_ERROR."""
    assert server(streams=1).fails(wrong) is ErrorCode.FRAME_SIZE_ERROR, rule


@pytest.mark.parametrize("wrong", WRONG_STREAM)
def test_stream_or_connection(wrong: bytes) -> None:
    """A frame on stream 0 that needs a stream, or the reverse, is a connection error PROTOCOL_ERROR."""
    assert server().fails(wrong) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("wrong", ON_IDLE)
def test_idle_streams(wrong: bytes) -> None:
    """Anything but HEADERS and PRIORITY on an idle stream is a connection error PROTOCOL_ERROR (§5.1)."""
    assert server(streams=1).fails(wrong) is ErrorCode.PROTOCOL_ERROR
    assert client(streams=1).fails(wrong) is ErrorCode.PROTOCOL_ERROR


def test_settings_come_first() -> None:
    """The preface of either end ends with SETTINGS; anything before it is a PROTOCOL_ERROR (§3.4)."""
    for first in (ping(), SETTINGS_ACK, headers(1)):
        assert Wire(Role.SERVER, greet=False).fails(PREFACE, first) is ErrorCode.PROTOCOL_ERROR
        assert Wire(Role.CLIENT, greet=False).fails(first) is ErrorCode.PROTOCOL_ERROR


def test_settings_are_acknowledged_and_reported() -> None:
    """SETTINGS apply in order and are acknowledged at once (§6.5.3)."""
    wire = client()
    assert wire.feed(settings((0x3, 10), (0x3, 7), (0x5, 32768), (0x99, 1))) == [SettingsChanged()]
    assert wire.sent() == [Frame(frames.SETTINGS, frames.ACK, 0, b"")]
    assert wire.connection.remote_max_streams == 7
    assert wire.connection.peer_settings.max_frame_size == 32768


def test_initial_window_changes_open_streams() -> None:
    """INITIAL_WINDOW_SIZE shifts the window of every stream, below zero if need be (§6.9.2)."""
    wire = client(streams=1)
    http2 = wire.connection
    assert http2.send_data(1, b"x" * 1000) == 1000
    wire.feed(settings((0x4, 100)))
    assert http2.send_data(1, b"x") == 0
    assert wire.feed(settings((0x4, 1000))) == [SettingsChanged()]
    assert wire.feed(settings((0x4, 1001))) == [SettingsChanged(), WindowOpened(0)]
    assert http2.send_data(1, b"xy") == 1


def test_initial_window_may_not_overflow() -> None:
    """A change that takes a window above 2^31-1 is a FLOW_CONTROL_ERROR (§6.9.2)."""
    wire = client(streams=1)
    wire.feed(frame(frames.WINDOW_UPDATE, 0, 1, (100).to_bytes(4, "big")))
    assert wire.fails(settings((0x4, 2**31 - 1))) is ErrorCode.FLOW_CONTROL_ERROR


def test_settings_flood() -> None:
    """More SETTINGS than between two of our pings is any use end the connection; a ping forgives."""
    wire = server(FLOODS)
    for _ in range(3):
        wire.feed(*[settings()] * (FLOODS.max_settings - 1))
        wire.connection.ping(b"12345678")
        wire.sent()
    assert wire.fails(*[settings()] * (FLOODS.max_settings + 1)) is ErrorCode.ENHANCE_YOUR_CALM


def test_settings_of_unreasonable_size() -> None:
    """SETTINGS are bounded, whatever frame size is advertised."""
    assert server().fails(settings(*[(0x99, 1)] * 200)) is ErrorCode.ENHANCE_YOUR_CALM


def test_ping_is_answered() -> None:
    """A PING returns with ACK and the same payload (§6.7); an answer is reported."""
    wire = server()
    assert wire.feed(ping(b"abcdefgh"), ping(b"ijklmnop", frames.ACK)) == [PingAck(b"ijklmnop")]
    assert wire.sent() == [Frame(frames.PING, frames.ACK, 0, b"abcdefgh")]


def test_ping_flood() -> None:
    """PINGs are counted between our own."""
    wire = server(FLOODS)
    wire.feed(*[ping()] * FLOODS.max_pings)
    wire.connection.ping(b"12345678")
    wire.sent()
    wire.feed(*[ping()] * FLOODS.max_pings)
    assert wire.fails(ping()) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_peer_that_does_not_read_its_answers() -> None:
    """Control frames may use room beyond the output buffer, and not more than that."""
    wire = server(Limits(output_buffer=16384))
    http2 = wire.connection
    code = None
    for _ in range(100):
        http2.ping(b"12345678")
        try:
            wire.feed(*[ping()] * limits.MAX_PINGS)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at below
            code = getattr(error, "code", error)
            break
    assert code is ErrorCode.ENHANCE_YOUR_CALM
    assert http2.closed
    assert http2.pending_output <= 16384 + limits.CONTROL_ROOM


def test_push_promise_is_refused() -> None:
    """Nobody enabled push: PUSH_PROMISE is a PROTOCOL_ERROR in either role (§6.6)."""
    push = frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2" + CONNECT_BLOCK)
    assert client(streams=1).fails(push) is ErrorCode.PROTOCOL_ERROR
    assert server(streams=1).fails(push) is ErrorCode.PROTOCOL_ERROR


def test_priority_and_unknown_frames_are_ignored() -> None:
    """PRIORITY is deprecated, unknown types are skipped (§5.3, §5.5), in whatever size fits a frame."""
    wire = server(streams=1)
    priority = frame(frames.PRIORITY, 0, 1, b"\0\0\0\1\0")
    unknown = frame(0x42, 0xFF, 77, b"z" * 100_000)
    assert wire.feed(priority, frame(frames.PRIORITY, 0, 99, b"12345"), unknown, data(1, b"x"))[0].stream == 1
    assert wire.sent() == []


def test_short_priority_resets_a_known_stream() -> None:
    """A PRIORITY of another length is a stream error FRAME_SIZE_ERROR (§6.3)."""
    wire = server(streams=1)
    assert wire.feed(frame(frames.PRIORITY, 0, 1, b"1234")) == [Reset(1, ErrorCode.FRAME_SIZE_ERROR)]
    assert wire.sent() == [Frame(frames.RST_STREAM, 0, 1, b"\0\0\0\6")]


@pytest.mark.parametrize(
    "idle",
    [frame(frames.PRIORITY, 0, 1, b"12345"), frame(0x42, 0, 0, b""), data(1, b"")],
    ids=["PRIORITY", "unknown", "DATA"],
)
def test_floods_of_frames_that_carry_nothing(idle: bytes) -> None:
    """Frames without use are counted, so that parsing them cannot be all we do."""
    wire = server(FLOODS, streams=1)
    assert wire.feed(*[idle] * FLOODS.max_idle_frames) == []
    assert wire.fails(idle) is ErrorCode.ENHANCE_YOUR_CALM


def test_rst_stream_is_reported_once() -> None:
    """RST_STREAM closes the stream; a second one, or a WINDOW_UPDATE, is ignored (§5.1 closed)."""
    wire = server(streams=1)
    reset = frame(frames.RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    assert wire.feed(reset, reset, frame(frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\1")) == [Reset(1, ErrorCode.CANCEL)]
    assert wire.connection.streams_open == 0
    assert wire.connection.send_data(1, b"late") == 0
    assert wire.sent() == []


def test_an_unknown_error_code_is_internal() -> None:
    """Unknown codes have no special meaning (§7)."""
    wire = server(streams=1)
    assert wire.feed(frame(frames.RST_STREAM, 0, 1, b"\0\0\1\0")) == [Reset(1, ErrorCode.INTERNAL_ERROR)]


def test_rapid_reset() -> None:
    """Streams opened and reset before the answer are bounded (CVE-2023-44487)."""
    wire = server(FLOODS)
    cancel = (8).to_bytes(4, "big")
    attack = [headers(n) + frame(frames.RST_STREAM, 0, n, cancel) for n in range(1, 2 * FLOODS.max_rapid_resets + 2, 2)]
    wire.feed(*attack[:-1])
    assert wire.fails(attack[-1]) is ErrorCode.ENHANCE_YOUR_CALM


def test_resets_after_an_answer_are_no_attack() -> None:
    """Tunnels are ended by RST_STREAM every day; only unanswered ones count."""
    wire = server(FLOODS)
    cancel = (8).to_bytes(4, "big")
    for number in range(1, 4 * FLOODS.max_rapid_resets, 2):
        wire.feed(headers(number))
        wire.connection.send_headers(number, OK_BLOCK)
        wire.feed(frame(frames.RST_STREAM, 0, number, cancel))
        wire.sent()
    assert not wire.connection.closed


def test_answers_and_time_forgive_resets() -> None:
    """An answered stream outweighs one that was reset early, and a ping of ours all of them."""
    wire = server(FLOODS)
    early = frame(frames.RST_STREAM, 0, 1, b"\0\0\0\x08")
    number = 1
    for _ in range(2 * FLOODS.max_rapid_resets):
        wire.feed(headers(number), early[:5] + number.to_bytes(4, "big") + early[9:], headers(number + 2))
        wire.connection.send_headers(number + 2, OK_BLOCK, end=True)
        wire.connection.reset_stream(number + 2, ErrorCode.NO_ERROR)
        number += 4
        wire.raw()
    for _ in range(3):
        for _ in range(FLOODS.max_rapid_resets):
            wire.feed(headers(number), early[:5] + number.to_bytes(4, "big") + early[9:])
            number += 2
        wire.connection.ping(b"12345678")
    assert not wire.connection.closed


def test_making_us_reset_counts_too() -> None:
    """A peer that provokes our own resets gets no further than one that sends them (CVE-2025-8671)."""
    wire = server(FLOODS)
    zero = b"\0\0\0\0"
    attack = [
        headers(n) + frame(frames.WINDOW_UPDATE, 0, n, zero) for n in range(1, 2 * FLOODS.max_rapid_resets + 2, 2)
    ]
    wire.feed(*attack[:-1])
    assert wire.fails(attack[-1]) is ErrorCode.ENHANCE_YOUR_CALM


def test_window_update_of_zero() -> None:
    """An increment of 0 is an error of the stream, or of the connection (§6.9)."""
    wire = server(streams=1)
    assert wire.feed(frame(frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\0")) == [Reset(1, ErrorCode.PROTOCOL_ERROR)]
    assert wire.fails(frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\0")) is ErrorCode.PROTOCOL_ERROR


def test_window_overflow() -> None:
    """A window above 2^31-1 is a FLOW_CONTROL_ERROR of the stream, or of the connection (§6.9.1)."""
    wire = server(streams=1)
    most = (2**31 - 1).to_bytes(4, "big")
    assert wire.feed(frame(frames.WINDOW_UPDATE, 0, 1, most)) == [Reset(1, ErrorCode.FLOW_CONTROL_ERROR)]
    assert wire.fails(frame(frames.WINDOW_UPDATE, 0, 0, most)) is ErrorCode.FLOW_CONTROL_ERROR


def test_windows_open_only_for_who_waits() -> None:
    """WindowOpened comes once, when a reserve() was refused for want of that window."""
    wire = client(streams=2)
    http2 = wire.connection
    one = (1).to_bytes(4, "big")
    assert wire.feed(frame(frames.WINDOW_UPDATE, 0, 1, one), frame(frames.WINDOW_UPDATE, 0, 0, one)) == []
    assert http2.send_data(1, b"x" * 70000) == 65536, "both windows are used up"
    assert http2.send_data(3, b"x") == 0
    assert wire.feed(frame(frames.WINDOW_UPDATE, 0, 1, one)) == [WindowOpened(1)]
    assert wire.feed(frame(frames.WINDOW_UPDATE, 0, 0, one)) == [WindowOpened(0)]
    assert wire.feed(frame(frames.WINDOW_UPDATE, 0, 0, one)) == []


def test_goaway_refuses_what_was_not_processed() -> None:
    """Streams above the last one were not processed: refused, so that they may be retried (§6.8)."""
    wire = client(streams=3)
    goaway = frames.goaway(3, ErrorCode.NO_ERROR, b"bye")
    assert wire.feed(goaway) == [Reset(5, ErrorCode.REFUSED_STREAM), GoAway(3, ErrorCode.NO_ERROR)]
    assert wire.connection.goaway_received
    assert wire.connection.spent
    assert not wire.connection.can_open
    assert not wire.connection.closed
    assert wire.feed(data(1, b"x", frames.END_STREAM), data(3, b"y", frames.END_STREAM))
    wire.connection.end_stream(1)
    wire.connection.end_stream(3)
    assert wire.connection.closed


def test_goaway_in_two_steps() -> None:
    """A server announces with 2^31-1, then says the real last stream; it may not raise it again (§6.8)."""
    wire = client(streams=1)
    assert wire.feed(frames.goaway(2**31 - 1, 0)) == [GoAway(2**31 - 1, ErrorCode.NO_ERROR)]
    assert wire.feed(frames.goaway(1, 0)) == [GoAway(1, ErrorCode.NO_ERROR)]
    assert wire.fails(frames.goaway(3, 0)) is ErrorCode.PROTOCOL_ERROR


def test_a_smaller_window_counts_from_the_acknowledgement() -> None:
    """Before it has seen our settings a peer may use the default window of 65535 (§6.9.2)."""
    wire = Wire(Role.SERVER, Limits(stream_window=1000), greet=False)
    chunk = b"x" * 16384
    wire.feed(PREFACE, settings(), headers(1), data(1, chunk), data(1, chunk))
    assert wire.feed(SETTINGS_ACK, SETTINGS_ACK, data(1, b"x")) == [Reset(1, ErrorCode.FLOW_CONTROL_ERROR)]
    wire.feed(headers(3))
    wire.feed(data(3, b"x" * 999), SETTINGS_ACK)
    assert len(wire.feed(data(3, b"x"))) == 1
    assert wire.feed(data(3, b"x")) == [Reset(3, ErrorCode.FLOW_CONTROL_ERROR)]


def test_a_client_hears_no_request() -> None:
    """Streams that a server opens are a PROTOCOL_ERROR (§8.4 without push)."""
    assert client().fails(headers(2, OK_BLOCK)) is ErrorCode.PROTOCOL_ERROR
    assert client().fails(headers(1, OK_BLOCK)) is ErrorCode.PROTOCOL_ERROR


def test_after_an_error_nothing_is_heard() -> None:
    """The connection is over: no more events, no second GOAWAY."""
    wire = server(streams=1)
    assert wire.fails(data(0, b"x")) is ErrorCode.PROTOCOL_ERROR
    assert wire.feed(headers(3), data(1, b"x")) == []
    assert wire.connection.send_data(1, b"x") == 0
    assert wire.sent() == []


def test_headers_still_work_after_all_this() -> None:
    """The tables above would pass if nothing worked; this would not."""
    wire = server()
    assert [type(event) for event in wire.feed(headers(1))] == [Headers]
