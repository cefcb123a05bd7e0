"""Header blocks of peers: RFC 7541, with bounds."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.http2.decoder import Decoder
from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.headers import encode

LIMIT = 65536
REQUEST = [
    (b":method", b"CONNECT"),
    (b":authority", b"10.0.0.7:8080"),
    (b"baggage", b"k8s.cluster.name=Kubernetes,service.name=web"),
    (b"forwarded", b'for="10.0.0.1:4711"'),
    (b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-00"),
]

names = st.binary(max_size=40)
values = st.binary(max_size=300)
fields = st.lists(st.tuples(names, values), max_size=12)


def fails(decoder: Decoder, block: bytes) -> ErrorCode:
    with pytest.raises(Http2Error) as caught:
        decoder.decode(block)
    return caught.value.code


def stateless() -> Decoder:
    decoder = Decoder(LIMIT)
    decoder.acknowledged()
    decoder.decode(b"\x20")
    return decoder


@given(st.lists(st.tuples(fields, st.booleans()), max_size=6), st.sampled_from([0, 60, 200, 4096]))
def test_reads_what_a_stateful_encoder_writes(blocks: list[tuple[list[tuple[bytes, bytes]], bool]], size: int) -> None:
    """Dynamic table, evictions, Huffman: the `hpack` library's encoder over several blocks of one connection."""
    encoder = hpack.Encoder()
    encoder.header_table_size = size
    decoder = Decoder(LIMIT)
    for block, huffman in blocks:
        assert decoder.decode(encoder.encode(block, huffman=huffman)) == [(name, value) for name, value in block]


@given(fields)
def test_reads_our_own_blocks(block: list[tuple[bytes, bytes]]) -> None:
    """Stateless blocks, with the table already reduced to nothing."""
    assert stateless().decode(encode(block)) == block


def test_never_indexed_and_indexed_without_a_table() -> None:
    """Every literal form is the same to us once the table has no room."""
    decoder = stateless()
    for first in (0x00, 0x10, 0x40):
        assert decoder.decode(bytes((first,)) + b"\x01a\x01b") == [(b"a", b"b")]
    assert fails(decoder, b"\xbe") is ErrorCode.COMPRESSION_ERROR, "nothing was indexed"


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\xff\xff\xff\xff\x0f",
        b"\x7f\xff\xff\xff\xff\xff\xff\x0f",
        b"\x00",
        b"\x00\x05abc",
        b"\x00\x01a\x05abc",
        b"\x00\x01a",
        b"\x40\x7f",
        b"\x00\x81\x00\x01x",
        b"\x00\x81\xff\x01x",
        b"\x82\x20",
        b"\x3f\xe2\x1f",
        b"\x0f\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x01a\x7f" + b"\x80" * 5 + b"\x00" + b"x" * 127,
    ],
)
def test_broken_blocks(block: bytes) -> None:
    """Bad index, cut off, oversized integer, bad Huffman, misplaced or excessive table size: COMPRESSION_ERROR."""
    assert fails(Decoder(LIMIT), block) is ErrorCode.COMPRESSION_ERROR


def test_the_table_must_shrink_after_our_settings() -> None:
    """The block that follows the acknowledgement starts with the reduction (RFC 9113 §4.3.1)."""
    decoder = Decoder(LIMIT)
    assert decoder.decode(b"\x40\x01a\x01b\xbe") == [(b"a", b"b")] * 2
    decoder.acknowledged()
    assert fails(decoder, b"\x82") is ErrorCode.COMPRESSION_ERROR
    decoder = Decoder(LIMIT)
    decoder.acknowledged()
    assert decoder.decode(b"\x20\x82") == [(b":method", b"GET")]
    assert decoder.decode(b"\x82") == [(b":method", b"GET")]
    assert fails(decoder, b"\x21\x82") is ErrorCode.COMPRESSION_ERROR


def test_list_size_counts_each_field() -> None:
    """32 bytes of overhead per field (RFC 9113 §6.5.2), so that many small ones are bounded too."""
    decoder = Decoder(10 * (len(b":methodGET") + 32))
    assert len(decoder.decode(b"\x82" * 10)) == 10
    assert fails(decoder, b"\x82" * 11) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_small_block_cannot_become_a_large_list() -> None:
    """Indexed references to one large entry multiply; the limit applies while decoding."""
    decoder = Decoder(LIMIT)
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000)
    assert fails(decoder, b"\xbe" * 60000) is ErrorCode.ENHANCE_YOUR_CALM


@given(st.binary(max_size=200))
def test_any_block_decodes_or_fails_alike(block: bytes) -> None:
    """Arbitrary bytes: the same fields as the `hpack` library finds, and none where it finds none."""
    theirs: object
    try:
        theirs = [tuple(field) for field in hpack.Decoder().decode(block, raw=True)]
    except (hpack.HPACKError, IndexError):
        theirs = None
    ours: object
    try:
        ours = Decoder(LIMIT).decode(block)
    except Http2Error:
        ours = None
    assert ours == theirs


def test_a_request_as_ztunnel_writes_it() -> None:
    """Huffman throughout, no indexing after our settings."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    decoder = Decoder(LIMIT)
    decoder.acknowledged()
    for _ in range(2):
        assert decoder.decode(encoder.encode(REQUEST, huffman=True)) == REQUEST
