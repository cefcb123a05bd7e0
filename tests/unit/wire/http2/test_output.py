"""The output buffer: one piece of memory, bounded, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.limits import CONTROL_ROOM
from hostmesh.wire.http2.output import OutputBuffer

LIMIT = 64 << 10


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 200_000)), max_size=40))
def test_bytes_leave_in_the_order_they_came(steps: list[tuple[int, int]]) -> None:
    """Any mixture of writing and partial sending, compaction included."""
    out = OutputBuffer(LIMIT)
    given_bytes, taken = bytearray(), bytearray()
    for number, (write, send) in enumerate(steps):
        size = min(write, LIMIT + CONTROL_ROOM - (out.end - out.start))
        chunk = bytes((number,)) * size
        out.write(chunk)
        given_bytes += chunk
        part = bytes(out.pending()[:send])
        taken += part
        out.sent(len(part))
    assert taken + bytes(out.pending()) == given_bytes


@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 100_000)), max_size=60))
def test_room_is_real(steps: list[tuple[int, int]]) -> None:
    """What room() promises is there, within the limit for DATA, and there is some whenever nothing is pending."""
    out = OutputBuffer(LIMIT)
    for want, send in steps:
        room = out.room(want)
        assert room <= min(want, LIMIT - (out.end - out.start))
        assert room > 0 or out.end - out.start == LIMIT
        assert len(out.view[out.end : out.end + room]) == room
        out.write(b"x" * room)
        out.sent(min(send, out.end - out.start))


def test_full_means_full() -> None:
    """Control frames may use their room, then it is over; the last words still go out if they fit."""
    out = OutputBuffer(LIMIT)
    out.write(b"x" * (LIMIT + CONTROL_ROOM - 10))
    with pytest.raises(Http2Error) as caught:
        out.write_frame(0x6, 0, 0, b"12345678")
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert out.full
    out.write_last(b"0123456789")
    out.write_last(b"lost")
    assert bytes(out.pending()[-10:]) == b"0123456789"


@pytest.mark.parametrize("framed", [False, True])
def test_what_was_sent_makes_room(framed: bool) -> None:
    """At the end of the memory what is pending moves to the front, also for control frames."""
    out = OutputBuffer(LIMIT)
    out.write(b"a" * (LIMIT + CONTROL_ROOM - 20))
    out.sent(LIMIT + CONTROL_ROOM - 100)
    if framed:
        out.write_frame(0x6, 1, 0, b"12345678" * 10)
        assert bytes(out.pending()) == b"a" * 80 + b"\0\0\x50\x06\x01\0\0\0\0" + b"12345678" * 10
    else:
        out.write(b"b" * 1000)
        assert bytes(out.pending()) == b"a" * 80 + b"b" * 1000


def test_views_stay_valid() -> None:
    """The memory never moves: a view made early sees what is written later."""
    out = OutputBuffer(LIMIT)
    place = out.view[0:5]
    out.write(b"hello")
    assert bytes(place) == b"hello"


def test_sending_more_than_there_is() -> None:
    """A bug of the caller."""
    out = OutputBuffer(LIMIT)
    out.write(b"abc")
    for wrong in (4, -1):
        with pytest.raises(ValueError, match="pending"):
            out.sent(wrong)


def test_release_keeps_what_is_pending() -> None:
    """Memory goes back only when nothing waits; the buffer works on."""
    out = OutputBuffer(1 << 20)
    out.write(b"x" * (1 << 20))
    out.release()
    assert bytes(out.pending()) == b"x" * (1 << 20)
    out.sent(1 << 20)
    out.release()
    assert bytes(out.view[512 << 10 : (512 << 10) + 4]) == b"\0" * 4, "given back to the kernel"
    out.write(b"again")
    assert bytes(out.pending()) == b"again"
