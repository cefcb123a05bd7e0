"""The worker's readiness loop: edge-triggered epoll, timers, end-of-turn work (epoll(7)).

A turn: wait for readiness, call the handlers of the ready descriptors, call the timers that are due, call the
end-of-turn callbacks, close what was given to `close_later`. Sockets close last, so that a descriptor number
cannot be reused while events of its former owner are still to be delivered in the same turn.

An exception from a handler, timer or callback goes to `on_error` and the turn goes on.
"""

from __future__ import annotations

import _socket
import logging
import os
import select
import time
from collections.abc import Callable
from typing import Final

from hostmesh.transport.timers import Timer, Timers

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
PEER_SHUT: Final = select.EPOLLRDHUP
BROKEN: Final = select.EPOLLERR | select.EPOLLHUP

NO_FD: Final = -1
"""What `on_error` is given for timers and end-of-turn callbacks."""

_STREAM: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_LISTENER: Final = select.EPOLLIN | select.EPOLLEXCLUSIVE
_MAX_EVENTS: Final = 80
"""More are told in the next turn. Their array, made for each turn, is of a size that the allocator keeps at hand."""
_MAX_PASSES: Final = 16
"""End-of-turn callbacks may ask for more; beyond this many rounds the rest waits for the next turn."""

_log = logging.getLogger(__name__)


def _log_error(fd: int, error: Exception) -> None:
    _log.error("handler of fd %d failed", fd, exc_info=error)


class Loop:
    """One thread's loop. Nothing but `stop` may be called from elsewhere (another thread, a signal handler).

    Args:
        on_error: gets (fd, exception) for whatever a handler raised; fd is `NO_FD` for timers and callbacks.
            May be replaced later; without one the error is logged.
        clock: monotonic seconds.

    `events` counts what sockets had to tell so far.
    """

    def __init__(
        self,
        on_error: Callable[[int, Exception], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_error = on_error or _log_error
        self._clock = clock
        self._now = clock()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._writable: set[int] = set()
        self._timers = Timers()
        self._turn_end: list[Callable[[], None]] = []
        self._closing: list[_socket.socket] = []
        self._stopped = False
        self.events = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN | select.EPOLLET)

    def register(self, fd: int, handler: Callable[[int], None], *, writable: bool = False) -> None:
        """Watch a stream socket, edge-triggered, for reading and the peer's FIN.

        Args:
            fd: not registered yet.
            handler: gets the event mask (`READABLE | PEER_SHUT | WRITABLE | BROKEN` bits).
            writable: watch for writing from the start, as a socket that is still connecting needs.

        Raises:
            OSError: the kernel refuses (already registered, too many watches).
        """
        self._epoll.register(fd, _STREAM | select.EPOLLOUT if writable else _STREAM)
        if writable:
            self._writable.add(fd)
        self._handlers[fd] = handler

    def register_listener(self, fd: int, handler: Callable[[int], None]) -> None:
        """Watch a listening socket that other processes may watch too.

        Level-triggered, so that a bounded batch of accepts leaves the rest for the next turn, and exclusive,
        so that one connection does not wake every process.
        """
        self._epoll.register(fd, _LISTENER)
        self._handlers[fd] = handler

    def requeue_listener(self, fd: int) -> None:
        """Let the other processes that wait for this listener go first next time.

        The kernel wakes the first of those that wait exclusively, so without this one of several idle processes
        would get every connection (epoll_ctl(2), EPOLLEXCLUSIVE). What is in the queue already is told again.
        """
        self._epoll.unregister(fd)
        self._epoll.register(fd, _LISTENER)

    def watch_writable(self, fd: int) -> None:
        """Report when a blocked socket can take more. Stays in place; asking again costs nothing."""
        if fd not in self._writable:
            self._epoll.modify(fd, _STREAM | select.EPOLLOUT)
            self._writable.add(fd)

    def replace_handler(self, fd: int, handler: Callable[[int], None]) -> None:
        """Give a registered descriptor a new handler without a system call."""
        assert fd in self._handlers
        self._handlers[fd] = handler

    def unregister(self, fd: int) -> None:
        """Stop watching a descriptor that lives on. For one that is to be closed use `close_later` alone."""
        if self._handlers.pop(fd, None) is not None:
            self._writable.discard(fd)
            self._epoll.unregister(fd)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay` seconds from now."""
        return self._timers.at(self._clock() + delay, callback)

    def at_turn_end(self, callback: Callable[[], None]) -> None:
        """Call back once at the end of this turn, after the handlers and timers, before sockets close."""
        self._turn_end.append(callback)

    def close_later(self, sock: _socket.socket) -> None:
        """Stop watching now, close at the end of the turn. Closing is what removes it from epoll."""
        fd = sock.fileno()
        self._handlers.pop(fd, None)
        self._writable.discard(fd)
        self._closing.append(sock)

    def now(self) -> float:
        """Seconds of the loop's clock when this turn's events arrived."""
        return self._now

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopped:
            self.turn()

    def stop(self) -> None:
        """Make `run` return after the current turn; wakes it if it waits."""
        self._stopped = True
        os.eventfd_write(self._wake, 1)

    def turn(self, max_wait: float | None = None) -> None:
        """One turn; waits for the next event or timer, at most `max_wait` seconds if given."""
        events = self._epoll.poll(self._wait(max_wait), _MAX_EVENTS)
        self._now = now = self._clock()
        self._handle(events)
        if len(events) > 1:
            # Where several talk at once, what came in the meantime may leave together with what the first ones said.
            self._handle(self._epoll.poll(0.0, _MAX_EVENTS))
        if self._timers.may_be_due(now):
            self._run_timers()
        if self._turn_end:
            self._run_turn_end()
        if self._closing:
            self._close()

    def _handle(self, events: list[tuple[int, int]]) -> None:
        self.events += len(events)
        handlers = self._handlers
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(mask)
                except Exception as error:  # noqa: BLE001  the owner's; the other connections go on
                    self.on_error(fd, error)

    def close(self) -> None:
        """Close what waits for it and the loop's own descriptors. Registered sockets stay their owners'."""
        self._close()
        self._handlers.clear()
        self._epoll.close()
        os.close(self._wake)

    def _wait(self, max_wait: float | None) -> float:
        if self._turn_end or self._closing:
            return 0.0
        due = self._timers.next_due()
        if due is None:
            return -1.0 if max_wait is None else max_wait
        wait = max(0.0, due - self._clock())
        return wait if max_wait is None else min(wait, max_wait)

    def _run_timers(self) -> None:
        last = self._timers.last  # those that these set are the next turn's, or a delay of nothing would hold this one
        while (callback := self._timers.pop_due(self._now, last)) is not None:
            self._call(callback)

    def _run_turn_end(self) -> None:
        for _ in range(_MAX_PASSES):
            callbacks, self._turn_end = self._turn_end, []
            for callback in callbacks:
                self._call(callback)
            if not self._turn_end:
                return

    def _close(self) -> None:
        closing, self._closing = self._closing, []
        for sock in closing:
            fd = sock.fileno()
            try:
                sock.close()
            except OSError as error:
                self.on_error(fd, error)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001  as for handlers
            self.on_error(NO_FD, error)
