"""Header blocks as we send them: stateless, from the static table and literals that are never indexed (RFC 7541)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hpack.table import HeaderTable

from hostmesh.wire.http2.events import Field

TABLE_SIZE_ZERO: Final = b"\x20"
"""A dynamic table size update to 0. Starts the first block of a connection, so that a peer that advertises a smaller
table finds the reduction already done (RFC 9113 §4.3.1)."""

_EXACT: Final[dict[Field, int]] = {}
_NAMES: Final[dict[bytes, int]] = {}
for _index, (_name, _value) in enumerate(HeaderTable.STATIC_TABLE, 1):
    _EXACT.setdefault((_name, _value), _index)
    _NAMES.setdefault(_name, _index)


def encode(fields: Iterable[Field]) -> bytes:
    """A header block; blocks and parts of blocks may be joined, pseudo fields first. Names must be lower case."""
    return b"".join([encode_field(name, value) for name, value in fields])


def encode_field(name: bytes, value: bytes) -> bytes:
    """One field, never indexed by either end, without Huffman coding."""
    exact = _EXACT.get((name, value)) if value else None
    if exact is not None:
        return bytes((0x80 | exact,))
    index = _NAMES.get(name)
    start = b"\x00" + encode_string(name) if index is None else encode_integer(index, 0x0F)
    return start + encode_string(value)


def encode_string(text: bytes) -> bytes:
    """A string literal."""
    size = len(text)
    return (bytes((size,)) if size < 0x7F else encode_integer(size, 0x7F)) + text


def encode_integer(value: int, mask: int) -> bytes:
    """A prefixed integer under `mask` (0x7F for 7 bits); the bits above the prefix are 0."""
    if value < mask:
        return bytes((value,))
    out = bytearray((mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
