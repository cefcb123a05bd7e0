"""Properties: how the input is cut does not matter, nor does any input break more than its own connection."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.http2 import CONNECT_BLOCK, SETTINGS_ACK, Wire, data, headers, ping, server
from tests.support.http2 import settings as settings_frame

from hostmesh.wire.http2 import frames, limits
from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.events import Data, Event
from hostmesh.wire.http2.frames import END_HEADERS, END_STREAM, PADDED, PREFACE, frame
from hostmesh.wire.http2.limits import Limits, Role

SMALL = Limits(stream_window=70_000, connection_window=200_000, max_frame_size=20_000, max_concurrent_streams=4)

streams = st.sampled_from([1, 3, 5, 7, 9, 11, 2])
payloads = st.binary(max_size=40) | st.integers(0, 20_000).map(lambda n: b"z" * n)
flags = st.sampled_from([0, END_STREAM])
words = st.sampled_from([0, 1, 1000, 2**31 - 1]).map(lambda n: n.to_bytes(4, "big"))


def padded(stream: int, payload: bytes, padding: int, end: int) -> bytes:
    return data(stream, bytes((padding,)) + payload + b"\0" * padding, PADDED | end)


def cut_headers(stream: int, at: int, end: int) -> bytes:
    block = b"\x20" + CONNECT_BLOCK
    return frame(frames.HEADERS, end, stream, block[:at]) + frame(frames.CONTINUATION, END_HEADERS, stream, block[at:])


reasonable = st.one_of(
    st.builds(headers, streams),
    st.builds(cut_headers, streams, st.integers(0, 20), flags),
    st.builds(data, streams, payloads, flags),
    st.builds(padded, streams, payloads.map(lambda one: one[:19_000]), st.integers(0, 255), flags),
    st.builds(lambda stream, word: frame(frames.RST_STREAM, 0, stream, word), streams, words),
    st.builds(lambda stream, word: frame(frames.WINDOW_UPDATE, 0, stream, word), streams | st.just(0), words),
    st.builds(lambda stream: frame(frames.PRIORITY, 0, stream, b"12345"), streams),
    st.builds(lambda payload: frame(0x77, 0xFF, 5, payload), payloads),
    st.sampled_from([ping(), settings_frame((4, 100)), settings_frame((5, 16385)), SETTINGS_ACK]),
)
wild = st.builds(
    lambda kind, flag, stream, payload, lie: (
        frames.HEADER.pack(0, (len(payload) + lie) & 0xFF, kind, flag, stream) + payload
    ),
    st.integers(0, 12),
    st.integers(0, 255),
    st.integers(0, 12),
    st.binary(max_size=60),
    st.sampled_from([0, 0, 0, 1, -1, 100]),
)


def merged(events: list[Event]) -> list[Event | tuple[int, bytes, bool]]:
    """Neighbouring pieces of one stream's data joined."""
    joined: list[Event | tuple[int, bytes, bool]] = []
    for event in events:
        if not isinstance(event, Data):
            joined.append(event)
            continue
        last = joined[-1] if joined else None
        if isinstance(last, tuple) and last[0] == event.stream and not last[2]:
            joined[-1] = (event.stream, last[1] + bytes(event.view), event.end)
        else:
            joined.append((event.stream, bytes(event.view), event.end))
    return joined


def hear(wire: Wire, pieces: list[bytes]) -> tuple[list[Event], ErrorCode | None]:
    events: list[Event] = []
    for piece in pieces:
        try:
            # A buffer of its own, as a worker's: what is not used at once is overwritten.
            for event in wire.feed(piece):
                if isinstance(event, Data):
                    event.view = memoryview(bytes(event.view))
                events.append(event)
        except Http2Error as error:
            return events, error.code
    return events, None


@settings(max_examples=300, deadline=None)
@given(st.lists(reasonable, max_size=12), st.data())
def test_any_cutting_gives_the_same_events(script: list[bytes], draw: st.DataObject) -> None:
    """One piece or many: the same events, the same answers, the same error."""
    whole = b"".join(script)
    cuts = draw.draw(st.lists(st.integers(0, len(whole)), max_size=12).map(sorted))
    pieces = [whole[start:stop] for start, stop in pairwise([0, *cuts, len(whole)])]
    one, many = server(SMALL), server(SMALL)
    events, code = hear(one, [whole])
    cut_events, cut_code = hear(many, pieces)
    assert cut_code == code
    if code is None:
        assert merged(cut_events) == merged(events)
    assert many.raw() == one.raw()


@settings(max_examples=60, deadline=None)
@given(st.lists(reasonable, max_size=6))
def test_byte_by_byte(script: list[bytes]) -> None:
    """The finest cutting there is."""
    whole = b"".join(script)[:3000]
    one, many = server(SMALL), server(SMALL)
    events, code = hear(one, [whole])
    cut_events, cut_code = hear(many, [whole[at : at + 1] for at in range(len(whole))])
    assert cut_code == code
    if code is None:
        assert merged(cut_events) == merged(events)


def held_bytes(wire: Wire) -> int:
    """What the connection keeps because of its input."""
    receiver = wire.connection._receiver
    return len(receiver._held) + len(receiver.control.blocks._block)


@settings(max_examples=400, deadline=None)
@given(st.lists(wild | reasonable | st.binary(max_size=50), max_size=20), st.sampled_from(list(Role)), st.booleans())
def test_arbitrary_input_ends_in_order(script: list[bytes], role: Role, greet: bool) -> None:
    """Nothing but Http2Error, never more memory than the bounds say, and silence after the error."""
    wire = Wire(role, SMALL, greet=greet)
    http2 = wire.connection
    if role is Role.CLIENT:
        for _ in range(3):
            http2.open_stream(CONNECT_BLOCK)
    events, code = hear(wire, script)
    assert held_bytes(wire) <= 2 * (SMALL.max_header_list_size + 1024)
    assert http2.pending_output <= SMALL.output_buffer + limits.CONTROL_ROOM
    assert http2.streams_open <= SMALL.max_concurrent_streams
    assert sum(len(event.view) for event in events if isinstance(event, Data)) <= 200_000 + 20_000 * len(script)
    if code is not None:
        assert http2.closed
        assert wire.feed(ping()) == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_after_the_preface(noise: bytes) -> None:
    """Bytes without any structure."""
    wire = Wire(Role.SERVER, greet=False)
    hear(wire, [PREFACE, settings_frame(), noise])
    assert held_bytes(wire) <= 300
