"""The stock of sockets: asked for ahead, handed out in order, never one kept for a namespace that is gone."""

from __future__ import annotations

import _socket
import errno
from collections.abc import Iterator

import pytest

from hostmesh.proxy.stock import FIRST_BATCH, LARGEST_BATCH, Stock
from hostmesh.transport.loop import Loop


class Asked:
    def __init__(self) -> None:
        self.questions: list[tuple[bool, int]] = []

    def __call__(self, ipv6: bool, count: int) -> None:
        self.questions.append((ipv6, count))


class Patient:
    """Takes what comes, unless it has given up."""

    def __init__(self, *, wants: bool = True) -> None:
        self.wants = wants
        self.got: list[tuple[_socket.socket | None, int]] = []

    def supplied(self, sock: _socket.socket | None, number: int) -> bool:
        if self.wants:
            self.got.append((sock, number))
        return self.wants


def sockets(count: int) -> list[_socket.socket]:
    return [_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM) for _ in range(count)]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def stock(loop: Loop, asked: Asked) -> Iterator[Stock]:
    made = Stock(loop, asked)
    yield made
    made.close()


def close(*several: _socket.socket | None) -> None:
    for sock in several:
        assert sock is not None
        sock.close()


def test_what_is_at_hand_is_given_at_once(stock: Stock, asked: Asked) -> None:
    """And nothing is asked for while there is plenty."""
    stock.put(made := sockets(FIRST_BATCH), ipv6=False)
    assert stock.take(Patient(), ipv6=False) is made[0]
    assert asked.questions == []
    close(made[0])


def test_more_is_asked_for_before_the_last_is_taken(stock: Stock, asked: Asked) -> None:
    """At half of a batch, once, whatever is taken until the answer comes."""
    stock.put(sockets(FIRST_BATCH), ipv6=False)
    taken = [stock.take(Patient(), ipv6=False) for _ in range(FIRST_BATCH)]
    assert asked.questions == [(False, FIRST_BATCH)]
    close(*taken)


def test_families_do_not_mix(stock: Stock, asked: Asked) -> None:
    """An IPv4 socket is no help to who wants IPv6."""
    stock.put(sockets(FIRST_BATCH), ipv6=False)
    assert stock.take(Patient(), ipv6=True) is None
    assert asked.questions == [(True, FIRST_BATCH)]


def test_who_waits_is_supplied_in_order(stock: Stock) -> None:
    """Who has given up meanwhile does not swallow a socket."""
    first, gone, last = Patient(), Patient(wants=False), Patient()
    for customer in (first, gone, last):
        assert stock.take(customer, ipv6=False) is None
    made = sockets(3)
    stock.put(made, ipv6=False)
    assert (first.got, last.got) == ([(made[0], 0)], [(made[1], 0)])
    assert len(stock) == 1
    close(*made[:2])


def test_batches_grow_with_the_need(stock: Stock, asked: Asked) -> None:
    """Doubled each time somebody still waits, to a limit."""
    patients = [Patient() for _ in range(300)]
    for customer in patients:
        stock.take(customer, ipv6=False)
    while asked.questions and patients[-1].got == []:
        stock.put(sockets(asked.questions[-1][1]), ipv6=False)
    assert [count for _, count in asked.questions] == [8, 16, 32, 64, 64, 64, 64]
    assert LARGEST_BATCH == 64
    close(*(sock for patient in patients for sock, _ in patient.got))


def test_who_waits_is_told_when_none_can_be_made(stock: Stock, asked: Asked) -> None:
    """And the next one asks again: the failure may have been a passing one."""
    stock.take(waiting := Patient(), ipv6=False)
    stock.put([], ipv6=False)
    assert waiting.got == [(None, errno.ENETDOWN)]
    stock.take(Patient(), ipv6=False)
    assert asked.questions == [(False, FIRST_BATCH)] * 2


def test_nothing_is_kept_of_a_closed_one(stock: Stock, loop: Loop) -> None:
    """Sockets keep a namespace alive: what is left and what comes late is closed, who waits or comes late fails."""
    stock.put(left := sockets(1), ipv6=True)
    stock.take(waiting := Patient(), ipv6=False)
    stock.close()
    stock.put(late := sockets(1), ipv6=False)
    assert [sock.fileno() for sock in (*left, *late)] == [-1, -1]
    assert waiting.got == [(None, errno.ENETDOWN)]
    assert stock.take(afterwards := Patient(), ipv6=False) is None
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert afterwards.got == [(None, errno.ENETDOWN)]
