"""Frames other than DATA, each handled whole (RFC 9113 §6)."""

from __future__ import annotations

from typing import NamedTuple

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.blocks import HeaderBlocks
from hostmesh.wire.http2.errors import ErrorCode, Http2Error, StreamError, error_code
from hostmesh.wire.http2.events import Event, GoAway, PingAck, Reset, SettingsChanged, WindowOpened
from hostmesh.wire.http2.frames import HEADER_WORD, STREAM_MASK
from hostmesh.wire.http2.limits import (
    MAX_GOAWAY_PAYLOAD,
    MAX_SETTINGS_PAYLOAD,
)
from hostmesh.wire.http2.state import ConnectionState

_PRIORITY_LENGTH = 5
_BLOCK_OVERHEAD = 512
"""Padding, priority and length octets beside a header list of the largest permitted size."""


class _Rule(NamedTuple):
    """What a frame's header may say: payload lengths, and whether it belongs to a stream, the connection or both."""

    shortest: int
    longest: int
    on_stream: bool
    on_connection: bool


class ControlFrames:
    """The handlers, and the counts of what costs us work and the peer nothing."""

    __slots__ = ("_greeted", "_idle_frames", "_pings", "_rules", "_settings", "_state", "blocks")

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self.blocks = HeaderBlocks(state)
        self._greeted = False
        longest = state.limits.max_frame_size
        block = min(state.limits.max_header_list_size + _BLOCK_OVERHEAD, longest)
        self._rules = {
            frames.DATA: _Rule(0, longest, True, False),
            frames.HEADERS: _Rule(0, block, True, False),
            frames.PRIORITY: _Rule(0, longest, True, False),
            frames.RST_STREAM: _Rule(4, 4, True, False),
            frames.SETTINGS: _Rule(0, MAX_SETTINGS_PAYLOAD, False, True),
            frames.PUSH_PROMISE: _Rule(0, longest, True, False),
            frames.PING: _Rule(8, 8, False, True),
            frames.GOAWAY: _Rule(8, MAX_GOAWAY_PAYLOAD, False, True),
            frames.WINDOW_UPDATE: _Rule(4, 4, True, True),
            frames.CONTINUATION: _Rule(0, block, True, False),
        }
        self._pings = 0
        self._settings = 0
        self._idle_frames = 0

    def forgive(self) -> None:
        """Time has passed: start counting floods anew."""
        self._pings = self._settings = self._idle_frames = 0
        self._state.rapid_resets = 0

    def count_idle(self) -> None:
        """A frame came that carries nothing.

        Raises:
            Http2Error: too many.
        """
        self._idle_frames += 1
        if self._idle_frames > self._state.limits.max_idle_frames:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def admit(self, kind: int, number: int, length: int, events: list[Event]) -> None:
        """Judge a frame by its header alone, before anything of it is kept.

        Raises:
            Http2Error: it may not come here, or not in this size.
        """
        continuing = self.blocks.continuing
        if continuing and (kind != frames.CONTINUATION or number != continuing):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"frame of type {kind} inside the header block of {continuing}")
        if not self._greeted and kind != frames.SETTINGS:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"frame of type {kind} before SETTINGS")
        rule = self._rules.get(kind)
        if rule is None:
            self.count_idle()
            return
        shortest, longest, on_stream, on_connection = rule
        if not (on_stream if number else on_connection):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"frame of type {kind} on stream {number}")
        if not shortest <= length <= longest:
            # Sizes that the protocol leaves open are bounded by us.
            code = ErrorCode.FRAME_SIZE_ERROR if shortest else ErrorCode.ENHANCE_YOUR_CALM
            raise Http2Error(code, f"frame of type {kind} with {length} bytes")
        if kind == frames.PUSH_PROMISE:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody asked for")
        if kind == frames.PRIORITY:
            self._judge_priority(number, length, events)

    def _judge_priority(self, number: int, length: int, events: list[Event]) -> None:
        self.count_idle()
        if length == _PRIORITY_LENGTH:
            return
        reason = f"PRIORITY of {length} bytes"
        if self._state.is_idle(number):
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, reason)
        self._state.fail_stream(StreamError(number, ErrorCode.FRAME_SIZE_ERROR, reason), events)

    def handle(self, kind: int, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        """Process one admitted frame.

        Raises:
            Http2Error: the connection is over.
        """
        # No table of bound methods: it would tie each connection to itself until the collector comes.
        match kind:
            case frames.HEADERS:
                self.blocks.on_headers(flags, number, payload, events)
            case frames.WINDOW_UPDATE:
                self._on_window_update(flags, number, payload, events)
            case frames.RST_STREAM:
                self._on_rst_stream(flags, number, payload, events)
            case frames.SETTINGS:
                self._on_settings(flags, number, payload, events)
            case frames.PING:
                self._on_ping(flags, number, payload, events)
            case frames.GOAWAY:
                self._on_goaway(flags, number, payload, events)
            case _:  # CONTINUATION: nothing else has passed `admit`
                self.blocks.on_continuation(flags, number, payload, events)

    def _on_rst_stream(self, _flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        state = self._state
        stream = state.streams.get(number)
        if stream is None:
            if state.is_idle(number):
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on idle stream {number}")
            self.count_idle()
            return
        if not stream.answered:
            state.count_rapid_reset()
        state.drop(stream)
        events.append(Reset(number, error_code(HEADER_WORD.unpack(payload)[0])))

    def _on_settings(self, flags: int, _number: int, payload: bytes, events: list[Event]) -> None:
        if flags & frames.ACK:
            self._on_settings_ack(payload)
            return
        self._greeted = True
        self._settings += 1
        if self._settings > self._state.limits.max_settings:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many SETTINGS")
        state = self._state
        before = state.peer.initial_window
        state.peer.apply(payload, state.role)
        change = state.peer.initial_window - before
        state.out.write_frame(frames.SETTINGS, frames.ACK, 0, b"")
        events.append(SettingsChanged())
        if change:
            self._shift_windows(change, events)

    def _shift_windows(self, change: int, events: list[Event]) -> None:
        opened = False
        for stream in self._state.streams.values():
            if not stream.widen(change):
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE takes a window above 2^31-1")
            if stream.blocked and stream.send > 0:
                stream.blocked = False
                opened = True
        if opened:
            events.append(WindowOpened(0))

    def _on_settings_ack(self, payload: bytes) -> None:
        state = self._state
        if payload:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS acknowledgement with a payload")
        if not self._greeted:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a SETTINGS acknowledgement before SETTINGS")
        if state.acknowledged:
            self.count_idle()
            return
        state.acknowledged = True
        self.blocks.decoder.acknowledged()
        change = state.limits.stream_window - state.initial_receive
        if change:
            state.initial_receive += change
            for stream in state.streams.values():
                stream.receive += change

    def _on_ping(self, flags: int, _number: int, payload: bytes, events: list[Event]) -> None:
        if flags & frames.ACK:
            events.append(PingAck(payload))
            return
        self._pings += 1
        if self._pings > self._state.limits.max_pings:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many PINGs")
        self._state.out.write_frame(frames.PING, frames.ACK, 0, payload)

    def _on_goaway(self, _flags: int, _number: int, payload: bytes, events: list[Event]) -> None:
        state = self._state
        last = HEADER_WORD.unpack_from(payload)[0] & STREAM_MASK
        code = error_code(HEADER_WORD.unpack_from(payload, 4)[0])
        if last > state.last_processed:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "GOAWAY raises its last stream")
        self.count_idle()
        state.last_processed = last
        state.goaway_received = True
        if not state.server:
            for stream in [stream for number, stream in state.streams.items() if number > last]:
                state.drop(stream)
                events.append(Reset(stream.id, ErrorCode.REFUSED_STREAM))
        events.append(GoAway(last, code))

    def _on_window_update(self, _flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        increment = HEADER_WORD.unpack(payload)[0] & STREAM_MASK
        if number:
            self._widen_stream(number, increment, events)
            return
        state = self._state
        if not increment:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if not state.flow.widen(increment):
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window above 2^31-1")
        if state.blocked:
            state.blocked = False
            events.append(WindowOpened(0))

    def _widen_stream(self, number: int, increment: int, events: list[Event]) -> None:
        state = self._state
        stream = state.streams.get(number)
        if stream is None:
            if state.is_idle(number):
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE on idle stream {number}")
            self.count_idle()
        elif not increment:
            state.fail_stream(StreamError(number, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0"), events)
        elif not stream.widen(increment):
            state.fail_stream(StreamError(number, ErrorCode.FLOW_CONTROL_ERROR, "a window above 2^31-1"), events)
        elif stream.blocked and stream.send > 0:
            stream.blocked = False
            events.append(WindowOpened(number))
