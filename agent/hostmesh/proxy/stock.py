"""Stock: unconnected sockets of another network namespace, at hand before anybody needs them.

A worker cannot make a socket in a namespace that is not its own, and may not enter one. Main has them made in
batches; a batch of 16 costs about 35 µs for each socket, outside the byte path, one alone costs 600 µs.
"""

from __future__ import annotations

import _socket
import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from hostmesh.proxy.waiting import MAX_WAITING
from hostmesh.transport.loop import Loop

FIRST_BATCH = 8
LARGEST_BATCH = 64
"""A batch doubles each time somebody had to wait for one."""

Want = Callable[[bool, int], None]
"""Asks main for sockets, IPv6 ones or not, and how many. Answered by `Stock.put`."""


class Customer(Protocol):
    """Who waits for a socket."""

    def supplied(self, sock: _socket.socket | None, number: int) -> bool:
        """It came, or an errno says why none will; False when it is not wanted any more."""


class _Shelf:
    """Sockets of one family."""

    __slots__ = ("asked", "batch", "sockets", "waiting")

    def __init__(self) -> None:
        self.sockets: deque[_socket.socket] = deque()
        self.waiting: deque[Customer] = deque()
        self.asked = False
        self.batch = FIRST_BATCH


class Stock:
    """Owns the sockets until somebody takes them.

    Args:
        loop: closes what is left.
        want: asks main for more; at most one question for each family is open.
    """

    def __init__(self, loop: Loop, want: Want) -> None:
        self._loop = loop
        self._want = want
        self._shelves = {False: _Shelf(), True: _Shelf()}
        self._closed = False

    def __len__(self) -> int:
        return sum(len(shelf.sockets) for shelf in self._shelves.values())

    def take(self, customer: Customer, *, ipv6: bool) -> _socket.socket | None:
        """A socket that is at hand, else None: the customer is supplied later, exactly once."""
        shelf = self._shelves[ipv6]
        sock = shelf.sockets.popleft() if shelf.sockets else None
        if sock is None:
            if self._closed or len(shelf.waiting) >= MAX_WAITING:
                number = errno.ENETDOWN if self._closed else errno.ENOBUFS
                self._loop.call_later(0, lambda: _refuse(customer, number))
                return None
            shelf.waiting.append(customer)
        if len(shelf.sockets) <= shelf.batch // 2:
            self._ask(shelf, ipv6=ipv6)
        return sock

    def put(self, sockets: Sequence[_socket.socket], *, ipv6: bool) -> None:
        """What main had made; none at all when it could not, and who waits then fails."""
        shelf = self._shelves[ipv6]
        shelf.asked = False
        if self._closed:
            self._discard(sockets)
            return
        shelf.sockets.extend(sockets)
        if not sockets:
            waiting, shelf.waiting = shelf.waiting, deque()
            for customer in waiting:
                customer.supplied(None, errno.ENETDOWN)
            return
        while shelf.waiting and shelf.sockets:
            sock = shelf.sockets.popleft()
            if not shelf.waiting.popleft().supplied(sock, 0):
                shelf.sockets.appendleft(sock)
        if shelf.waiting:
            shelf.batch = min(2 * shelf.batch, LARGEST_BATCH)
            self._ask(shelf, ipv6=ipv6)

    def close(self) -> None:
        """The namespace is not captured any more: nothing of ours may keep it alive."""
        self._closed = True
        for shelf in self._shelves.values():
            self._discard(shelf.sockets)
            shelf.sockets.clear()
            waiting, shelf.waiting = shelf.waiting, deque()
            for customer in waiting:
                customer.supplied(None, errno.ENETDOWN)

    def _ask(self, shelf: _Shelf, *, ipv6: bool) -> None:
        if not shelf.asked:
            shelf.asked = True
            self._want(ipv6, shelf.batch)

    def _discard(self, sockets: Sequence[_socket.socket] | deque[_socket.socket]) -> None:
        for sock in sockets:
            sock.close()


def _refuse(customer: Customer, number: int) -> None:
    customer.supplied(None, number)
