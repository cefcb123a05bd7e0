"""Whose answer may wait for what follows it, and for how long, by a clock of the test's own."""

from __future__ import annotations

import pytest

from hostmesh.proxy.ahead import MAX_AHEAD
from hostmesh.proxy.hold import PATIENCE, Hold
from hostmesh.transport.loop import Loop
from hostmesh.wire.hbone import connect_prefix, encode_response
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.limits import Role

OK = encode_response(200)


class Server:
    """One end of a connection whose loop's time stands still."""

    def __init__(self) -> None:
        self.time = 0.0
        self.loop = Loop(clock=lambda: self.time)
        self.client, self.http2 = Http2Connection(Role.CLIENT), Http2Connection(Role.SERVER)
        self.hold = Hold(self.loop, self.http2)
        self.woken = 0
        self.leave()
        self.exchange()
        self.leave()

    def exchange(self) -> None:
        """What the client has to say."""
        self.http2.receive(memoryview(bytes(self.client.take())))
        self.client.sent(self.client.pending_output)

    def asked(self, ahead: int) -> int:
        """A request with so many bytes behind it."""
        stream = self.client.open_stream(connect_prefix("10.0.0.1:80", ""))
        while ahead:
            place = self.client.reserve(stream, ahead)
            self.client.commit(stream, len(place))
            ahead -= len(place)
        self.exchange()
        return stream

    def answer(self, stream: int) -> None:
        self.hold.answer(stream, OK, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def leave(self) -> None:
        """All output is sent."""
        self.hold.end()
        self.http2.sent(self.http2.pending_output)

    def pass_(self, seconds: float) -> None:
        self.time += seconds
        self.loop.turn(0)


@pytest.mark.parametrize("ahead", [1, MAX_AHEAD - 1])
def test_who_has_sent_ahead_waits_for_the_application(ahead: int) -> None:
    """The answer may wait, and leaves by itself when its time has come."""
    server = Server()
    server.answer(server.asked(ahead))
    assert (server.woken, server.hold.due) == (0, False)
    server.pass_(PATIENCE / 2)
    assert server.woken == 0
    server.pass_(PATIENCE)
    assert server.woken == 1
    server.loop.close()


@pytest.mark.parametrize("ahead", [0, MAX_AHEAD])
def test_who_can_only_go_on_with_an_answer_gets_it_at_once(ahead: int) -> None:
    """Nothing was sent ahead, or all that may be."""
    server = Server()
    server.answer(server.asked(ahead))
    assert server.woken == 1
    server.loop.close()


def test_what_follows_takes_the_answer_along() -> None:
    """Then there is no later."""
    server = Server()
    stream = server.asked(1)
    server.answer(stream)
    server.http2.commit(stream, min(5, len(server.http2.reserve(stream, 5))))
    assert server.hold.due
    server.leave()
    server.pass_(2 * PATIENCE)
    assert server.woken == 0
    server.loop.close()


def test_an_answer_does_not_wait_where_other_output_leaves() -> None:
    """And holds up nothing that was there before."""
    server = Server()
    stream = server.asked(1)
    server.http2.ping(b"12345678")
    server.answer(stream)
    assert server.woken == 1
    server.loop.close()


def test_the_first_of_several_says_when() -> None:
    """The others do not put it off."""
    server = Server()
    first, second = server.asked(1), server.asked(1)
    server.answer(first)
    server.pass_(PATIENCE / 2)
    server.answer(second)
    assert server.woken == 0
    server.pass_(PATIENCE * 0.6)
    assert server.woken == 1
    server.loop.close()
