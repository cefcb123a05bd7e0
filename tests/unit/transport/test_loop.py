"""The worker's readiness loop."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from hostmesh.transport.listeners import bind_listener
from hostmesh.transport.loop import NO_FD, PEER_SHUT, READABLE, WRITABLE, Loop


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def errors() -> list[tuple[int, Exception]]:
    return []


@pytest.fixture
def loop(clock: Clock, errors: list[tuple[int, Exception]]) -> Iterator[Loop]:
    loop = Loop(lambda fd, error: errors.append((fd, error)), clock=clock)
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right:
        yield left, right


Pair = tuple[socket.socket, socket.socket]


def fill(sock: socket.socket) -> None:
    """Until it blocks."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16), socket.MSG_DONTWAIT)


def test_readiness_is_told_once_until_something_new_comes(loop: Loop, pair: Pair) -> None:
    """Edge-triggered: what is not read is not told again, what comes later is."""
    left, right = pair
    masks: list[int] = []
    right.send(b"x")
    loop.register(left.fileno(), masks.append)
    for _ in range(3):
        loop.turn(0)
    assert masks == [READABLE]
    right.send(b"y")
    loop.turn(0)
    assert masks == [READABLE, READABLE]


def test_the_peers_fin_is_told(loop: Loop, pair: Pair) -> None:
    """Together with the bytes before it."""
    left, right = pair
    masks: list[int] = []
    loop.register(left.fileno(), masks.append)
    right.send(b"x")
    right.shutdown(socket.SHUT_WR)
    loop.turn(0)
    assert masks == [READABLE | PEER_SHUT]


def test_writability_is_watched_from_when_it_is_needed(loop: Loop, pair: Pair) -> None:
    """Not before, and from then on at every edge without another call."""
    left, right = pair
    masks: list[int] = []
    loop.register(left.fileno(), masks.append)
    loop.turn(0)
    assert masks == []
    for _ in range(2):
        fill(left)
        loop.watch_writable(left.fileno())
        loop.turn(0)
        assert masks == []
        while not masks:
            right.recv(1 << 20)
            loop.turn(0)
        assert masks == [WRITABLE]
        masks.clear()


@pytest.mark.parametrize(("talkers", "heard"), [(1, ["said", "end"]), (2, ["said", "said", "meanwhile", "end"])])
def test_where_several_talk_what_comes_meanwhile_leaves_with_the_rest(
    loop: Loop, talkers: int, heard: list[str]
) -> None:
    """The turn looks once more before it ends; a single talker does not wait for that."""
    told: list[str] = []
    with contextlib.ExitStack() as stack:
        pairs = [tuple(map(stack.enter_context, socket.socketpair())) for _ in range(talkers + 1)]
        late, ours = pairs.pop()
        loop.register(ours.fileno(), lambda _: told.append("meanwhile"))

        def say(_: int) -> None:
            if not told:
                loop.at_turn_end(lambda: told.append("end"))
                late.send(b"x")
            told.append("said")

        for theirs, one in pairs:
            loop.register(one.fileno(), say)
            theirs.send(b"x")
        loop.turn(1)
        assert told == heard


def test_a_connecting_socket_is_watched_for_writing_from_the_start(loop: Loop) -> None:
    """One epoll_ctl for its whole life."""
    with bind_listener("127.0.0.1", 0) as listener, socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        masks: list[int] = []
        loop.register(client.fileno(), masks.append, writable=True)
        loop.turn(1)
        assert masks == [WRITABLE]


def test_a_listener_is_told_again_until_its_queue_is_empty(loop: Loop) -> None:
    """Level-triggered: a handler may take a bounded batch."""
    with bind_listener("127.0.0.1", 0) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        accepted = []
        loop.register_listener(listener.fileno(), lambda _: accepted.append(listener.accept()[0]))
        for _ in range(5):
            loop.turn(0)
        assert len(accepted) == 3
        loop.unregister(listener.fileno())
        for sock in (*clients, *accepted):
            sock.close()


def test_one_connection_wakes_one_of_the_loops_that_share_a_listener(clock: Clock) -> None:
    """EPOLLEXCLUSIVE: idle processes are not woken for nothing."""
    loops = [Loop(clock=clock) for _ in range(2)]
    with bind_listener("127.0.0.1", 0) as listener:
        woken: list[int] = []
        waiting = [threading.Thread(target=loop.turn, args=(5.0,), daemon=True) for loop in loops]
        for i, loop in enumerate(loops):
            loop.register_listener(listener.fileno(), lambda _, i=i: woken.append(i))  # type: ignore[misc]
        for thread in waiting:
            thread.start()
        while not all(_sleeps(thread) for thread in waiting):
            pass
        with socket.create_connection(listener.getsockname()):
            while not woken:
                pass
            assert sum(thread.is_alive() for thread in waiting) >= 1
            listener.accept()[0].close()
        for loop in loops:
            loop.stop()
        for thread in waiting:
            thread.join()
    assert len(woken) == 1
    for loop in loops:
        loop.close()


def test_loops_that_requeue_take_turns_at_a_shared_listener(clock: Clock) -> None:
    """Otherwise the kernel wakes the same one of several idle processes every time."""
    loops = [Loop(clock=clock) for _ in range(2)]
    woken: list[int] = []
    with bind_listener("127.0.0.1", 0) as listener:

        def accept(number: int) -> None:
            listener.accept()[0].close()
            loops[number].requeue_listener(listener.fileno())
            woken.append(number)

        for number, loop in enumerate(loops):
            loop.register_listener(listener.fileno(), lambda _, number=number: accept(number))  # type: ignore[misc]
        threads = [threading.Thread(target=loop.run, daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        for count in range(1, 9):
            while not all(_sleeps(thread) for thread in threads):
                pass
            with socket.create_connection(listener.getsockname()):
                while len(woken) < count:
                    pass
        for loop in loops:
            loop.stop()
        for thread in threads:
            thread.join()
    assert woken in ([0, 1] * 4, [1, 0] * 4)
    for loop in loops:
        loop.close()


def _sleeps(thread: threading.Thread) -> bool:
    with open(f"/proc/self/task/{thread.native_id}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "S"


def test_handlers_can_be_replaced_without_a_system_call(loop: Loop, pair: Pair) -> None:
    """A connection changes hands after its handshake."""
    left, right = pair
    first: list[int] = []
    second: list[int] = []
    loop.register(left.fileno(), first.append)
    loop.replace_handler(left.fileno(), second.append)
    right.send(b"x")
    loop.turn(0)
    assert (first, second) == ([], [READABLE])


def test_a_descriptor_that_is_no_longer_watched_is_silent(loop: Loop, pair: Pair) -> None:
    """And may be watched again."""
    left, right = pair
    masks: list[int] = []
    loop.register(left.fileno(), masks.append)
    loop.unregister(left.fileno())
    loop.unregister(left.fileno())
    right.send(b"x")
    loop.turn(0)
    assert masks == []
    loop.register(left.fileno(), masks.append)
    loop.turn(0)
    assert masks == [READABLE]


def test_timers_fire_when_the_clock_has_come(loop: Loop, clock: Clock) -> None:
    """Never early; the time of a turn is the same for all its handlers."""
    fired: list[float] = []
    loop.call_later(1.0, lambda: fired.append(loop.now()))
    gone = loop.call_later(1.0, lambda: fired.append(-1))
    gone.cancel()
    loop.turn(0)
    assert fired == []
    clock.now += 1.0
    loop.turn(0)
    assert fired == [101.0]


def test_a_timer_that_sets_itself_again_does_not_hold_the_turn(loop: Loop) -> None:
    """A delay of nothing is due in the next turn if the clock stands, not for ever in this one."""
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        loop.call_later(0, again)

    loop.call_later(0, again)
    loop.turn(0)
    assert count == 1
    loop.turn(0)
    assert count == 2


def test_a_turn_has_an_order(loop: Loop, clock: Clock, pair: Pair) -> None:
    """Handlers, timers, end-of-turn callbacks with what they ask for, closing."""
    left, right = pair
    order: list[str] = []

    def at_end() -> None:
        order.append("end")
        loop.at_turn_end(lambda: order.append(f"end again, open: {left.fileno() >= 0}"))

    def handle(_: int) -> None:
        order.append("handler")
        loop.close_later(left)
        loop.at_turn_end(at_end)

    loop.register(left.fileno(), handle)
    loop.call_later(0, lambda: order.append("timer"))
    right.send(b"x")
    loop.turn(0)
    assert order == ["handler", "timer", "end", "end again, open: True"]
    assert left.fileno() == -1


def test_end_of_turn_work_that_never_ends_does_not_stop_the_loop(loop: Loop) -> None:
    """The rest waits for the next turn, which does not sleep."""
    count = 0

    def more() -> None:
        nonlocal count
        count += 1
        loop.at_turn_end(more)

    loop.at_turn_end(more)
    loop.turn()
    first = count
    loop.turn()
    assert 0 < first < count


def test_events_of_a_closed_socket_do_not_reach_a_new_one_with_its_number(loop: Loop) -> None:
    """Two sockets are ready; the handler of the first gives the second up and opens another."""
    pairs = [socket.socketpair() for _ in range(2)]
    opened: list[socket.socket] = []
    told: list[str] = []

    def handler(mine: int) -> None:
        other = pairs[1 - mine][0]
        told.append(f"socket {mine}")
        number = other.fileno()
        loop.close_later(other)
        fresh, peer = socket.socketpair()
        assert number not in (fresh.fileno(), peer.fileno())
        loop.register(fresh.fileno(), lambda _: told.append("fresh"))
        opened.extend((fresh, peer))

    for i, (left, right) in enumerate(pairs):
        loop.register(left.fileno(), lambda _, i=i: handler(i))  # type: ignore[misc]
        right.send(b"x")
    loop.turn(0)
    assert len(told) == 1
    for sock in (*opened, *(sock for pair in pairs for sock in pair)):
        sock.close()


def test_an_exception_goes_to_the_owner_and_the_others_go_on(
    loop: Loop, errors: list[tuple[int, Exception]], clock: Clock
) -> None:
    """Handlers, timers, end-of-turn callbacks: one failure is one connection's."""
    pairs = [socket.socketpair() for _ in range(2)]
    reached: list[str] = []

    def fail(_: int = 0) -> None:
        reached.append("x")
        raise ValueError("broken")

    for left, right in pairs:
        loop.register(left.fileno(), fail)
        right.send(b"x")
    loop.call_later(0, fail)
    loop.at_turn_end(fail)
    loop.at_turn_end(lambda: reached.append("end"))
    loop.turn(0)
    assert reached == ["x"] * 4 + ["end"]
    expected = sorted([pairs[0][0].fileno(), pairs[1][0].fileno(), NO_FD, NO_FD])
    assert sorted(fd for fd, _ in errors) == expected
    assert all(str(error) == "broken" for _, error in errors)
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_without_an_owner_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is swallowed."""
    loop = Loop()

    def fail() -> None:
        raise ValueError("broken")

    loop.at_turn_end(fail)
    with caplog.at_level(logging.ERROR):
        loop.turn(0)
    assert "broken" in caplog.text
    loop.close()


def test_a_failing_close_is_the_owners_too(loop: Loop, errors: list[tuple[int, Exception]]) -> None:
    """Closed behind the loop's back: told, and the rest is closed."""
    left, right = socket.socketpair()
    fd = left.fileno()
    other = socket.socket(fileno=fd)
    loop.close_later(left)
    loop.close_later(right)
    other.close()
    loop.turn(0)
    assert [(number, type(error)) for number, error in errors] == [(fd, OSError)]
    assert right.fileno() == -1


def test_stop_ends_a_wait(clock: Clock) -> None:
    """From a signal handler, which is how a worker is told to end."""
    loop = Loop(clock=clock)
    waiter = threading.main_thread()

    def interrupt() -> None:
        while not _sleeps(waiter):
            pass
        signal.pthread_kill(waiter.ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        loop.run()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        loop.close()


def test_stop_from_a_handler_finishes_the_turn(loop: Loop, pair: Pair) -> None:
    """What the turn has begun is flushed."""
    left, right = pair
    done: list[str] = []

    def handle(_: int) -> None:
        loop.stop()
        loop.at_turn_end(lambda: done.append("flushed"))

    loop.register(left.fileno(), handle)
    right.send(b"x")
    loop.run()
    assert done == ["flushed"]
