"""Header blocks: how they are put together, what opens, answers and ends a stream (RFC 9113 §4.3, §8.1)."""

from __future__ import annotations

import pytest
from tests.support.http2 import CONNECT, CONNECT_BLOCK, OK, OK_BLOCK, Frame, client, data, headers, ping, server

from hostmesh.wire.http2 import frames, limits
from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.events import Data, Headers, Reset
from hostmesh.wire.http2.frames import END_HEADERS, END_STREAM, HAS_PRIORITY, PADDED, frame
from hostmesh.wire.http2.headers import encode
from hostmesh.wire.http2.limits import Limits


def continuation(stream: int, block: bytes, flags: int = 0) -> bytes:
    return frame(frames.CONTINUATION, flags, stream, block)


def rst(stream: int, code: ErrorCode) -> Frame:
    return Frame(frames.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def test_a_request_opens_a_stream() -> None:
    """HEADERS on an idle stream of the client's is a request; END_STREAM ends its direction."""
    wire = server()
    assert wire.feed(headers(1), headers(7, flags=END_HEADERS | END_STREAM)) == [
        Headers(1, list(CONNECT), False),
        Headers(7, list(CONNECT), True),
    ]
    assert wire.connection.streams_open == 2


def test_a_response_is_reported() -> None:
    """The first final HEADERS of the server answers."""
    wire = client()
    stream = wire.connection.open_stream(CONNECT_BLOCK)
    assert wire.feed(headers(stream, OK_BLOCK)) == [Headers(stream, list(OK), False)]


def test_a_response_may_be_all() -> None:
    """END_STREAM on the answer: nothing follows, a refusal for instance."""
    wire = client()
    wire.connection.open_stream(CONNECT_BLOCK, end=True)
    refusal = encode([(b":status", b"503")])
    assert wire.feed(headers(1, refusal, END_HEADERS | END_STREAM)) == [Headers(1, [(b":status", b"503")], True)]
    assert wire.connection.streams_open == 0


def test_informational_responses_are_passed_over() -> None:
    """1xx is not the answer (§8.1); one that ends the stream is malformed."""
    wire = client()
    for _ in range(2):
        wire.connection.open_stream(CONNECT_BLOCK)
    early = encode([(b":status", b"103")])
    assert wire.feed(headers(1, early), headers(1, early), headers(1, OK_BLOCK)) == [Headers(1, list(OK), False)]
    assert wire.feed(headers(3, early, END_HEADERS | END_STREAM)) == [Reset(3, ErrorCode.PROTOCOL_ERROR)]


def test_padding_and_priority_are_dropped() -> None:
    """HEADERS may carry both (§6.2)."""
    wire = server()
    block = b"\x20" + CONNECT_BLOCK
    both = b"\x04" + b"\x80\0\0\1\x10" + block + b"\0" * 4
    assert wire.feed(
        frame(frames.HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, 1, both),
        frame(frames.HEADERS, END_HEADERS | HAS_PRIORITY, 3, both[1:-4]),
        frame(frames.HEADERS, END_HEADERS | PADDED, 5, b"\0" + block),
    ) == [Headers(number, list(CONNECT), False) for number in (1, 3, 5)]


@pytest.mark.parametrize(
    ("flags", "payload", "code"),
    [
        (PADDED, b"", ErrorCode.FRAME_SIZE_ERROR),
        (PADDED, b"\x02x", ErrorCode.PROTOCOL_ERROR),
        (HAS_PRIORITY, b"1234", ErrorCode.FRAME_SIZE_ERROR),
        (PADDED | HAS_PRIORITY, b"\x0112345", ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_headers_too_short_for_their_flags(flags: int, payload: bytes, code: ErrorCode) -> None:
    """Padding or priority that is not there is an error of the connection (§6.2)."""
    assert server().fails(frame(frames.HEADERS, END_HEADERS | flags, 1, payload)) is code


def test_continuation() -> None:
    """A block may be cut anywhere over HEADERS and CONTINUATION; END_STREAM is the former's (§6.10)."""
    wire = server()
    block = b"\x20" + CONNECT_BLOCK
    assert wire.feed(
        frame(frames.HEADERS, END_STREAM, 1, block[:1]),
        continuation(1, b""),
        continuation(1, block[1:9]),
        continuation(1, block[9:], END_HEADERS),
    ) == [Headers(1, list(CONNECT), True)]


@pytest.mark.parametrize("between", [ping(), data(1, b"x"), headers(3), frame(0x42, 0, 0, b""), continuation(1, b"")])
def test_nothing_comes_between(between: bytes) -> None:
    """Until END_HEADERS only CONTINUATION of that stream may come: PROTOCOL_ERROR (§6.10)."""
    assert server(streams=1).fails(headers(3, flags=0), between) is ErrorCode.PROTOCOL_ERROR


def test_continuation_without_headers() -> None:
    """PROTOCOL_ERROR (§6.10)."""
    assert server(streams=1).fails(continuation(1, b"")) is ErrorCode.PROTOCOL_ERROR


def test_continuation_floods() -> None:
    """Neither the number of pieces nor their sum may grow without end (CVE-2024-27316)."""
    start = headers(1, flags=0)
    pieces = [continuation(1, b"")] * (limits.MAX_CONTINUATIONS + 1)
    assert server().fails(start, *pieces) is ErrorCode.ENHANCE_YOUR_CALM
    assert server().fails(start, *[continuation(1, b"x" * 16384)] * 5) is ErrorCode.ENHANCE_YOUR_CALM


def test_continuations_are_counted_per_block() -> None:
    """A long life with long blocks is no flood."""
    wire = server(Limits(max_concurrent_streams=1000))
    for number in range(1, 201, 2):
        wire.feed(headers(number, flags=0), *[continuation(number, b"")] * 9, continuation(number, b"", END_HEADERS))
    assert wire.connection.streams_open == 100


def test_the_peer_must_heed_our_table_size() -> None:
    """We advertised none: the first block after the acknowledgement reduces the table, or it is an error (§4.3.1)."""
    assert server().fails(frame(frames.HEADERS, END_HEADERS, 1, CONNECT_BLOCK)) is ErrorCode.COMPRESSION_ERROR


def test_header_list_limit() -> None:
    """A list above what we advertise ends the connection: its compression state cannot be followed (§10.5.1)."""
    wire = server()
    room = 65536 - sum(len(name) + len(value) + 32 for name, value in CONNECT) - 33
    assert len(wire.feed(headers(1, encode([*CONNECT, (b"x", b"y" * room)])))) == 1
    code = wire.fails(headers(3, encode([*CONNECT, (b"x", b"y" * (room + 1))])))
    assert code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "fields",
    [
        [*CONNECT, (b":scheme", b"https")],
        [(b":method", b"CONNECT"), (b":scheme", b"https"), (b":authority", b"a:1"), (b":path", b"/")],
        [(b":method", b"CONNECT")],
        [*CONNECT, (b":protocol", b"websocket")],
        [*CONNECT, (b"Upper", b"x")],
        [*CONNECT, (b"connection", b"close")],
        [(b"x", b"y"), *CONNECT],
        [*CONNECT, (b"x", b"a\r\nb")],
        [],
    ],
)
def test_malformed_requests_are_reset(fields: list[tuple[bytes, bytes]]) -> None:
    """A malformed request is an error of its stream, and nobody hears of it (§8.1.1, §8.5)."""
    wire = server()
    assert wire.feed(headers(1, encode(fields)), data(1, b"under way"), headers(3)) == [
        Headers(3, list(CONNECT), False)
    ]
    assert wire.sent() == [rst(1, ErrorCode.PROTOCOL_ERROR)]


def test_a_malformed_response_resets_its_stream() -> None:
    """The owner is told."""
    wire = client()
    wire.connection.open_stream(CONNECT_BLOCK)
    assert wire.feed(headers(1, encode([(b":status", b"20x")]))) == [Reset(1, ErrorCode.PROTOCOL_ERROR)]


def test_too_many_streams_are_refused() -> None:
    """REFUSED_STREAM: the client may try again (§5.1.2). A stream that ended makes room."""
    wire = server(Limits(max_concurrent_streams=2), streams=2)
    assert wire.feed(headers(5)) == []
    assert wire.sent() == [rst(5, ErrorCode.REFUSED_STREAM)]
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    assert wire.feed(headers(7)) == [Headers(7, list(CONNECT), False)]


def test_refused_blocks_still_count_for_compression() -> None:
    """What a refused block put into the header table is there for the next one (§4.3)."""
    wire = server(Limits(max_concurrent_streams=1), streams=1)
    assert wire.feed(headers(3)) == []
    wire.connection.goaway()
    assert wire.feed(headers(5)) == []
    assert wire.fails(headers(7, b"\xff\xff\xff\xff\xff\xff\xff")) is ErrorCode.COMPRESSION_ERROR


def test_stream_ids() -> None:
    """A client's streams are odd and rise (§5.1.1)."""
    assert server().fails(headers(2)) is ErrorCode.PROTOCOL_ERROR
    wire = server()
    wire.feed(headers(5))
    assert wire.fails(headers(3)) is ErrorCode.STREAM_CLOSED


def test_trailers_end_the_stream() -> None:
    """A second HEADERS with END_STREAM is the end, without data."""
    trailers = headers(1, encode([(b"grpc-status", b"0")]), END_HEADERS | END_STREAM)
    assert server(streams=1).feed(trailers) == [Data(1, memoryview(b""), True)]
    assert client(streams=1).feed(trailers) == [Data(1, memoryview(b""), True)]


@pytest.mark.parametrize(
    "wrong",
    [
        headers(1, encode([(b"x", b"y")])),
        headers(1, encode([(b":status", b"200")]), END_HEADERS | END_STREAM),
        headers(1, encode([(b"te", b"gzip")]), END_HEADERS | END_STREAM),
    ],
)
def test_malformed_trailers(wrong: bytes) -> None:
    """Trailers end the stream and carry no pseudo field (§8.1)."""
    assert server(streams=1).feed(wrong) == [Reset(1, ErrorCode.PROTOCOL_ERROR)]


def test_headers_after_the_end() -> None:
    """On a half-closed stream an error of the stream, on a closed one of the connection: STREAM_CLOSED (§5.1)."""
    wire = server(streams=2)
    wire.feed(data(1, b"", END_STREAM), data(3, b"", END_STREAM))
    assert wire.feed(headers(1)) == [Reset(1, ErrorCode.STREAM_CLOSED)]
    wire.connection.end_stream(3)
    assert wire.fails(headers(3)) is ErrorCode.STREAM_CLOSED


def test_headers_on_a_stream_that_we_reset() -> None:
    """They were under way: ignored (§5.1)."""
    wire = client(streams=1)
    wire.connection.reset_stream(1, ErrorCode.CANCEL)
    wire.sent()
    assert wire.feed(headers(1, encode([(b"x", b"y")]), END_HEADERS | END_STREAM)) == []
    assert wire.sent() == []
