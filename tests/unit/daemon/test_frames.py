"""Frames between main and its workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.daemon.frames import FrameReader, FrameTooLarge, frame
from hostmesh.wire.proto import worker_pb2 as pb


@given(ids=st.lists(st.integers(0, 2**63), max_size=20), cuts=st.lists(st.integers(1, 50), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_frames(ids: list[int], cuts: list[int]) -> None:
    """A stream socket cuts where it likes."""
    stream = b"".join(frame(pb.ToWorker(report=pb.ReportRequest(id=i))) for i in ids)
    reader = FrameReader(1 << 10)
    seen: list[int] = []
    position = 0
    for size in [*cuts, len(stream)]:
        bodies = reader.feed(stream[position : position + size])
        seen.extend(pb.ToWorker.FromString(body).report.id for body in bodies)
        position += size
    assert seen == ids


def test_a_length_above_the_limit_is_refused_before_its_bytes_are_kept() -> None:
    """A worker cannot make main hold more than the limit."""
    reader = FrameReader(100)
    with pytest.raises(FrameTooLarge, match="101 bytes"):
        list(reader.feed((101).to_bytes(4, "big")))
