"""The output buffer of a connection: frames are built in place and leave as one piece (RFC 9113 §4.1).

The memory is an anonymous private mapping of the full bound: the kernel provides a page when it is first written, so a
quiet tunnel costs a page or two, and views into it stay valid because it never moves.
"""

from __future__ import annotations

import mmap
from typing import Final

from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.frames import HEADER, HEADER_SIZE
from hostmesh.wire.http2.limits import CONTROL_ROOM

EMPTY: Final = memoryview(b"")

_KEEP: Final = 64 << 10
"""What `release` leaves resident."""
_WORTH_MOVING: Final = 64 << 10
"""Compacting moves what is pending: only if that is little or gains much, or a slow reader makes it quadratic."""


class OutputBuffer:
    """Pending bytes are `view[start:end]`; DATA may make them `limit`, everything else `limit` + CONTROL_ROOM."""

    __slots__ = ("_capacity", "_high", "_memory", "end", "full", "limit", "start", "view")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._capacity = limit + CONTROL_ROOM
        self._memory = mmap.mmap(-1, self._capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self._memory)
        self.start = 0
        self.end = 0
        self.full = False
        self._high = 0

    def room(self, want: int) -> int:
        """How many bytes, at most `want`, a DATA frame of this buffer may take now, header included, at `end`."""
        end = self.end
        start = self.start
        room = self.limit - end + start
        if want < room:
            room = want
        if room > self._capacity - end:
            if start >= self._capacity >> 2 or end - start <= _WORTH_MOVING:
                self._compact()
            room = min(room, self._capacity - self.end)
        return room

    def write(self, data: bytes) -> None:
        """Append whole frames.

        Raises:
            Http2Error: no room, even for control frames.
        """
        end = self.end
        after = end + len(data)
        if after > self._capacity:
            end = self._make_room(len(data))
            after = end + len(data)
        self.view[end:after] = data
        self.end = after

    def write_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Append one frame.

        Raises:
            Http2Error: no room, even for control frames.
        """
        end = self.end
        size = len(payload)
        after = end + HEADER_SIZE + size
        if after > self._capacity:
            end = self._make_room(HEADER_SIZE + size)
            after = end + HEADER_SIZE + size
        view = self.view
        HEADER.pack_into(view, end, size >> 8, size & 0xFF, kind, flags, stream)
        view[end + HEADER_SIZE : after] = payload
        self.end = after

    def write_last(self, data: bytes) -> None:
        """Append what explains the end, if there is room for it: a peer that has left none does not read it."""
        if self.end - self.start + len(data) <= self._capacity:
            self.write(data)

    def pending(self) -> memoryview:
        """What must leave; valid until the buffer is written or `sent`."""
        return self.view[self.start : self.end]

    def sent(self, n: int) -> None:
        """The first `n` pending bytes have left.

        Raises:
            ValueError: more than were pending.
        """
        start = self.start + n
        end = self.end
        if start > end or n < 0:
            raise ValueError(f"{n} bytes sent of {end - self.start} pending")
        if end > self._high:
            self._high = end
        if start == end:
            self.start = self.end = 0
        else:
            self.start = start

    def release(self) -> None:
        """Give memory that a burst has touched back to the kernel, if nothing is pending."""
        if self.end == 0 and self._high > _KEEP:
            self._memory.madvise(mmap.MADV_DONTNEED, _KEEP, self._capacity - _KEEP)
            self._high = 0

    def _make_room(self, size: int) -> int:
        self._compact()
        if self.end + size > self._capacity:
            self.full = True
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the peer does not read the answers it asks for")
        return self.end

    def _compact(self) -> None:
        pending = self.end - self.start
        if self.end > self._high:
            self._high = self.end
        self.view[:pending] = self.view[self.start : self.end]
        self.start = 0
        self.end = pending
