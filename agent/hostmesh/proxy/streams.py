"""Streams: who hears about each stream of a tunnel, and who waits for room in it."""

from __future__ import annotations

from collections.abc import Sequence

from hostmesh.proxy.handlers import StreamHandler
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.events import Data, Event


class Streams:
    """The handlers of one tunnel's streams that are in use."""

    __slots__ = ("_starved", "handlers")

    def __init__(self) -> None:
        self.handlers: dict[int, StreamHandler] = {}
        self._starved: dict[int, StreamHandler] = {}

    def remove(self, stream: int) -> StreamHandler | None:
        """Who heard about it until now."""
        self._starved.pop(stream, None)
        return self.handlers.pop(stream, None)

    def remove_all(self) -> list[StreamHandler]:
        """Who heard about any of them until now."""
        handlers, self.handlers, self._starved = self.handlers, {}, {}
        return list(handlers.values())

    def deliver(self, events: Sequence[Event], position: int, first: Data) -> int:
        """Hand consecutive DATA of one stream on together; returns the position behind them."""
        views, size, end = [first.view], len(first.view), first.end
        while position < len(events):
            event = events[position]
            if type(event) is not Data or event.stream != first.stream:
                break
            views.append(event.view)
            size += len(event.view)
            end = event.end
            position += 1
        handler = self.handlers.get(first.stream)
        if handler is not None:
            handler.data(views, size, end)
        return position

    # Room

    @property
    def starving(self) -> bool:
        """Whether anybody waits for room."""
        return bool(self._starved)

    def starved(self, stream: int, handler: StreamHandler) -> None:
        """`reserve` had no room for the stream: tell it when that may have changed."""
        self._starved[stream] = handler

    def waits(self, stream: int) -> bool:
        """Whether it is starved, and will be told in its turn."""
        return stream in self._starved

    def feed(self, stream: int) -> None:
        """There may be room again for one stream."""
        handler = self._starved.pop(stream, None)
        if handler is not None:
            handler.writable()

    def feed_all(self, http2: Http2Connection) -> None:
        """There may be room again: who has waited longest comes first, until it is used up."""
        for _ in range(len(self._starved)):
            if http2.congested or not self._starved:
                return
            self.feed(next(iter(self._starved)))
