"""Two of our own connections and owners that do anything: no byte and no credit is lost (RFC 9113 §5)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.http2 import CONNECT_BLOCK, OK_BLOCK

from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.events import Data, GoAway, Headers, Reset
from hostmesh.wire.http2.limits import Limits, Role

LIMITS = Limits(
    stream_window=70_000,
    connection_window=150_000,
    max_frame_size=16384,
    max_concurrent_streams=4,
    output_buffer=40_000,
)


class End:
    """One owner: what it sent, what it got, what it has not credited yet."""

    def __init__(self, role: Role) -> None:
        self.http2 = Http2Connection(role, LIMITS)
        self.sent: dict[int, bytearray] = {}
        self.got: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.unread: dict[int, int] = {}
        self.dead: set[int] = set()

    def hear(self, data: bytes) -> None:
        for event in self.http2.receive(memoryview(data)):
            match event:
                case Headers(stream, _, _):
                    if stream not in self.sent:
                        self.sent[stream] = bytearray()
                        self.http2.send_headers(stream, OK_BLOCK)
                    self.got[stream] = bytearray()
                case Data(stream, view, end):
                    if stream in self.dead:
                        continue
                    self.got[stream] += view
                    self.unread[stream] = self.unread.get(stream, 0) + len(view)
                    if end:
                        self.ended.add(stream)
                case Reset(stream, _):
                    self.dead.add(stream)
                    self.unread.pop(stream, None)
                case GoAway():
                    raise AssertionError("nobody goes away here")

    def live(self) -> list[int]:
        return [stream for stream in self.sent if stream not in self.dead]


class Conversation(RuleBasedStateMachine):
    """Random acts of both owners over a link that carries any number of bytes at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.client = End(Role.CLIENT)
        self.server = End(Role.SERVER)
        self.carry(10_000, 10_000)

    @rule(up=st.integers(1, 60_000), down=st.integers(1, 60_000))
    def carry(self, up: int, down: int) -> None:
        for source, target, most in ((self.client, self.server, up), (self.server, self.client, down)):
            data = bytes(source.http2.take()[:most])
            source.http2.sent(len(data))
            target.hear(data)

    @precondition(lambda self: self.client.http2.can_open)
    @rule()
    def open(self) -> None:
        self.client.sent[self.client.http2.open_stream(CONNECT_BLOCK)] = bytearray()

    @rule(
        data=st.data(),
        size=st.integers(0, 50_000),
        end=st.sampled_from([False, False, False, True]),
        slots=st.booleans(),
    )
    def send(self, data: st.DataObject, size: int, end: bool, slots: bool) -> None:
        one = data.draw(st.sampled_from([self.client, self.server]))
        if not one.live():
            return
        stream = data.draw(st.sampled_from(one.live()))
        if slots:
            places = one.http2.reserve_slots(stream, size)
        else:
            place = one.http2.reserve(stream, size)
            places = [place] if len(place) else []
        total = 0
        for number, place in enumerate(places):
            place[:] = bytes(((stream + number + total) % 251,)) * len(place)
            one.sent[stream] += place
            total += len(place)
        if total or end:
            one.http2.commit(stream, total, end)

    @rule(data=st.data(), portion=st.sampled_from([1, 2, 100]))
    def credit(self, data: st.DataObject, portion: int) -> None:
        one = data.draw(st.sampled_from([self.client, self.server]))
        for stream, unread in list(one.unread.items()):
            n = -(-unread // portion)
            one.http2.credit(stream, n)
            one.unread[stream] = unread - n
            if not one.unread[stream]:
                del one.unread[stream]

    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([self.client, self.server]))
        if one.live():
            stream = data.draw(st.sampled_from(one.live()))
            one.http2.reset_stream(stream, ErrorCode.CANCEL)
            one.dead.add(stream)
            one.unread.pop(stream, None)

    @invariant()
    def received_is_what_was_sent(self) -> None:
        for source, target in ((self.client, self.server), (self.server, self.client)):
            for stream, got in target.got.items():
                assert source.sent[stream].startswith(got)

    @invariant()
    def nothing_fails(self) -> None:
        for one in (self.client, self.server):
            assert not one.http2.closed
            assert one.http2.streams_open <= LIMITS.max_concurrent_streams

    def teardown(self) -> None:
        """Carry and credit everything: whole streams are whole, and both windows are whole again."""
        for _ in range(200):
            self.carry(1 << 20, 1 << 20)
            for one in (self.client, self.server):
                for stream, unread in one.unread.items():
                    one.http2.credit(stream, unread)
                one.unread.clear()
        dead = self.client.dead | self.server.dead
        for source, target in ((self.client, self.server), (self.server, self.client)):
            for stream, sent in source.sent.items():
                if stream not in dead and stream in target.got:
                    assert target.got[stream] == sent
            flow, peer = target.http2._flow, source.http2._flow
            assert flow.receive + flow.owed == LIMITS.connection_window
            assert peer.send == flow.receive
            assert not target.http2._state.unfinished


Conversation.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestConversation = Conversation.TestCase
