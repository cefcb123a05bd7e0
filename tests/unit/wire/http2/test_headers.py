"""Our header blocks (RFC 7541 §6), read by the `hpack` library."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.http2.headers import TABLE_SIZE_ZERO, encode, encode_field, encode_integer

fields = st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=20000)), max_size=5)


@given(fields)
def test_the_library_reads_them(block: list[tuple[bytes, bytes]]) -> None:
    """Stateless: a decoder that permits no table at all is content."""
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 0
    assert [tuple(one) for one in decoder.decode(TABLE_SIZE_ZERO + encode(block), raw=True)] == block
    assert not decoder.header_table.dynamic_entries


def test_the_static_table_is_used() -> None:
    """A 200 is one byte; a known name is an index."""
    assert encode_field(b":status", b"200") == b"\x88"
    assert encode_field(b":method", b"CONNECT") == b"\x02\x07CONNECT"
    assert encode_field(b"accept-encoding", b"br") == b"\x0f\x01\x02br"
    assert encode_field(b"baggage", b"") == b"\x00\x07baggage\x00"


@pytest.mark.parametrize(
    ("value", "mask", "coded"),
    [
        (10, 0x1F, b"\x0a"),
        (1337, 0x1F, b"\x1f\x9a\x0a"),
        (126, 0x7F, b"\x7e"),
        (127, 0x7F, b"\x7f\x00"),
        (255, 0x7F, b"\x7f\x80\x01"),
    ],
)
def test_integers(value: int, mask: int, coded: bytes) -> None:
    """The examples of RFC 7541 C.1, and the edges of a string's length."""
    assert encode_integer(value, mask) == coded
