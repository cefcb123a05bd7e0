"""Answers of nf_tables as bytes; requests are proved on the kernel (tests/netns)."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.kernel.netlink_wire import Message, answers, attribute, attributes, decode, nested


def message(kind: int, sequence: int, code: int, rest: bytes = b"") -> bytes:
    length = 20 + len(rest)
    return struct.pack("=IHHIIi", length, kind, 0, sequence, 0, code) + rest + b"\0" * (-length % 4)


def test_answers_reads_acknowledgements_and_errors() -> None:
    """Sequence and code of each NLMSG_ERROR (2); other messages are passed over."""
    data = message(2, 1, 0, b"x" * 17) + message(3, 2, 5) + message(2, 3, -2)
    assert list(answers(data)) == [(1, 0), (3, -2)]


@given(st.binary(max_size=200))
@example(bytes(40))
def test_answers_survives_any_bytes(data: bytes) -> None:
    """A short or damaged datagram ends the reading."""
    assert len(list(answers(data))) <= len(data) // 16


@given(st.integers(1, 0x3FFF), st.binary(max_size=50), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1))
def test_what_is_built_is_read(kind: int, payload: bytes, flags: int, sequence: int) -> None:
    """Messages and attributes, also within others, whatever their padding."""
    body = nested(kind, attribute(7, payload), attribute(8, b"")) + attribute(kind, payload)
    built = Message(kind, flags, sequence, body)
    [read, again] = decode(built.encode() * 2)
    assert read == again == built
    [(outer, inner), plain] = attributes(read.body)
    assert (outer, plain) == (kind, (kind, payload))
    assert list(attributes(inner)) == [(7, payload), (8, b"")]


@given(st.binary(max_size=100))
@example(b"\x03\x00\x01\x00")
def test_attributes_survive_any_bytes(data: bytes) -> None:
    """A short or damaged one ends the reading."""
    assert sum(4 + len(payload) for _, payload in attributes(data)) <= len(data)
