"""Header blocks of the peer: put together from HEADERS and CONTINUATION, decoded, judged (RFC 9113 §4.3, §8.1)."""

from __future__ import annotations

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.decoder import Decoder
from hostmesh.wire.http2.errors import ErrorCode, Http2Error, StreamError
from hostmesh.wire.http2.events import Data, Event, Field, Headers
from hostmesh.wire.http2.fields import Malformed, check_request, check_response, check_trailers
from hostmesh.wire.http2.flow import Stream
from hostmesh.wire.http2.limits import MAX_CONTINUATIONS
from hostmesh.wire.http2.output import EMPTY
from hostmesh.wire.http2.state import ConnectionState

_PRIORITY_SIZE = 5
_BLOCK_SLACK = 512
"""Octets of representation beside the text of the largest permitted list; its fields count 32 each on top."""


class HeaderBlocks:
    """`continuing` is the stream whose CONTINUATION must come next, 0 for none."""

    __slots__ = ("_block", "_continuations", "_end", "_state", "continuing", "decoder")

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self.decoder = Decoder(state.limits.max_header_list_size)
        self.continuing = 0
        self._block = b""
        self._continuations = 0
        self._end = False

    def on_headers(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        """HEADERS, its padding and priority dropped.

        Raises:
            Http2Error: the connection is over.
        """
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = _strip(flags, payload)
        end = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._complete(number, payload, end, events)
            return
        self.continuing = number
        self._continuations = 0
        self._block = payload
        self._end = end

    def on_continuation(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        """CONTINUATION of the block that is open.

        Raises:
            Http2Error: there is none, or it grows beyond bounds.
        """
        if not self.continuing:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._continuations += 1
        if self._continuations > MAX_CONTINUATIONS:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATION frames")
        block = self._block + payload
        if len(block) > self._state.limits.max_header_list_size + _BLOCK_SLACK:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a header block above the advertised list size")
        self._block = block
        if flags & frames.END_HEADERS:
            self.continuing = 0
            self._block = b""
            self._complete(number, block, self._end, events)

    def _complete(self, number: int, block: bytes, end: bool, events: list[Event]) -> None:
        fields = self.decoder.decode(block)
        state = self._state
        stream = state.streams.get(number)
        try:
            if stream is None:
                self._without_stream(number, fields, end, events)
            elif stream.remote_ended:
                state.fail_stream(StreamError(number, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM"), events)
            elif stream.receiving:
                self._trailers(stream, fields, end, events)
            else:
                self._response(stream, fields, end, events)
        except Malformed as why:
            state.fail_stream(StreamError(number, ErrorCode.PROTOCOL_ERROR, str(why)), events)
        except StreamError as error:
            state.fail_stream(error, events)

    def _without_stream(self, number: int, fields: list[Field], end: bool, events: list[Event]) -> None:
        state = self._state
        if not state.is_idle(number):
            if number not in state.remembered and number <= state.last_accepted:
                raise Http2Error(ErrorCode.STREAM_CLOSED, f"HEADERS on closed stream {number}")
            return
        if not (state.server and number & 1):
            raise Http2Error(
                ErrorCode.PROTOCOL_ERROR, f"HEADERS opens stream {number}, which is not the peer's to open"
            )
        state.highest_peer_stream = number
        if number > state.last_accepted:
            return
        if len(state.streams) >= state.limits.max_concurrent_streams:
            raise StreamError(number, ErrorCode.REFUSED_STREAM, "too many streams")
        check_request(fields)
        stream = state.new_stream(number)
        stream.receiving = True
        events.append(Headers(number, fields, end))
        if end:
            state.end_remote(stream)

    def _response(self, stream: Stream, fields: list[Field], end: bool, events: list[Event]) -> None:
        status = check_response(fields)
        if status < 200:
            if end:
                raise Malformed("an informational response that ends the stream")
            return
        stream.receiving = True
        events.append(Headers(stream.id, fields, end))
        if end:
            self._state.end_remote(stream)

    def _trailers(self, stream: Stream, fields: list[Field], end: bool, events: list[Event]) -> None:
        check_trailers(fields)
        if not end:
            raise Malformed("trailers that do not end the stream")
        events.append(Data(stream.id, EMPTY, True))
        self._state.end_remote(stream)


def _strip(flags: int, payload: bytes) -> bytes:
    start = 0
    padding = 0
    if flags & frames.PADDED:
        if not payload:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "padded HEADERS without a padding length")
        padding = payload[0]
        start = 1
    if flags & frames.HAS_PRIORITY:
        start += _PRIORITY_SIZE
    if start > len(payload):
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "HEADERS shorter than its priority field")
    if start + padding > len(payload):
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "HEADERS shorter than its padding")
    return payload[start : len(payload) - padding]
