"""Flow-control windows, both ways (RFC 9113 §5.2, §6.9), of a connection and of a stream."""

from __future__ import annotations

from hostmesh.wire.http2.frames import MAX_WINDOW


class Flow:
    """Two windows. `send` may be negative after the peer shrank it (RFC 9113 §6.9.2).

    Credit is announced in steps: `owed` collects what the application took until it is worth a WINDOW_UPDATE.
    """

    __slots__ = ("owed", "receive", "send", "step")

    def __init__(self, send: int, receive: int, step: int) -> None:
        self.send = send
        self.receive = receive
        self.step = step
        self.owed = 0

    def widen(self, increment: int) -> bool:
        """The peer lets us send more (or, by SETTINGS, less); False: above 2^31-1."""
        self.send += increment
        return self.send <= MAX_WINDOW

    def give_back(self, n: int) -> int:
        """`n` received bytes are gone from memory; the increment to announce now, or 0."""
        owed = self.owed + n
        if owed < self.step:
            self.owed = owed
            return 0
        self.owed = 0
        self.receive += owed
        return owed


class Stream(Flow):
    """One stream that is not closed both ways.

    `unread` bytes were accounted but not yet credited; `receiving` says that DATA may come: a server's stream from the
    start, a client's after the final response; `answered` that a server has sent its response.
    """

    __slots__ = ("answered", "blocked", "id", "local_ended", "receiving", "remote_ended", "unread")

    def __init__(self, stream: int, send: int, receive: int, step: int) -> None:
        self.send = send
        self.receive = receive
        self.step = step
        self.owed = 0
        self.id = stream
        self.unread = 0
        self.local_ended = False
        self.remote_ended = False
        self.blocked = False
        self.answered = False
        self.receiving = False
