"""Answers of nf_tables as bytes; requests are proved on the kernel (tests/netns)."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.kernel.netlink import _answers


def message(kind: int, sequence: int, code: int, rest: bytes = b"") -> bytes:
    length = 20 + len(rest)
    return struct.pack("=IHHIIi", length, kind, 0, sequence, 0, code) + rest + b"\0" * (-length % 4)


def test_answers_reads_acknowledgements_and_errors() -> None:
    """Sequence and code of each NLMSG_ERROR (2); other messages are passed over."""
    data = message(2, 1, 0, b"x" * 17) + message(3, 2, 5) + message(2, 3, -2)
    assert list(_answers(data)) == [(1, 0), (3, -2)]


@given(st.binary(max_size=200))
@example(bytes(40))
def test_answers_survives_any_bytes(data: bytes) -> None:
    """A short or damaged datagram ends the reading."""
    assert len(list(_answers(data))) <= len(data) // 16
