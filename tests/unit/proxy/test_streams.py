"""Streams that wait for room in a tunnel get it in turn."""

from __future__ import annotations

from typing import Any

from hostmesh.proxy.streams import Streams
from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.limits import Limits, Role

ROOM = 1000


class Hungry:
    """Always has more to send than there is room for."""

    def __init__(self, streams: Streams, http2: Http2Connection, served: list[int]) -> None:
        self._streams = streams
        self._http2 = http2
        self._served = served
        self._stream = http2.open_stream(b"\x88")
        streams.handlers[self._stream] = self
        streams.starved(self._stream, self)

    def writable(self) -> None:
        """As a splice does it: take what there is, then wait again."""
        place = self._http2.reserve(self._stream, 1 << 20)
        if len(place):
            self._http2.commit(self._stream, len(place))
            self._served.append(self._stream)
        self._streams.starved(self._stream, self)

    def _never(self, *_: Any, **__: Any) -> None:
        raise AssertionError

    headers = data = reset = lost = _never


def hungry(count: int) -> tuple[Streams, Http2Connection, list[int]]:
    """So many of them at one connection, with room for a single frame."""
    streams, http2, served = Streams(), Http2Connection(Role.CLIENT, Limits(output_buffer=ROOM)), list[int]()
    for _ in range(count):
        Hungry(streams, http2, served)
    http2.sent(http2.pending_output)
    return streams, http2, served


def test_who_has_waited_longest_comes_first() -> None:
    """One stream that could fill all room would leave none to the others until its window ends."""
    streams, http2, served = hungry(3)
    for _ in range(6):
        streams.feed_all(http2)
        http2.sent(http2.pending_output)
    assert served == [1, 3, 5, 1, 3, 5]


def test_nobody_is_asked_while_there_is_no_room() -> None:
    """Who is not asked keeps its place."""
    streams, http2, served = hungry(2)
    streams.feed_all(http2)
    for _ in range(3):
        streams.feed_all(http2)
    assert served == [1]
    http2.sent(http2.pending_output)
    streams.feed_all(http2)
    assert served == [1, 3]


def test_room_for_all_is_given_to_all() -> None:
    """Each once: who has more comes again when the others have had their turn."""
    streams, http2, served = hungry(3)
    windows = frames.frame(frames.SETTINGS, 0, 0, b"\x00\x04" + (ROOM // 4).to_bytes(4, "big"))
    http2.receive(memoryview(windows))
    http2.sent(http2.pending_output)
    streams.feed_all(http2)
    assert served == [1, 3, 5]


def test_a_connection_without_credit_has_room_for_nobody() -> None:
    """Until the peer gives it some (RFC 9113 §6.9)."""
    _, http2, _ = hungry(1)
    seen = [http2.congested]
    left = frames.DEFAULT_WINDOW
    while left:
        left -= http2.send_data(1, bytes(min(left, ROOM // 2)))
        http2.sent(http2.pending_output)
    seen.append(http2.congested)
    http2.receive(memoryview(frames.frame(frames.SETTINGS, 0, 0, b"") + frames.window_update(0, 1)))
    http2.sent(http2.pending_output)
    seen.append(http2.congested)
    assert seen == [False, True, False]
