"""Frame layout, by `hyperframe` (RFC 9113 §4.1)."""

from __future__ import annotations

from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame, WindowUpdateFrame

from hostmesh.wire.http2 import frames


def test_small_frames_are_as_hyperframe_writes_them() -> None:
    """WINDOW_UPDATE, RST_STREAM and GOAWAY, octet for octet."""
    assert frames.window_update(5, 77) == WindowUpdateFrame(5, window_increment=77).serialize()
    assert frames.rst_stream(2**31 - 1, 8) == RstStreamFrame(2**31 - 1, error_code=8).serialize()
    expected = GoAwayFrame(0, last_stream_id=9, error_code=11, additional_data=b"why").serialize()
    assert frames.goaway(9, 11, b"why") == expected


def test_long_frames() -> None:
    """The length has 24 bits."""
    size = (1 << 20) + 5
    header, length = Frame.parse_frame_header(
        memoryview(frames.frame(frames.DATA, frames.END_STREAM, 3, b"x" * size)[:9])
    )
    assert length == size
    assert (header.stream_id, header.flags) == (3, {"END_STREAM"})
