"""The `h2` library, strict and not ours, at the other end in both roles."""

from __future__ import annotations

import random
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from tests.support.http2 import CONNECT, CONNECT_BLOCK, OK, OK_BLOCK

from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.events import Data, Event, GoAway, Headers, PingAck, Reset, WindowOpened
from hostmesh.wire.http2.limits import Role

BODY = random.Random(1).randbytes(9_000_000)


class Stranger:
    """Our connection and an `h2` one, with the bytes between them carried in pieces of `piece`."""

    def __init__(self, role: Role, *, frame_size: int = 16384, piece: int = 1 << 18) -> None:
        self.ours = Http2Connection(role)
        config = h2.config.H2Configuration(client_side=role is Role.SERVER, header_encoding=None)
        self.theirs = h2.connection.H2Connection(config)
        self.theirs.local_settings = h2.settings.Settings(
            client=role is Role.SERVER,
            initial_values={
                h2.settings.SettingCodes.MAX_FRAME_SIZE: frame_size,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 300_000,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            },
        )
        self.theirs.max_inbound_frame_size = frame_size
        self.theirs.initiate_connection()
        self.piece = piece
        self.our_events: list[Event] = []
        self.their_events: list[h2.events.Event] = []
        self.body = bytearray()
        self.frames = 0
        self.settle()

    def settle(self) -> None:
        """Carry bytes until both are quiet. Ours has its DATA taken and credited at once."""
        while True:
            for_them = bytes(self.ours.take()[: self.piece])
            self.ours.sent(len(for_them))
            for event in self.theirs.receive_data(for_them):
                self._theirs(event)
            for_us = self.theirs.data_to_send()
            for start in range(0, len(for_us), self.piece):
                for one in self.ours.receive(memoryview(for_us)[start : start + self.piece]):
                    self._ours(one)
            if not for_them and not for_us:
                return

    def _theirs(self, event: h2.events.Event) -> None:
        self.their_events.append(event)
        if isinstance(event, h2.events.DataReceived):
            self.frames += 1
            self.body += event.data
            self.theirs.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _ours(self, event: Event) -> None:
        if isinstance(event, Data):
            self.body += event.view
            self.ours.credit(event.stream, len(event.view))
            event.view = memoryview(b"")
        self.our_events.append(event)

    def last(self, kind: type) -> object:
        """The last event of a kind at either end."""
        return next(event for event in reversed([*self.our_events, *self.their_events]) if isinstance(event, kind))

    def tunnel(self) -> int:
        """A CONNECT that was answered by 200."""
        if self.ours.role is Role.CLIENT:
            stream = self.ours.open_stream(CONNECT_BLOCK)
            self.settle()
            request = self.last(h2.events.RequestReceived)
            assert isinstance(request, h2.events.RequestReceived)
            assert [tuple(field) for field in request.headers] == list(CONNECT)
            self.theirs.send_headers(stream, OK)
            self.settle()
            assert self.our_events[-1] == Headers(stream, list(OK), False)
        else:
            stream = self.theirs.get_next_available_stream_id()
            self.theirs.send_headers(stream, CONNECT)
            self.settle()
            assert self.our_events[-1] == Headers(stream, list(CONNECT), False)
            self.ours.send_headers(stream, OK_BLOCK)
            self.settle()
            assert isinstance(self.their_events[-1], h2.events.ResponseReceived)
        return stream


@pytest.fixture(params=[Role.CLIENT, Role.SERVER], ids=["client", "server"])
def role(request: pytest.FixtureRequest) -> Iterator[Role]:
    """Our end."""
    return request.param


@pytest.mark.parametrize("frame_size", [16384, 1 << 20])
def test_a_large_body_from_us(role: Role, frame_size: int) -> None:
    """9 MB through windows of 300 kB, in frames as large as the peer takes."""
    stranger = Stranger(role, frame_size=frame_size)
    stream = stranger.tunnel()
    sent = 0
    while sent < len(BODY):
        n = stranger.ours.send_data(stream, memoryview(BODY)[sent:], end=True)
        sent += n
        stranger.settle()
        assert n, "the window never opened again"
    assert bytes(stranger.body) == BODY
    assert any(isinstance(event, WindowOpened) for event in stranger.our_events)
    assert stranger.frames < len(BODY) // (16384 if frame_size > 16384 else 8192)


def test_slots_are_good_frames(role: Role) -> None:
    """What one scattered read would fill arrives as frames that the peer accepts."""
    stranger = Stranger(role)
    stream = stranger.tunnel()
    sent = 0
    while sent < 1_000_000:
        slots = stranger.ours.reserve_slots(stream, 1_000_000 - sent)
        for slot in slots:
            slot[:] = BODY[sent : sent + len(slot)]
            sent += len(slot)
        stranger.ours.commit(stream, sum(map(len, slots)))
        stranger.settle()
    assert bytes(stranger.body) == BODY[:1_000_000]


@pytest.mark.parametrize("piece", [1000, 1 << 18])
@pytest.mark.parametrize("padding", [None, 7])
def test_a_large_body_to_us(role: Role, piece: int, padding: int | None) -> None:
    """9 MB through our 4 MiB window in the largest frames that we permit; our credit is neither short nor excessive."""
    stranger = Stranger(role, piece=piece)
    stream = stranger.tunnel()
    body = BODY if piece > 1000 else BODY[:5_000_000]
    sent = 0
    while sent < len(body):
        room = min(stranger.theirs.local_flow_control_window(stream), stranger.theirs.max_outbound_frame_size)
        assert room > 8
        chunk = body[sent : sent + room - 8]
        sent += len(chunk)
        stranger.theirs.send_data(stream, chunk, pad_length=padding, end_stream=sent == len(body))
        stranger.settle()
    assert bytes(stranger.body) == body
    assert [event.end for event in stranger.our_events if isinstance(event, Data)][-1]
    assert stranger.theirs.max_outbound_frame_size == 1 << 20


def test_half_close_in_either_order(role: Role) -> None:
    """One direction ends, the other goes on."""
    for ours_first in (True, False):
        stranger = Stranger(role)
        stream = stranger.tunnel()
        if ours_first:
            stranger.ours.end_stream(stream)
            stranger.settle()
            stranger.theirs.send_data(stream, b"late", end_stream=True)
        else:
            stranger.theirs.end_stream(stream)
            stranger.settle()
            assert stranger.ours.send_data(stream, b"late", end=True) == 4
        stranger.settle()
        assert bytes(stranger.body) == b"late"
        assert any(isinstance(event, h2.events.StreamEnded) for event in stranger.their_events)
        assert stranger.ours.streams_open == 0
        assert stranger.theirs.open_inbound_streams + stranger.theirs.open_outbound_streams == 0


def test_resets(role: Role) -> None:
    """RST_STREAM in either direction, with late DATA under way."""
    stranger = Stranger(role)
    first, second = stranger.tunnel(), stranger.tunnel()
    stranger.theirs.send_data(first, b"under way")
    stranger.ours.reset_stream(first, ErrorCode.CANCEL)
    stranger.settle()
    reset = stranger.last(h2.events.StreamReset)
    assert isinstance(reset, h2.events.StreamReset)
    assert reset.error_code == h2.errors.ErrorCodes.CANCEL
    stranger.theirs.reset_stream(second, h2.errors.ErrorCodes.REFUSED_STREAM)
    stranger.settle()
    assert stranger.our_events[-1] == Reset(second, ErrorCode.REFUSED_STREAM)
    third = stranger.tunnel()
    stranger.theirs.send_data(third, b"works", end_stream=True)
    stranger.settle()
    assert bytes(stranger.body) == b"works"


def test_goaway_both_ways(role: Role) -> None:
    """GOAWAY is read and written as the library does."""
    stranger = Stranger(role)
    stranger.tunnel()
    stranger.ours.goaway(ErrorCode.ENHANCE_YOUR_CALM)
    stranger.settle()
    told = stranger.last(h2.events.ConnectionTerminated)
    assert isinstance(told, h2.events.ConnectionTerminated)
    assert (told.error_code, told.last_stream_id) == (11, 1 if role is Role.SERVER else 0)
    stranger = Stranger(role)
    stream = stranger.tunnel()
    stranger.theirs.close_connection(h2.errors.ErrorCodes.NO_ERROR)
    stranger.settle()
    assert stranger.our_events[-1] == GoAway(stream if role is Role.CLIENT else 0, ErrorCode.NO_ERROR)


def test_ping_both_ways(role: Role) -> None:
    """PING is answered on either side."""
    stranger = Stranger(role)
    stranger.ours.ping(b"ourping!")
    stranger.theirs.ping(b"theirs!!")
    stranger.settle()
    assert PingAck(b"ourping!") in stranger.our_events
    assert isinstance(stranger.last(h2.events.PingAckReceived), h2.events.PingAckReceived)


def test_many_streams_one_after_another(role: Role) -> None:
    """The header compression of both ends stays in step over a long life."""
    stranger = Stranger(role)
    for number in range(300):
        stream = stranger.tunnel()
        assert stream == 2 * number + 1
        stranger.ours.send_data(stream, b"a", end=True)
        stranger.theirs.send_data(stream, b"b", end_stream=True)
        stranger.settle()
    assert len(stranger.body) == 600
    assert stranger.ours.streams_open == 0


def test_requests_before_anything_was_acknowledged() -> None:
    """A client that sends its first requests at once uses a dynamic table; later it does not."""
    config = h2.config.H2Configuration(client_side=True, header_encoding=None)
    theirs = h2.connection.H2Connection(config)
    ours = Http2Connection(Role.SERVER)
    theirs.initiate_connection()
    fields = [*CONNECT, (b"baggage", b"k8s.namespace.name=shop"), (b"x-same", b"value")]
    for stream in (1, 3):
        theirs.send_headers(stream, fields)
    events = ours.receive(memoryview(theirs.data_to_send()))
    theirs.receive_data(bytes(ours.take()))
    ours.sent(len(ours.take()))
    for stream in (5, 7):
        theirs.send_headers(stream, fields)
    events += ours.receive(memoryview(theirs.data_to_send()))
    assert [event for event in events if isinstance(event, Headers)] == [
        Headers(stream, fields, False) for stream in (1, 3, 5, 7)
    ]
    assert theirs.encoder.header_table_size == 0


def test_our_errors_reach_them() -> None:
    """What we refuse, the library understands as refused."""
    stranger = Stranger(Role.SERVER)
    config = stranger.theirs.config
    config.validate_outbound_headers = config.normalize_outbound_headers = False
    stranger.theirs.send_headers(1, [*CONNECT, (b":path", b"/"), (b":scheme", b"https")])
    stranger.settle()
    reset = stranger.last(h2.events.StreamReset)
    assert isinstance(reset, h2.events.StreamReset)
    assert reset.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
