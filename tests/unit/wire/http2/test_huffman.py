"""Huffman strings (RFC 7541 §5.2)."""

from __future__ import annotations

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.http2 import huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


@given(st.binary(max_size=400))
def test_reads_what_the_library_writes(text: bytes) -> None:
    """Every octet, short (remembered) and long."""
    assert huffman.decode(ENCODER.encode(text)) == text
    assert huffman.decode(ENCODER.encode(text)) == text


@pytest.mark.parametrize("coded", [b"\x00", b"\xff", b"\x1f\xff", b"\xff\xff\xff\xff", b"\x3f\xff\xff\xff"])
def test_padding_and_eos(coded: bytes) -> None:
    """Padding is at most 7 ones; EOS may not occur."""
    with pytest.raises(huffman.BadHuffman):
        huffman.decode(coded)
