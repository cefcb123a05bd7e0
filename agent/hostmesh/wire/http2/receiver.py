"""Bytes to frames: the input side's loop, and DATA, which is never copied nor waited for whole (RFC 9113 §4, §6.1)."""

from __future__ import annotations

from typing import Final

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.control import ControlFrames
from hostmesh.wire.http2.errors import ErrorCode, Http2Error, StreamError
from hostmesh.wire.http2.events import Data, Event
from hostmesh.wire.http2.flow import Stream
from hostmesh.wire.http2.frames import HEADER_SIZE, STREAM_MASK
from hostmesh.wire.http2.output import EMPTY
from hostmesh.wire.http2.state import ConnectionState

_unpack_header: Final = frames.HEADER.unpack_from
_INCOMPLETE: Final = -1


class Receiver:
    """Cuts the input into frames.

    `_held` is the beginning of a frame whose rest has not come: a header, or a control frame, which is bounded. Of a
    DATA frame, and of frames to be ignored, only counters are kept: `_left` payload bytes for stream `_stream` (0:
    nobody), then `_padding`.
    """

    __slots__ = (
        "_blocks",
        "_end",
        "_held",
        "_left",
        "_max_frame",
        "_need",
        "_padding",
        "_preface",
        "_state",
        "_stream",
        "control",
    )

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self.control = ControlFrames(state)
        self._blocks = self.control.blocks
        self._max_frame = state.limits.max_frame_size
        self._preface = frames.PREFACE if state.server else b""
        self._held = bytearray()
        self._need = HEADER_SIZE
        self._left = 0
        self._padding = 0
        self._stream = 0
        self._end = False

    def receive(self, data: memoryview, events: list[Event]) -> None:
        """Process everything in `data`, appending to `events`.

        Raises:
            Http2Error: the connection is over.
        """
        position = 0
        if self._preface:
            position = self._match_preface(data)
        if self._held:
            position = self._complete_held(data, position, events)
        if self._left or self._padding:
            position = self._resume(data, position, events)
        state = self._state
        streams = state.streams
        flow = state.flow
        blocks = self._blocks
        size = len(data)
        # Said what they are, because `Struct` does not, and the compiler would reckon with objects.
        high: int
        low: int
        kind: int
        flags: int
        number: int
        while size - position >= HEADER_SIZE:
            high, low, kind, flags, number = _unpack_header(data, position)
            length = high << 8 | low
            number &= STREAM_MASK
            start = position + HEADER_SIZE
            end = start + length
            stream = None if kind or flags & frames.PADDED else streams.get(number)
            if (
                stream is not None
                and stream.receiving
                and end <= size
                and (length or flags & frames.END_STREAM)
                and length <= stream.receive
                and length <= flow.receive
                and length <= self._max_frame
                and not blocks.continuing
            ):
                stream.receive -= length
                flow.receive -= length
                stream.unread += length
                if flags & frames.END_STREAM:
                    events.append(Data(number, data[start:end], True))
                    state.end_remote(stream)
                else:
                    events.append(Data(number, data[start:end], False))
                position = end
                continue
            end = self._frame(data, start, kind, flags, number, length, events)
            if end == _INCOMPLETE:
                break
            position = end
        if position < size:
            self._held += data[position:]

    def _frame(
        self, data: memoryview, start: int, kind: int, flags: int, number: int, length: int, events: list[Event]
    ) -> int:
        """Process a frame whose payload begins at `start`; where to go on, or `_INCOMPLETE` with `_need` set."""
        control = self.control
        if length > self._max_frame:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes, {self._max_frame} advertised")
        control.admit(kind, number, length, events)
        size = len(data)
        if kind == frames.DATA:
            padding = 0
            if flags & frames.PADDED:
                if length and start == size:
                    self._need = HEADER_SIZE + 1
                    return _INCOMPLETE
                padding = data[start] + 1 if length else 1
                start += 1
            self._begin_data(length, padding, flags, number, events)
            return self._resume(data, start, events)
        if kind == frames.PRIORITY or kind > frames.CONTINUATION:
            self._skip(length)
            return self._resume(data, start, events)
        end = start + length
        if end > size:
            self._need = HEADER_SIZE + length
            return _INCOMPLETE
        control.handle(kind, flags, number, bytes(data[start:end]), events)
        return end

    def _begin_data(self, length: int, padding: int, flags: int, number: int, events: list[Event]) -> None:
        """Account a DATA frame as a whole; `padding` counts its length field, which the caller has consumed."""
        state = self._state
        if padding > length:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "DATA that is shorter than its padding")
        if length > state.flow.receive:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        state.flow.receive -= length
        stream = state.streams.get(number)
        refusal = self._why_not(stream, number, length)
        if stream is None or refusal is not None:
            state.credit_connection(length)
            self._skip(length - (1 if padding else 0))
            if refusal is not None:
                state.fail_stream(refusal, events)
            if refusal is not None or not length:
                self.control.count_idle()
            return
        stream.receive -= length
        if padding:
            state.credit_connection(padding)
            state.credit_stream(stream, padding)
        self._left = length - padding
        self._padding = max(padding - 1, 0)
        self._stream = number
        self._end = bool(flags & frames.END_STREAM)
        stream.unread += self._left
        if not self._left:
            if self._end:
                events.append(Data(number, EMPTY, True))
                state.end_remote(stream)
            else:
                self.control.count_idle()

    def _why_not(self, stream: Stream | None, number: int, length: int) -> StreamError | None:
        """Why DATA may not come on this stream now; None also for a stream whose late frames are ignored."""
        state = self._state
        if stream is None:
            if state.is_idle(number):
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"DATA on idle stream {number}")
            if number in state.remembered or number > state.last_accepted:
                return None
            return StreamError(number, ErrorCode.STREAM_CLOSED, "DATA on a closed stream")
        if stream.remote_ended:
            return StreamError(number, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        if not stream.receiving:
            return StreamError(number, ErrorCode.PROTOCOL_ERROR, "DATA before the response")
        if length > stream.receive:
            return StreamError(number, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        return None

    def _skip(self, length: int) -> None:
        self._left = length
        self._padding = 0
        self._stream = 0

    def _resume(self, data: memoryview, position: int, events: list[Event]) -> int:
        """Deliver, or skip, what `data` holds of the current payload; where the payload ends, or the data."""
        left = self._left
        available = len(data) - position
        if left:
            available = min(available, left)
            stream = self._state.streams.get(self._stream) if self._stream else None
            if stream is not None and available:
                ended = self._end and available == left
                events.append(Data(stream.id, data[position : position + available], ended))
                if ended:
                    self._state.end_remote(stream)
            self._left = left - available
            position += available
            available = len(data) - position
        if self._padding and not self._left:
            skipped = min(available, self._padding)
            self._padding -= skipped
            position += skipped
        return position

    def _complete_held(self, data: memoryview, position: int, events: list[Event]) -> int:
        """Fill up the frame that was cut off, in steps of what is known to be needed."""
        held = self._held
        while True:
            missing = self._need - len(held)
            if missing > 0:
                piece = data[position : position + missing]
                held += piece
                position += len(piece)
                if len(piece) < missing:
                    return position
            whole = memoryview(bytes(held))
            high, low, kind, flags, number = _unpack_header(whole)
            end = self._frame(whole, HEADER_SIZE, kind, flags, number & STREAM_MASK, high << 8 | low, events)
            if end != _INCOMPLETE:
                held.clear()
                self._need = HEADER_SIZE
                return position

    def _match_preface(self, data: memoryview) -> int:
        expected = self._preface[: len(data)]
        if data[: len(expected)] != expected:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 client preface")
        self._preface = self._preface[len(expected) :]
        return len(expected)
