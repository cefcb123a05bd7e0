"""Huffman-coded strings of header blocks, a byte at a time (RFC 7541 §5.2).

The `hpack` library's automaton takes half a byte per step; its steps are joined in pairs, each when first met.
"""

from __future__ import annotations

from functools import lru_cache

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

_Step = tuple[int, bytes, bool]

_STATES = len(HUFFMAN_TABLE) // 16
_steps: list[_Step | None] = [None] * (_STATES * 256)

_CACHED_LENGTH = 256


class BadHuffman(ValueError):
    """Not a Huffman string: EOS inside, or padding that is not the start of EOS."""


def decode(coded: bytes) -> bytes:
    """Decode one string; short ones are remembered, because peers repeat names and most values.

    Raises:
        BadHuffman: see there.
    """
    return _remembered(coded) if len(coded) <= _CACHED_LENGTH else _decode(coded)


def _decode(coded: bytes) -> bytes:
    state = 0
    complete = True
    pieces = []
    for byte in coded:
        step = _steps[state | byte] or _learn(state, byte)
        state, piece, complete = step
        pieces.append(piece)
    if not complete:
        raise BadHuffman("incomplete Huffman string")
    return b"".join(pieces)


_remembered = lru_cache(maxsize=2048)(_decode)


def _learn(state: int, byte: int) -> _Step:
    node = state >> 8
    emitted = bytearray()
    flags = 0
    for nibble in (byte >> 4, byte & 0xF):
        node, flags, symbol = HUFFMAN_TABLE[node * 16 + nibble]
        if flags & HUFFMAN_FAIL:
            raise BadHuffman("invalid Huffman string")
        if flags & HUFFMAN_EMIT_SYMBOL:
            emitted.append(symbol)
    step = (node << 8, bytes(emitted), bool(flags & HUFFMAN_COMPLETE))
    _steps[state | byte] = step
    return step
